"""The operators in PyTorch's own machinery: exported and compiled without a break, and made by way of the table."""

import numpy as np
import pytest
import torch
from random_grids import affine, codebooks, lattice
from right_products import CPU, distance, expected, inputs

from pytest_quantbench.engines.torch.kernels import cuda
from pytest_quantbench.quantizers.layer import Layer, LowRank, Sparse

SPARSE = Sparse(places=np.array([[2, 3], [0, 1]], np.int32), values=np.array([1, -2], np.float32))
LOW_RANK = LowRank(left=np.ones((2, 4), np.float32), right=np.full((2, 64), 0.01, np.float32))
LAYERS = {
    "affine": (0, Layer(grid=affine(4, 4, 64, 32), sparse=SPARSE, low_rank=LOW_RANK)),
    "aqlm": (1, Layer(grid=codebooks("inputs", 16, 64, words=16))),
    "vptq": (1, Layer(grid=codebooks("outputs", 16, 64, words=16))),
    "quip": (1, Layer(grid=lattice(2, 4, 64))),
}


def made(place, layer):
    def decode():
        raise AssertionError("nothing is decoded")

    return cuda.KERNELS[place].make(layer, decode, CPU, torch.bfloat16)


@pytest.mark.parametrize("name", LAYERS)
def test_a_product_of_the_table_runs_at_once(name):
    """Its kernels were started once when it was made."""
    place, layer = LAYERS[name]
    product, x = made(place, layer), inputs(2, 64)
    assert product.kernel == cuda.KERNELS[place].name
    assert product.bytes_per_token > 0
    assert distance(product(x).float(), expected(layer, x)) < 4e-3  # given out in bfloat16


@pytest.mark.slow
def test_exported_programs_have_the_operators_in_them():
    product, x = made(*LAYERS["affine"]), inputs(1, 64)
    program = torch.export.export(product, (x,), strict=False)
    assert "quantbench.coded_matvec" in str(program.graph)
    torch.testing.assert_close(program.module()(x), product(x), rtol=0, atol=0)


@pytest.mark.slow
@pytest.mark.parametrize("tokens", [1, 3])
@pytest.mark.parametrize("name", LAYERS)
def test_compiled_in_one_piece(name, tokens):
    product, x = made(*LAYERS[name]), inputs(tokens, 64)
    compiled = torch.compile(product, fullgraph=True, dynamic=False, backend="aot_eager")
    torch.testing.assert_close(compiled(x), product(x), rtol=0, atol=0)
