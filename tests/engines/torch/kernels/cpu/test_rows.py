"""Matrices that stay as a checkpoint has them, in 16-bit numbers."""

import ml_dtypes
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("llvmlite")

from engines.torch.kernels.cpu import layers_of_noise as noise
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_quantbench.engines.torch.kernels import product_for
from pytest_quantbench.engines.torch.kernels.cpu.machine_code import PORTABLE, instructions
from pytest_quantbench.engines.torch.kernels.cpu.rows import product
from pytest_quantbench.quantizers.layer import Layer

CPU = torch.device("cpu")


def error(weight, tokens, cpu, rng):
    return noise.relative_error(product(weight, cpu), weight.float().numpy(), tokens, rng)


@pytest.mark.parametrize("cpu", [instructions(), PORTABLE], ids=["this CPU", "portable"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_products_are_those_of_the_same_numbers_in_float32(dtype, cpu):
    rng = np.random.default_rng(1)
    weight = torch.from_numpy(rng.standard_normal((70, 96)).astype(np.float32)).to(dtype)
    assert error(weight, 5, cpu, rng) < 1e-6


@settings(max_examples=12, deadline=None)
@given(st.integers(1, 70), st.integers(1, 100), st.integers(1, 6), st.integers(0, 2**32))
def test_any_shape(outs, ins, tokens, seed):
    rng = np.random.default_rng(seed)
    weight = torch.from_numpy(rng.standard_normal((outs, ins)).astype(np.float32)).bfloat16()
    assert error(weight, tokens, instructions(), rng) < 1e-5


def test_nothing_is_copied():
    """An output head shares its memory with the embedding."""
    weight = np.ones((64, 32), ml_dtypes.bfloat16)
    module = product_for(Layer(), lambda: weight, CPU, torch.float32)
    assert module.kernel == "rows, bfloat16"
    assert module.weight.data_ptr() == weight.ctypes.data
    assert module.bytes_per_token == weight.nbytes


def test_float32_is_pytorchs_own():
    module = product_for(Layer(), lambda: np.ones((4, 32), np.float32), CPU, torch.float32)
    assert module.kernel == "linear, float32"


def test_other_activations_are_converted():
    module = product_for(Layer(), lambda: torch.ones(4, 32, dtype=torch.bfloat16), CPU, torch.bfloat16)
    made = module(torch.ones(2, 3, 32, dtype=torch.bfloat16))
    assert made.dtype == torch.bfloat16
    assert torch.equal(made, torch.full((2, 3, 4), 32.0).bfloat16())
