"""Where an engine gets a model's weights: from a checkpoint, an artifact, or somebody else's files."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

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


class SeenCaches(Protocol):
    """What a walk tells of the key-value caches of its tracks, which `engines.held_caches` counts for any engine."""

    def cache_shapes(self, track: int = 0) -> tuple[tuple[int, int, int, int], ...]:
        """Of each layer that a method held the cache of: heads, channels of a head's key and of its value, and how many
        of the newest tokens the model keeps there; 0: all.
        """

    def engaged(self, batch: int, track: int = 0) -> NDArray[np.bool_] | None:
        """(rows, length): whether what a batch's places give hangs on a token that was seen in few bits, by their own
        queries or by any before them, those of the rows that they go on from included; None: the track's cache is in
        16 bits.
        """


class Cached:
    """Weights to be run with a key-value cache that is held as a method says: attention sees keys and values so."""

    def __init__(self, weights: Weights, method: KVQuantizer) -> None:
        self.weights, self.method = weights, method
