"""Which kernel runs a layer, and what is said of one for which there is none."""

import ml_dtypes
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from pytest_quantbench.engines.torch.kernels import KERNELS, product_for
from pytest_quantbench.engines.torch.kernels.protocol import ALL
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


def test_types_that_numpy_does_not_have_keep_their_values():
    module = product_for(Layer(), lambda: WEIGHT.astype(ml_dtypes.bfloat16), CPU, torch.float32)
    assert module(torch.ones(3)).tolist() == [3, 12]
