"""Which kernel runs a layer, and what is said of one for which there is none."""

import dataclasses

import ml_dtypes
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from engines.torch.kernels.cpu import layers_of_noise as noise

from pytest_quantbench.engines.torch.kernels import KERNELS, product_for
from pytest_quantbench.engines.torch.kernels.protocol import ALL, Product
from pytest_quantbench.engines.torch.layers import Around
from pytest_quantbench.quantizers.layer import Layer, PerToken

CPU = torch.device("cpu")
WEIGHT = np.arange(6, dtype=np.float32).reshape(2, 3)


def test_a_layer_without_a_grid_is_decoded_and_says_so():
    """What is quantized in the inputs alone has no kernel of its own."""
    module = product_for(Layer(input_rule=PerToken(bits=8)), lambda: WEIGHT, CPU, torch.float32)
    assert module.kernel == "decoded"
    assert module.covers == ALL - {"input_rule"}
    assert module.bytes_per_token == 24
    assert torch.equal(module(torch.ones(1, 3)), torch.tensor([[3.0, 12.0]]))


def test_a_matrix_to_which_nothing_was_done_is_not_called_decoded():
    module = product_for(Layer(), lambda: WEIGHT, CPU, torch.float32)
    assert module.kernel == "linear, float32"


def test_the_last_kernel_takes_anything():
    for kind in ("cpu", "cuda", "mps"):
        assert KERNELS[-1].takes(Layer(), torch.device(kind), torch.bfloat16)


@pytest.mark.parametrize("beside", ["none", "columns", "sparse", "low_rank", "columns, sparse", "columns, low_rank"])
def test_on_cuda_nothing_beside_a_grid_misses_the_inputs_of_dense_columns(beside):
    """A kernel that adds single weights or a low-rank product is given zeros there."""
    rng = np.random.default_rng(0)
    made = {"columns": noise.columns(rng, 32, 64, 2)}
    made |= {"sparse": noise.sparse(rng, 32, 64, 5), "low_rank": noise.low_rank(rng, 32, 64, 2)}
    grid = noise.affine(rng, outs=32, ins=64, bits=4, group=32)
    layer = Layer(grid=grid, **{name: part for name, part in made.items() if name in beside})
    taken = next(kernel.name for kernel in KERNELS if kernel.takes(layer, torch.device("cuda"), torch.bfloat16))
    assert taken == ("decoded" if "," in beside else "codes, Triton")


class Adding(Product):
    """A kernel that multiplies with everything but dense columns."""

    kernel, covers = "adding", frozenset({"grid", "scale", "sparse", "low_rank"})


def test_a_kernel_that_would_miss_them_is_refused():
    rng = np.random.default_rng(0)
    grid = noise.affine(rng, outs=32, ins=64, bits=4, group=32)
    layer = Layer(grid=grid, columns=noise.columns(rng, 32, 64, 2))
    with pytest.raises(ValueError, match="'adding' would see no inputs of dense columns"):
        Around(Adding(), dataclasses.replace(layer, low_rank=noise.low_rank(rng, 32, 64, 2)), CPU, torch.float32)


def test_types_that_numpy_does_not_have_keep_their_values():
    module = product_for(Layer(), lambda: WEIGHT.astype(ml_dtypes.bfloat16), CPU, torch.float32)
    assert module(torch.ones(3)).tolist() == [3, 12]
