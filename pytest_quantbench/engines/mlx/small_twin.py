"""A small model of the same architecture with random weights, and how its own forward pass treats decoder layers."""

from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten, tree_unflatten
from numpy.typing import NDArray

from pytest_quantbench.engines.calls import Seen
from pytest_quantbench.engines.mlx.skeleton import Config, decoder_layers, skeleton
from pytest_quantbench.engines.mlx.stand_ins import Spy
from pytest_quantbench.engines.narrow_config import VOCABULARY, kinds_of
from pytest_quantbench.engines.walk_proof import Anatomy
from pytest_quantbench.engines.walk_trial import anatomy_of
from pytest_quantbench.errors import ModelError
from pytest_quantbench.quantizers.encoding import Rules

FOREIGN = (  # what code of mlx-lm raises that is given something it does not expect
    TypeError,
    ValueError,
    AttributeError,
    LookupError,
    RuntimeError,
    ArithmeticError,
    AssertionError,
)
MOST_VALUES = 40_000_000  # of a twin: more would take seconds
NOISE = 0.1


class Twin:
    """Weights of a small model, as a walk reads them, and the model itself. Random, the same every time.

    Raises ModelError where mlx-lm cannot build it, or where it is not small.
    """

    def __init__(self, config: Config, names: Sequence[str]) -> None:
        self.config = config
        self.model = skeleton(config, names)
        flat: Any = tree_flatten(self.model.parameters())
        if sum(array.size for _, array in flat) > MOST_VALUES:
            raise ModelError("it cannot be made small.")
        random = np.random.default_rng(0)
        self._parameters = {name: _drawn(name, array, random) for name, array in flat}
        self.names = list(self._parameters)
        self.model.update(tree_unflatten(list(self._parameters.items())))
        mx.eval(self.model.parameters())

    def dense(self, name: str) -> mx.array:
        """One parameter."""
        return self._parameters[name]

    def inputs(self, name: str) -> Rules | None:
        """Nothing is done to the inputs of its layers."""
        return None

    @property
    def kinds(self) -> list[str]:
        """What each decoder layer is made of."""
        return kinds(self.model)

    def logits(self, tokens: NDArray[np.integer]) -> NDArray[np.float32]:
        """(rows, length) token ids → (rows, length, vocabulary), by mlx-lm's own forward pass."""
        return np.array(self.model(mx.array(tokens)).astype(mx.float32))

    def anatomy(self, tokens: NDArray[np.integer]) -> Anatomy:
        """How the model calls its decoder layers. Raises ModelError for a model that does not call each as often as the
        others, in their order.
        """
        return anatomy_of(self._seen(tokens), len(decoder_layers(self.model)[1]))

    def _seen(self, tokens: NDArray[np.integer]) -> list[Seen]:
        """Every call of a decoder layer."""
        _, slots = decoder_layers(self.model)
        layers = list(slots)
        calls: list[Seen] = []
        slots[:] = [Spy(layer, index, calls) for index, layer in enumerate(layers)]
        try:
            mx.eval(self.model(mx.array(tokens)))
        finally:
            slots[:] = layers
        return calls


def kinds(model: nn.Module) -> list[str]:
    """What each decoder layer is made of: its modules' classes and their switches, but not their sizes."""
    return kinds_of(decoder_layers(model)[1])


def named_words(model: nn.Module) -> int:
    """So many words a vocabulary needs for the tokens that the model's code names, which it writes to unasked."""
    arrays = [value for module in model.modules() for value in module.values() if isinstance(value, mx.array)]
    whole = [array for array in arrays if mx.issubdtype(array.dtype, mx.integer) and array.size]
    return max([VOCABULARY, *(int(np.max(np.asarray(array))) + 1 for array in whole)])


def _drawn(name: str, array: mx.array, random: np.random.Generator) -> mx.array:
    """Random values: of matrices those that keep the size of what goes through, of the rest what a model starts with
    and a little noise, so that nothing is zero or one by chance.
    """
    if array.ndim < 2 or not mx.issubdtype(array.dtype, mx.floating):
        noise = NOISE * random.standard_normal(array.shape, np.float32)
        return array + mx.array(noise) if mx.issubdtype(array.dtype, mx.floating) else array
    wide = 1.0 if "embed" in name or ".wte" in name else array.shape[-1] ** -0.5
    return mx.array(np.float32(wide) * random.standard_normal(array.shape, np.float32))
