"""Key-value caches that are held as a method says: of which tracks of a walk, and in which form a query sees a token.

Both engines ask here, whatever arrays they have. What is rounded is what a model hands its cache, in every layer that
has one; a method that no layer has asked for anything would give the reference's own figures, and is an error. So would
one whose stages no token has reached: which queries have seen a token in few bits is counted here, batch by batch.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from pytest_quantbench.engines.batches import PADDING, Batch
from pytest_quantbench.engines.weights import Cached, Rounded, Weights
from pytest_quantbench.errors import ModelError
from pytest_quantbench.quantizers.kv.protocol import CacheForm, Floats, Integers, KVQuantizer, Part

# of a layer: heads, channels of a head's key and of its value, and how many of the newest tokens it keeps; 0: all
CacheShape: TypeAlias = tuple[int, int, int, int]
UNSEEN = -2  # the stage of what lies behind a query


class HeldCache:
    """One track's caches, of all layers. `engaged`: how often a query has seen a token in few bits, in all layers."""

    def __init__(self, method: KVQuantizer) -> None:
        self.method = method
        self.engaged = 0
        self._shapes: dict[int, CacheShape] = {}
        self._forms: dict[int, CacheForm] = {}
        self._counted: dict[tuple[int, CacheShape], int] = {}  # of a batch in such a layer: how often
        self._seen: dict[int, NDArray[np.bool_]] = {}  # by batch, (rows, length)

    def begin(self) -> None:
        """Other batches are about to come."""
        self._counted.clear()
        self._seen.clear()

    def form(self, channels: int) -> CacheForm:
        """How heads of so many channels are held."""
        if channels not in self._forms:
            self._forms[channels] = self.method.form(channels)
        return self._forms[channels]

    def saw(self, layer: int, shape: CacheShape, queries: Integers, batch: int | None = None) -> None:
        """Remember what a layer stores for a token, and count which `queries`, (rows, length) positions, see tokens in
        few bits there; `batch`: the number of a walk's, whose layers of one shape are alike.
        """
        self._shapes[layer] = shape
        if batch is None:
            self.engaged += int(self._in_few_bits(shape, queries).sum())
            return
        if (batch, shape) not in self._counted:
            found = self._in_few_bits(shape, queries)
            self._counted[batch, shape] = int(found.sum())
            self._seen[batch] = found | self._seen.get(batch, False)
        self.engaged += self._counted[batch, shape]

    def _in_few_bits(self, shape: CacheShape, queries: Integers) -> NDArray[np.bool_]:
        """Of each query, whether it sees any token so; padding sees nothing."""
        _, *channels, window = shape
        found = np.zeros(queries.size, np.bool_)
        parts: tuple[Part, Part] = ("keys", "values")
        for part, width in zip(parts, channels, strict=True):
            found |= self.form(width).in_few_bits(part, queries.ravel(), window or None) > 0
        seen: NDArray[np.bool_] = found.reshape(queries.shape) & (queries < PADDING)
        return seen

    def engaged_in(self, batch: int, rows: int, length: int) -> NDArray[np.bool_]:
        """(rows, length): which queries of a batch have seen a token in few bits, or stand behind one that has."""
        seen = self._seen.get(batch, np.zeros((rows, length), np.bool_))
        found: NDArray[np.bool_] = np.logical_or.accumulate(seen, axis=1)
        return found

    def engages(self, tokens: int) -> bool:
        """Whether any query of a text of so many tokens sees one in few bits, in the layers that there were."""
        return any(self._in_few_bits(shape, np.arange(tokens)[None]).any() for shape in set(self.shapes))

    @property
    def shapes(self) -> tuple[CacheShape, ...]:
        """Of each layer that stores something."""
        return tuple(self._shapes[layer] for layer in sorted(self._shapes))

    def refuse_unused(self, architecture: str) -> None:
        """Raise ModelError where no layer has stored anything."""
        if not self._shapes:
            raise ModelError(
                f"The method {self.method.name} of the key-value cache has never engaged: no layer of {architecture!r} "
                f"hands keys and values to a cache. Its figures would be those of a cache in 16 bits."
            )


class HoldsCaches:
    """What a walk with such tracks tells of them. `_held`: of each track."""

    _held: "Sequence[HeldCache | None]"
    batches: Sequence[Batch]

    def cache_shapes(self, track: int = 0) -> tuple[CacheShape, ...]:
        """What each layer stores for a token, where a method held the track's cache."""
        held = self._held[track]
        return () if held is None else held.shapes

    def engaged(self, batch: int, track: int = 0) -> NDArray[np.bool_] | None:
        """(rows, length): whether what a batch's places give hangs on a token that was seen in few bits, by their own
        queries or by any before them, those of the rows that they go on from included; None: the track's cache is in
        16 bits.
        """
        held, own = self._held[track], self.batches[batch]
        if held is None:
            return None
        found = held.engaged_in(batch, *own.tokens.shape)
        if own.parent is None:
            return found
        above, lengths = self.engaged(own.parent, track), self.batches[own.parent].lengths
        assert above is not None
        last = [(lengths[row] if lengths else above.shape[1]) - 1 for row in own.rows]
        return found | above[list(own.rows), last][:, None]


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
