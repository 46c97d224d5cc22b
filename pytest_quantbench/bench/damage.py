"""Known damage to a compressed model, from slight to fatal; what lies on disk stays whole."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from pytest_quantbench.compress.artifact import Artifact, OpenedArtifact
from pytest_quantbench.compress.assignment import Tensor
from pytest_quantbench.engines.protocol import Architecture
from pytest_quantbench.errors import QuantbenchError
from pytest_quantbench.quantizers import Arrays
from pytest_quantbench.quantizers.encoding import Encoding


class _Hurt(OpenedArtifact):
    """Another artifact, with damage that its kinds add."""

    def __init__(self, whole: Artifact) -> None:
        super().__init__(whole.manifest, whole.config, whole.decoder)
        self.whole = whole

    def arrays(self, name: str) -> Arrays:
        """The other's."""
        return self.whole.arrays(name)


class _ShuffledScales(_Hurt):
    """The grids (scales and offsets) of some groups trade places within their matrix."""

    share: float
    seed: int

    def arrays(self, name: str) -> Arrays:
        """With the grids of a share of the groups, two at least, shuffled."""
        arrays = super().arrays(name)
        if "scales" not in arrays:
            return arrays
        groups = arrays["scales"].size
        rng = np.random.default_rng([self.seed, groups, *name.encode()])
        chosen = rng.permutation(groups)[: max(2, round(self.share * groups))]
        places = np.arange(groups)
        places[chosen] = np.roll(chosen, 1)
        moved = {key: arrays[key].reshape(-1)[places] for key in ("scales", "biases") if key in arrays}
        return arrays | {key: array.reshape(arrays[key].shape) for key, array in moved.items()}


class _SwappedLayers(_Hurt):
    """Two decoder layers in each other's place."""

    prefixes: tuple[str, str]

    def arrays(self, name: str) -> Arrays:
        """Those of the other layer's parameter."""
        return self.whole.arrays(self._other(name))

    def tensor(self, name: str) -> Tensor:
        """The other layer's."""
        return self.whole.tensor(self._other(name))

    def _other(self, name: str) -> str:
        for here, there in (self.prefixes, self.prefixes[::-1]):
            if name.startswith(here):
                return there + name.removeprefix(here)
        return name


class _ZeroedLayer(_Hurt):
    """All matrices of one decoder layer are zero."""

    prefix: str

    def encoding(self, name: str) -> Encoding | None:
        """None for the matrices of that layer, so that nobody runs them as they are stored."""
        return None if name.startswith(self.prefix) else super().encoding(name)

    def dense(self, name: str) -> Any:
        """Zeros for the matrices of that layer."""
        dense = self.whole.dense(name)
        return 0 * dense if name.startswith(self.prefix) and dense.ndim > 1 else dense


def _shuffled(artifact: Artifact, source: Architecture, seed: int, share: float) -> Artifact:
    if not any(array.endswith(".scales") for tensor in artifact.manifest.tensors for array in tensor.arrays):
        raise QuantbenchError(
            f"{artifact.manifest.recipe} stores no scales of groups to shuffle. Run the self-test on int4 or int4-rtn."
        )
    damaged = _ShuffledScales(artifact)
    damaged.share, damaged.seed = share, seed
    return damaged


def _zeroed(artifact: Artifact, source: Architecture, seed: int) -> Artifact:
    """The layer in the middle."""
    damaged = _ZeroedLayer(artifact)
    damaged.prefix = source.layers[(len(source.layers) - 1) // 2]
    return damaged


def _swapped(artifact: Artifact, source: Architecture, seed: int) -> Artifact:
    """Two neighbouring layers in each other's place: those next to the middle that are built alike."""
    layers, shapes = source.layers, [dict[str, tuple[int, ...]]() for _ in source.layers]
    for each in source.parameters:
        if each.layer is not None:
            shapes[each.layer][each.path.removeprefix(layers[each.layer])] = each.shape
    middle = (len(layers) - 1) // 2
    alike = [k for k in range(len(layers) - 1) if shapes[k] == shapes[k + 1]]
    if not alike:
        raise QuantbenchError(f"{artifact.manifest.source} has no two neighbouring layers of one kind to swap.")
    place = min(alike, key=lambda k: abs(k - middle))
    damaged = _SwappedLayers(artifact)
    damaged.prefixes = (layers[place], layers[place + 1])
    return damaged


SHARES = (0.001, 0.01, 0.1)  # of the groups of every matrix, two groups at least
SHUFFLES = tuple(f"scales of {share:.1%} of the groups shuffled" for share in SHARES)
DAMAGES: Mapping[str, Callable[[Artifact, Architecture, int], Artifact]] = {
    **{name: partial(_shuffled, share=share) for name, share in zip(SHUFFLES, SHARES, strict=True)},
    "two layers swapped": _swapped,
    "one layer's weights zeroed": _zeroed,
}
FATAL = (SHUFFLES[-1], "two layers swapped", "one layer's weights zeroed")
