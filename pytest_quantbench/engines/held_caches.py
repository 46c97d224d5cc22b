"""Key-value caches that are held as a method says: of which tracks of a walk, and in which form a query sees a token.

Both engines ask here, whatever arrays they have. What is rounded is what a model hands its cache, in every layer that
has one; a method that no layer has asked for anything would give the reference's own figures, and is an error.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from pytest_quantbench.engines.batches import PADDING
from pytest_quantbench.engines.weights import Cached, Rounded, Weights
from pytest_quantbench.errors import ModelError
from pytest_quantbench.quantizers.kv.protocol import CacheForm, Floats, Integers, KVQuantizer, Part

CacheShape: TypeAlias = tuple[int, int, int]  # heads, channels of a head's key, and of its value
UNSEEN = -2  # the stage of what lies behind a query


class HeldCache:
    """One track's caches, of all layers. `engaged`: how often keys and values have been held so."""

    def __init__(self, method: KVQuantizer) -> None:
        self.method = method
        self.engaged = 0
        self._shapes: dict[int, CacheShape] = {}
        self._forms: dict[int, CacheForm] = {}

    def form(self, channels: int) -> CacheForm:
        """How heads of so many channels are held."""
        if channels not in self._forms:
            self._forms[channels] = self.method.form(channels)
        return self._forms[channels]

    def saw(self, layer: int, heads: int, key_channels: int, value_channels: int) -> None:
        """Remember what a layer stores for a token: so many heads, with so many channels of a key and of a value."""
        self._shapes[layer] = heads, key_channels, value_channels

    @property
    def shapes(self) -> tuple[CacheShape, ...]:
        """Of each layer that stores something."""
        return tuple(self._shapes[layer] for layer in sorted(self._shapes))

    def refuse_unused(self, architecture: str) -> None:
        """Raise ModelError where nothing has been held so."""
        if not self.engaged:
            raise ModelError(
                f"The method {self.method.name} of the key-value cache has never engaged: no layer of {architecture!r} "
                f"hands keys and values to a cache. Its figures would be those of a cache in 16 bits."
            )


class HoldsCaches:
    """What a walk with such tracks tells of them. `_held`: of each track."""

    _held: "Sequence[HeldCache | None]"

    def cache_shapes(self, track: int = 0) -> tuple[CacheShape, ...]:
        """What each layer stores for a token, where a method held the track's cache."""
        held = self._held[track]
        return () if held is None else held.shapes


def weights_of(track: Weights | Rounded | Cached) -> Weights:
    """What a track reads, whatever is done besides."""
    return track.weights if isinstance(track, Rounded | Cached) else track


def held_caches(tracks: Sequence[Weights | Rounded | Cached]) -> list[HeldCache | None]:
    """Of each track; None: in 16 bits, as the model computes it."""
    return [HeldCache(each.method) if isinstance(each, Cached) else None for each in tracks]


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Tokens from `first` to before `last`, which some queries see in one stage (−1: as computed). `seen`: (queries,
    tokens of the span) booleans, which query sees which of them so; None: every query all of them.
    """

    stage: int
    first: int
    last: int
    seen: NDArray[np.bool_] | None


def spans(form: CacheForm, part: Part, queries: Integers, tokens: Integers) -> Iterator[Span]:
    """The stages in which some queries see tokens, by the positions of both. A token behind a query, or one that only
    pads a row, is in none.
    """
    reached = form.reached(part, queries, tokens)
    behind = tokens[None, :] > queries[:, None]
    reached[behind] = UNSEEN
    for stage in np.unique(reached):
        if stage == UNSEEN:
            continue
        seen = reached == stage
        places = np.flatnonzero(seen.any(axis=0))
        first, last = int(places[0]), int(places[-1]) + 1
        some = seen[:, first:last]
        is_whole = bool((some | behind[:, first:last]).all())
        yield Span(stage=int(stage), first=first, last=last, seen=None if is_whole else some)


def given_back(
    form: CacheForm,
    part: Part,
    stage: int,
    numbers: Floats,
    positions: Integers,
    queries: Floats | None = None,
    keys: Floats | None = None,
) -> Floats:
    """(rows, heads, tokens, channels) → what the cache gives back of all that are in this stage, where they stand at
    `positions` (rows, tokens): a row's tokens in their order, without what pads it, which stays as it is. `queries` and
    `keys`: (rows, their heads, tokens, their channels) of the same tokens, for a rounding that looks at them.
    """
    found = numbers.copy()
    for rows, there in alike(positions):
        looked = (None if each is None else _of(each, rows, there) for each in (queries, keys))
        back = form.given_back(part, stage, _of(numbers, rows, there), *looked)
        found[np.ix_(rows, np.arange(numbers.shape[1]), there)] = back.reshape(len(rows), -1, *back.shape[1:])
    return found


def _of(numbers: Floats, rows: Integers, there: Integers) -> Floats:
    """(rows, heads, tokens, channels) → (heads of all these rows, these tokens, channels)."""
    return np.ascontiguousarray(numbers[rows][:, :, there].reshape(-1, len(there), numbers.shape[-1]))


def alike(positions: Integers) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Rows whose tokens are at the same places, and these places: in the order of positions, for a branch's tokens
    stand behind those that it goes on from.
    """
    there, groups = np.unique(positions < PADDING, axis=0, return_inverse=True)
    for group, places in enumerate(there):
        if places.any():
            yield np.flatnonzero(groups == group), np.flatnonzero(places)


def alike_rows(positions: Integers) -> Iterator[tuple[NDArray[np.intp], Integers]]:
    """Rows whose tokens stand at the same positions, and these."""
    found, groups = np.unique(positions, axis=0, return_inverse=True)
    for group, places in enumerate(found):
        yield np.flatnonzero(groups == group), places


def is_at_once(form: CacheForm, part: Part) -> bool:
    """Whether every query sees a token in the same form, which depends on that token alone."""
    stages = form.stages(part)
    first = [each.age == 0 and each.chunk == 1 and not (each.rounding and each.rounding.looks) for each in stages]
    return first in ([], [True])
