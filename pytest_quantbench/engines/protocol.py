"""What a walk gets its weights from."""

from collections.abc import Sequence
from typing import Protocol

import mlx.core as mx

from pytest_quantbench.engines.mlx.skeleton import Config
from pytest_quantbench.engines.mlx.stacks import Rules


class DenseWeights(Protocol):
    """Where a walk gets its weights: parameters by their path in the mlx-lm model, decoded when asked for."""

    @property
    def config(self) -> Config:
        """The model's config.json."""

    @property
    def names(self) -> Sequence[str]:
        """Every parameter's path."""

    def dense(self, name: str) -> mx.array:
        """One parameter, decoded."""

    def inputs(self, name: str) -> Rules | None:
        """What is done to the inputs of the layer that owns this parameter, or to each expert's; None: nothing."""


class Rounded:
    """Weights to be walked with hidden states that are rounded to bfloat16 after every layer."""

    def __init__(self, weights: DenseWeights) -> None:
        self.weights = weights
