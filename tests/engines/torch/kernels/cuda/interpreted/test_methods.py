"""Whole layers of the methods that the levels take, and of others, built around kernels of Triton."""

import ml_dtypes
import numpy as np
import pytest
import torch
from right_products import CPU, distance, inputs

from pytest_quantbench import quantizers
from pytest_quantbench.catalog.recipes import Part
from pytest_quantbench.engines.torch import kernels, layers
from pytest_quantbench.engines.torch.kernels import cuda
from pytest_quantbench.engines.torch.kernels.protocol import Kernel
from pytest_quantbench.quantizers import Statistics

METHODS = {
    "nibble": ("nibble", 4, "codes, Triton"),
    "milo": ("milo", 3, "codes, Triton"),
    "aqlm": ("aqlm", 2, "codebooks, Triton"),
    "int8": ("int8", 8, "codes, Triton"),
    "vptq": ("vptq", 2, "codebooks, Triton"),
    "quip": ("quip", 2, "codebooks, Triton"),
    "nvfp4": ("nvfp4", 4, "codes, Triton"),
}


@pytest.fixture(autouse=True)
def on_this_machine(monkeypatch):
    """The table has CUDA's kernels for a CPU, as Triton interprets them there."""
    here = [Kernel(name=each.name, devices=frozenset({"cpu"}), fits=each.fits, make=each.make) for each in cuda.KERNELS]
    monkeypatch.setattr(kernels, "KERNELS", (*here, kernels.KERNELS[-1]))


def encoded(method, bits, shape):
    quantizer, generator = quantizers.make(Part(quantizer=method, parameters={"bits": bits})), np.random.default_rng(0)
    weight = (0.02 * generator.standard_t(4, shape)).astype(ml_dtypes.bfloat16)
    seen = generator.standard_normal((256, shape[1])).astype(np.float32)
    seen[:, :2] *= 30
    given = Statistics(hessian=seen.T @ seen / 256, tokens=256, sample=seen, peaks=seen[:16])
    return quantizer, quantizer.encode(weight, None if quantizer.calibration == "none" else given, 0)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(24, 128), (17, 100)])
@pytest.mark.parametrize("name", METHODS)
def test_a_layer_computes_what_its_method_decodes(name, shape):
    method, bits, kernel = METHODS[name]
    quantizer, arrays = encoded(method, bits, shape)
    dense = torch.from_numpy(np.ascontiguousarray(quantizer.decode(arrays), np.float32))
    module = layers.linear(quantizer.layer(arrays), lambda: quantizer.decode(arrays), CPU, torch.bfloat16)
    assert module.kernel == kernel
    for tokens in (1, 3):
        x = inputs(tokens, shape[1])
        assert distance(module(x).float(), x.double() @ dense.double().T) < 8e-3  # steps around it are in bfloat16
