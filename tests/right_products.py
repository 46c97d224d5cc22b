"""What products of kernels are held to: those of the decoded matrix, in float64, with the same inputs."""

import torch

from pytest_quantbench.quantizers.layer import Layer
from pytest_quantbench.quantizers.layer_matrix import matrix

CPU = torch.device("cpu")
LIMIT = 1e-3  # of the product's size


def inputs(tokens, columns, dtype=torch.bfloat16, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(tokens, columns, generator=generator).to(dtype)


def expected(layer: Layer, x):
    """In float64, of the decoded matrix and the same inputs."""
    return x.double() @ torch.from_numpy(matrix(layer)).double().T


def distance(found, right):
    """‖found − right‖ / ‖right‖. NaN is no distance."""
    assert found.shape == right.shape
    assert torch.isfinite(found).all()
    return ((found.double() - right).norm() / right.norm()).item()
