"""What is said where Triton cannot compile or is not there, and how rows are shared out."""

import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("triton")

from random_grids import affine
from right_products import CPU
from triton.compiler.errors import CompilationError

from pytest_quantbench.engines.torch.kernels import KERNELS, cuda
from pytest_quantbench.engines.torch.kernels.cuda import launching
from pytest_quantbench.engines.torch.kernels.cuda.striped_words import WIDTHS, striped
from pytest_quantbench.errors import QuantbenchError
from pytest_quantbench.quantizers.layer import Layer


class Broken:
    """A kernel that ends in an error when it is started."""

    __name__ = "broken"

    def __init__(self, error):
        self.error = error

    def __getitem__(self, grid):
        def start(*arguments, **constants):
            raise self.error

        return start


@pytest.mark.parametrize(
    "error",
    [CompilationError("source", None, "no such thing"), RuntimeError("Failed to find C compiler."), OSError("x")],
)
def test_a_kernel_that_does_not_compile_says_so(error):
    with pytest.raises(QuantbenchError, match=r"Triton .* cannot compile or start the kernel broken .*--engine"):
        launching.started(Broken(error), (1,))


def test_too_little_memory_is_another_thing():
    with pytest.raises(torch.OutOfMemoryError):
        launching.started(Broken(torch.OutOfMemoryError("8 GB")), (1,))


def test_without_triton_nothing_else_is_tried(monkeypatch):
    for name in [name for name in sys.modules if name.startswith(f"{cuda.__name__}.coded")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "triton", None)
    for name in [name for name in sys.modules if name.startswith(f"{cuda.__name__}.jitted")]:
        monkeypatch.delitem(sys.modules, name)
    (kernel, *_) = cuda.KERNELS
    with pytest.raises(QuantbenchError, match="'codes, Triton' needs Triton, which is not installed here: pip install"):
        kernel.make(Layer(grid=affine(4, 2, 64, 32)), lambda: np.zeros(1), CPU, torch.bfloat16)


def test_a_gpu_takes_these_before_it_decodes():
    layer = Layer(grid=affine(4, 2, 64, 32))
    chosen = {
        kind: next(kernel.name for kernel in KERNELS if kernel.takes(layer, torch.device(kind), torch.bfloat16))
        for kind in ("cuda", "mps")
    }
    assert chosen == {"cuda": "codes, Triton", "mps": "decoded"}


@pytest.mark.parametrize(
    ("bits", "columns", "group"), [(5, 64, 32), (4, 72, 24), (4, 64, 8), (3, 384, 96), (2, 96, 48)]
)
def test_what_has_no_whole_stripes_is_left_to_others(bits, columns, group):
    layer = Layer(grid=affine(bits, 2, columns, group))
    assert not cuda.KERNELS[0].fits(layer, CPU, torch.bfloat16)


def test_float32_is_left_to_others():
    assert not cuda.KERNELS[0].fits(Layer(grid=affine(4, 2, 64, 32)), CPU, torch.float32)


@pytest.mark.parametrize("rows", [1, 100, 1024, 4096, 128256])
def test_programs_are_enough_or_have_one_row(rows):
    of_program, _ = launching.rows_of_program(rows, 128)
    assert of_program == 1 or rows // of_program >= 512


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_stripes_keep_the_number_of_bits(bits):
    grid = affine(bits, 3, 384, 64)
    words = striped(grid.codes, WIDTHS[bits], CPU)
    assert words.nbytes == grid.codes.nbytes
    assert np.bitwise_count(words.numpy().view(np.uint32)).sum() == np.bitwise_count(grid.codes).sum()
