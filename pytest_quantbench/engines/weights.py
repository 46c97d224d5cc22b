"""Where an engine gets a model's weights: from a checkpoint, an artifact, or somebody else's files."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from pytest_quantbench.quantizers.encoding import Encoding, Rules
from pytest_quantbench.quantizers.kv.protocol import KVQuantizer

Config = Mapping[str, Any]


class Weights(Protocol):
    """Where an engine gets a model's weights: parameters by their path, decoded when asked for."""

    @property
    def config(self) -> Config:
        """The model's config.json."""

    @property
    def names(self) -> Sequence[str]:
        """Every parameter's path."""

    def dense(self, name: str) -> Any:
        """One parameter, decoded: an array of numpy's or of the engine's."""

    def inputs(self, name: str) -> Rules | None:
        """What is done to the inputs of the layer that owns this parameter, or to each expert's; None: nothing."""


class EncodedWeights(Weights, Protocol):
    """Weights that an engine may run as they are stored, where it has a fast layer for them."""

    def encoding(self, name: str) -> Encoding | None:
        """What the codec made of a parameter; None where it was left as it was."""


class Rounded:
    """Weights to be walked in the other type of activations, for the noise floor: where the engine walks in float32,
    with hidden states that are rounded to bfloat16 after every layer; where it walks in bfloat16, in float32.
    """

    def __init__(self, weights: Weights) -> None:
        self.weights = weights


class Cached:
    """Weights to be run with a key-value cache that is held as a method says: attention sees keys and values so."""

    def __init__(self, weights: Weights, method: KVQuantizer) -> None:
        self.weights, self.method = weights, method
