"""One decode step on CUDA as a graph that is replayed: one launch instead of several hundred.

PyTorch's compiler makes the step's kernels where it has Triton; without it, the step's own are captured as they are.
Which of both is settled beforehand, and told in the log. What cannot be traced is for neither.
"""

import importlib.util
import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from pytest_quantbench.engines.torch import tracing

log = logging.getLogger(__name__)
WARM_UPS = 3  # compile, and let libraries take their workspaces, which a graph may not


def captured(
    step: nn.Module, inputs: Sequence[torch.Tensor]
) -> tuple[Callable[[], None], tuple[torch.Tensor, torch.Tensor]]:
    """What replays the step on these inputs, and where its results are.

    Raises UntraceableError for a step that PyTorch cannot trace, QuantbenchError for one that it cannot compile.
    """
    stream: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    graph = torch.cuda.CUDAGraph()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.no_grad(), torch.cuda.stream(stream):
        run = compiled(step, inputs, backend())
        for _ in range(WARM_UPS - 1):
            run(*inputs)
    torch.cuda.current_stream().wait_stream(stream)
    with torch.no_grad(), torch.cuda.graph(graph):
        outputs = run(*inputs)
    return graph.replay, outputs


def backend() -> str:
    """Which of PyTorch's compilers makes the kernels: its own, or, without Triton, none: the step is traced only."""
    if importlib.util.find_spec("triton") is None:
        log.warning("Triton is not installed: the decode step is captured without being compiled.")
        return "eager"
    return "inductor"


def compiled(
    step: nn.Module, inputs: Sequence[torch.Tensor], backend: Any
) -> Callable[..., tuple[torch.Tensor, torch.Tensor]]:
    """The step as one traced function, once it has run on these inputs.

    PyTorch compiles the same lines of code for so many modules and no more, and keeps all that it made. What was made
    before is forgotten here: graphs that were captured of it go on without.
    """
    torch._dynamo.reset()
    run: Callable[..., tuple[torch.Tensor, torch.Tensor]]
    run = torch.compile(step, fullgraph=True, dynamic=False, backend=backend)
    with tracing.told():
        run(*inputs)
    return run
