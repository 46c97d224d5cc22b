"""One decode step on CUDA as a graph that is replayed: one launch instead of several hundred.

PyTorch's compiler makes the step's kernels where it works; without it, the step's own are captured as they are. Which
of both is settled by whether Triton is there, beforehand, and told in the log.
"""

import importlib.util
import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

log = logging.getLogger(__name__)
WARM_UPS = 3  # compile, and let libraries take their workspaces, which a graph may not


def captured(
    step: nn.Module, inputs: Sequence[torch.Tensor]
) -> tuple[Callable[[], None], tuple[torch.Tensor, torch.Tensor]]:
    """What replays the step on these inputs, and where its results are. Raises whatever PyTorch's compiler raises."""
    run: Callable[..., tuple[torch.Tensor, torch.Tensor]] = step
    if importlib.util.find_spec("triton") is None:
        log.warning("Triton is not installed: the decode step is captured without being compiled.")
    else:
        run = torch.compile(step, fullgraph=True, dynamic=False)
    stream: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    graph = torch.cuda.CUDAGraph()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.no_grad(), torch.cuda.stream(stream):
        for _ in range(WARM_UPS):
            run(*inputs)
    torch.cuda.current_stream().wait_stream(stream)
    with torch.no_grad(), torch.cuda.graph(graph):
        outputs = run(*inputs)
    return graph.replay, outputs
