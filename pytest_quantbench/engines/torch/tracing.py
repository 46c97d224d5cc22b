"""Steps that PyTorch cannot trace, and ones that it traces and cannot compile: what it raises, as errors of ours.

Exporting (for a CPU) and compiling (for CUDA) begin with the same: PyTorch follows a module's Python code and notes
each operation. Where what is done next hangs on values, nothing can be noted, and the module has to be run as it is.
"""

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr

import torch

from pytest_quantbench.errors import QuantbenchError, first_line

# What PyTorch raises of code that it cannot follow: control flow that hangs on values, operations that it does not know
OF_TRACING = (
    torch._dynamo.exc.TorchDynamoException,
    torch.fx.experimental.symbolic_shapes.GuardOnDataDependentSymNode,
    torch._subclasses.fake_tensor.DataDependentOutputException,
    torch._subclasses.fake_tensor.DynamicOutputShapeException,
    torch._subclasses.fake_tensor.UnsupportedOperatorException,
)
STACKS = "do_not_emit_stack_traces"  # PyTorch's setting; versions that do not have it look every stack up


class UntraceableError(Exception):
    """A step cannot be had as a list of operations that are the same every time; the message says in a line why."""


@contextmanager
def without_stacks() -> Iterator[None]:
    """PyTorch does not look up which lines of Python each operation comes from. Nobody reads it here, and it is a third
    of what exporting a step takes.
    """
    settings = torch.fx.config
    before = getattr(settings, STACKS, False)
    setattr(settings, STACKS, True)
    try:
        yield
    finally:
        setattr(settings, STACKS, before)


@contextmanager
def told() -> Iterator[None]:
    """Raise UntraceableError for what cannot be traced, and QuantbenchError for what is traced and does not compile.

    PyTorch prints the graph as far as it got where it fails, and warns beside the error that it raises; here it is
    kept from that.
    """
    log = logging.getLogger("torch.fx.experimental.symbolic_shapes")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with redirect_stderr(io.StringIO()):
            yield
    except torch._dynamo.exc.ShortenTraceback as error:  # what compilers raise is of this kind
        why = first_line(getattr(error, "inner_exception", error))
        raise QuantbenchError(
            f"PyTorch {torch.__version__} cannot compile a decode step: {why}. Install the Triton that belongs to it "
            f"and a C compiler, or choose another engine with --engine."
        ) from error
    except OF_TRACING as error:
        raise UntraceableError(first_line(error)) from error
    finally:
        log.setLevel(level)
