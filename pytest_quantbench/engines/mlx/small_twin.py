"""A small model of the same architecture with random weights, and how its own forward pass treats decoder layers."""

from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten, tree_unflatten
from numpy.typing import NDArray

from pytest_quantbench.engines.calls import Seen
from pytest_quantbench.engines.mlx.skeleton import Config, decoder_layers, skeleton
from pytest_quantbench.engines.mlx.stand_ins import Spy
from pytest_quantbench.engines.walk_proof import Anatomy
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

    def logits(self, tokens: NDArray[np.integer]) -> NDArray[np.float32]:
        """(rows, length) token ids → (rows, length, vocabulary), by mlx-lm's own forward pass."""
        return np.array(self.model(mx.array(tokens)).astype(mx.float32))

    def anatomy(self, tokens: NDArray[np.integer]) -> Anatomy:
        """How the model calls its decoder layers. Raises ModelError for a model that does not call each as often as the
        others, in their order.
        """
        calls, count = self._seen(tokens), len(decoder_layers(self.model)[1])
        if not calls:
            raise ModelError("it takes its decoder layers apart instead of calling them.")
        order = [call.layer for call in calls]
        if len(order) % count or order != [*range(count)] * (len(order) // count):
            raise ModelError(f"it does not call its {count} decoder layers one after the other, but {order}.")
        kinds = {call.outputs for call in calls}
        if len(kinds) > 1:
            raise ModelError(f"its decoder layers return different numbers of results: {sorted(kinds)}.")
        return Anatomy(loops=len(order) // count, outputs=kinds.pop(), place=calls[-1].place)

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


def losses_of(logits: NDArray[np.float64], tokens: NDArray[np.integer]) -> NDArray[np.float64]:
    """(…, vocabulary) logits, (…) token ids → (…) negative log-likelihoods in nats."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    chosen = np.take_along_axis(shifted, tokens[..., None], axis=-1)[..., 0]
    return np.asarray(np.log(np.exp(shifted).sum(axis=-1)) - chosen)


def _drawn(name: str, array: mx.array, random: np.random.Generator) -> mx.array:
    """Random values: of matrices those that keep the size of what goes through, of the rest what a model starts with
    and a little noise, so that nothing is zero or one by chance.
    """
    if array.ndim < 2 or not mx.issubdtype(array.dtype, mx.floating):
        noise = NOISE * random.standard_normal(array.shape, np.float32)
        return array + mx.array(noise) if mx.issubdtype(array.dtype, mx.floating) else array
    wide = 1.0 if "embed" in name or ".wte" in name else array.shape[-1] ** -0.5
    return mx.array(np.float32(wide) * random.standard_normal(array.shape, np.float32))
