"""Is the walk of a model its forward pass? Tried on the same architecture in small before the first walk of a model.

A small model with random weights goes through the walk and through mlx-lm's plain forward pass, text by text. Losses
have to be equal to 1e-4 nats, whatever the order of the texts, and no token may have an influence on losses before it.
The branches of T3 (a preamble, contexts, choices) are tried the same way, the dearest kind of batches last.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from pytest_quantbench.engines.batches import Batch
from pytest_quantbench.engines.mlx.narrow_config import kinds, named_words, smaller
from pytest_quantbench.engines.mlx.skeleton import Config, skeleton
from pytest_quantbench.engines.mlx.small_twin import FOREIGN, Twin, losses_of
from pytest_quantbench.engines.walk_proof import BRANCHING, Anatomy, Branching, Proof
from pytest_quantbench.errors import ModelError, QuantbenchError

CLOSE_NATS = 1e-4
LENGTHS = {"any": (5, 3, 6), "even": (5, 5, 5), "none": (14, 19, 12)}  # of the rows that are tried
WORD, WORDS = 5, 64  # whose loss is compared, and those that texts are made of: fewer in a smaller vocabulary
SPECIAL = 3  # the first words, which texts do without where there are enough others
STRETCH = 8  # positions whose logits are asked for together
CHANGED = 6  # tokens at the end that are exchanged: losses before them have to stay
Ids = NDArray[np.int64]
Losses = NDArray[np.float64]


class Walks(Protocol):
    """The walk, as far as it is needed here."""

    def __len__(self) -> int:
        """Steps."""

    def begin(self, batches: Sequence[Batch | Ids]) -> None:
        """Embed the batches."""

    def advance(self, index: int) -> None:
        """Carry them on."""

    def head(self, batch: int, positions: slice) -> mx.array:
        """(rows, positions, vocabulary)."""

    def head_at(self, batch: int, rows: NDArray[np.integer], places: NDArray[np.integer]) -> mx.array:
        """(count, vocabulary)."""


Walker = Callable[..., Walks]
_proofs: dict[str, Proof] = {}  # of this process


def prove(config: Config, names: Sequence[str], host: bool, walk: Walker) -> Proof:
    """Try the architecture of this config in small; once in a process. Raises ModelError for one that mlx-lm does not
    have, or whose config it cannot read.
    """
    key = hashlib.sha256(json.dumps([config, sorted(names), host], default=str).encode()).hexdigest()
    if key not in _proofs:
        _proofs[key] = _Trial(config, names, host, walk).proof()
    return _proofs[key]


class _Differs(Exception):
    """What differs."""


class _Trial:
    """One architecture, being tried."""

    def __init__(self, config: Config, names: Sequence[str], host: bool, walk: Walker) -> None:
        self._config, self._names, self._host, self._walker = config, names, host, walk
        self._random, self._vocabulary = np.random.default_rng(0), WORDS
        whole = skeleton(config, names)
        self._kinds, self._words = kinds(whole), named_words(whole)

    def proof(self) -> Proof:
        proof = Proof(architecture=str(self._config["model_type"]))
        try:
            self._twin, anatomy = self._small()
        except ModelError as error:
            return replace(proof, refused=str(error))
        proof = replace(proof, anatomy=anatomy)
        if different := self._tried(self._as_text, proof):
            return replace(proof, refused=different)
        reasons: list[str] = []
        for branching in BRANCHING:
            reason = self._tried(partial(self._as_choices, branching), proof)
            if not reason:
                return replace(proof, branching=branching, unbranched=" ".join(dict.fromkeys(reasons)))
            reasons.append(reason)
        return replace(proof, branching=None, unbranched=reasons[-1])

    def _small(self) -> tuple[Twin, Anatomy]:
        """The smallest model with all kinds of layers that mlx-lm's own forward pass takes, and how it calls them.

        Raises ModelError where there is none.
        """
        reasons = []
        for config in smaller(self._config, self._kinds, self._words):
            try:
                twin = Twin(config, self._names)
                self._vocabulary = twin.logits(np.zeros((1, 1), np.int64)).shape[-1]
                anatomy = twin.anatomy(self._text(1, 9))
            except (ModelError, *FOREIGN) as error:
                reasons.append(_shown(error))
                continue
            if set(kinds(twin.model)) == set(self._kinds):
                return twin, anatomy
            reasons.append("a small model of it does not have all kinds of its layers.")
        raise ModelError(reasons[0])

    def _tried(self, trial: Callable[[Proof], None], proof: Proof) -> str:
        """What is wrong; empty: nothing."""
        try:
            trial(proof)
        except (_Differs, QuantbenchError, *FOREIGN) as error:
            return _shown(error)
        return ""

    def _text(self, rows: int, length: int) -> Ids:
        words = min(WORDS, self._vocabulary)
        return self._random.integers(SPECIAL if words > 2 * SPECIAL else 0, words, (rows, length))

    def _as_text(self, proof: Proof) -> None:
        """T2 and calibration: whole texts, in either order, one with another end."""
        text = self._text(1, 21)
        changed = np.concatenate([text[:, :-CHANGED], self._text(1, CHANGED)], axis=1)
        texts = [text, changed, self._text(2, 13), self._text(1, 1)]
        plain = [self._plain(each) for each in texts]
        _compare(plain[0][:, :-CHANGED], plain[1][:, :-CHANGED], "its losses depend on tokens that come later")
        for order in (range(len(texts)), reversed(range(len(texts)))):
            numbers = list(order)
            walked = self._walked([Batch(tokens=texts[number]) for number in numbers], proof)
            for number, losses in zip(numbers, walked, strict=True):
                for found in losses:
                    _compare(plain[number], found, "layer by layer its losses are not those of mlx-lm's forward pass")

    def _as_choices(self, branching: Branching, proof: Proof) -> None:
        """T3: a preamble, contexts that go on from it, choices that go on from those, and contexts on their own."""
        batches, wholes = self._family(branching)
        walked = self._walked(batches, replace(proof, branching=branching))
        for batch, rows, losses in zip(batches, wholes, walked, strict=True):
            for row, whole in enumerate(rows):
                length = batch.lengths[row]
                plain = self._plain(whole[None])[0, -length:]
                _compare(plain, losses[0][row, :length], f"{SAID[branching]} give other losses than each choice alone")

    def _family(self, branching: Branching) -> tuple[list[Batch], list[list[Ids]]]:
        """Batches, and the whole sequence up to the end of each of their rows."""
        lengths = LENGTHS[branching]
        if branching == "none":
            batch, rows = self._rows(lengths, None, ())
            return [batch], [rows]
        root, preamble = self._rows((12,), None, ())
        contexts, second = self._rows(lengths, 0, (0, 0, 0), preamble)
        choices, third = self._rows((2, 3, 1, 2), 1, (0, 0, 1, 2), second)
        alone, fourth = self._rows(lengths[1:], None, ())
        others, fifth = self._rows((2, 1), 3, (0, 1), fourth)
        return [root, contexts, choices, alone, others], [preamble, second, third, fourth, fifth]

    def _rows(
        self, lengths: Sequence[int], parent: int | None, rows: tuple[int, ...], above: Sequence[Ids] = ()
    ) -> tuple[Batch, list[Ids]]:
        own = [self._text(1, length)[0] for length in lengths]
        padded = np.stack([np.pad(each, (0, max(lengths) - len(each))) for each in own])
        batch = Batch(tokens=padded, parent=parent, rows=rows, lengths=tuple(lengths))
        whole = [np.concatenate([above[row], each]) for row, each in zip(rows, own, strict=True)] if rows else own
        return batch, whole

    def _plain(self, tokens: Ids) -> Losses:
        return _losses(self._twin.logits(tokens))

    def _walked(self, batches: Sequence[Batch], proof: Proof) -> list[tuple[Losses, Losses]]:
        """Of every batch: losses as T3 asks for them, place by place, and as T2 does, some positions at a time."""
        walk = self._walker(self._twin, host=self._host, proof=proof)
        walk.begin(batches)
        for index in range(len(walk)):
            walk.advance(index)
        found = []
        for number, batch in enumerate(batches):
            rows, length = batch.tokens.shape
            places = np.repeat(np.arange(rows), length), np.tile(np.arange(length), rows)
            single = np.array(walk.head_at(number, *places)).reshape(rows, length, -1)
            parts = [slice(start, start + STRETCH) for start in range(0, length, STRETCH)]
            stretches = [np.array(walk.head(number, part)) for part in parts]
            found.append((_losses(single), _losses(np.concatenate(stretches, axis=1))))
        return found


SAID = {
    "any": "branches of contexts of unlike lengths",
    "even": "branches of contexts of one length",
    "none": "rows that are padded at their ends",
}


def _losses(logits: NDArray[Any]) -> Losses:
    """Of one word at every position: (rows, length, vocabulary) → (rows, length)."""
    return losses_of(logits.astype(np.float64), np.full(logits.shape[:2], min(WORD, logits.shape[-1] - 1)))


def _compare(expected: Losses, found: Losses, what: str) -> None:
    difference = float(np.abs(expected - found).max())
    if not difference <= CLOSE_NATS:
        raise _Differs(f"{what} (by {difference:.2g} nats in a small model of it).")


def _shown(error: Exception) -> str:
    """An error as a sentence."""
    if isinstance(error, _Differs | QuantbenchError):
        return str(error)
    return f"mlx-lm's code of it ends in {type(error).__name__} ({error})."
