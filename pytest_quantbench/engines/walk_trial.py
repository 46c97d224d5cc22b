"""Is the walk of a model its forward pass? Tried on the same architecture in small before the first walk of a model.

A small model with random weights goes through the walk and through its library's plain forward pass, text by text.
Losses have to be equal to 1e-4 nats, whatever the order of the texts, and no token may have an influence on losses
before it. The branches of T3 (a preamble, contexts, choices) are tried the same way, the dearest kind of batches last.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pytest_quantbench.engines.batches import Batch
from pytest_quantbench.engines.calls import Seen
from pytest_quantbench.engines.logits import HostLogits
from pytest_quantbench.engines.narrow_config import smaller
from pytest_quantbench.engines.protocol import Config, Walk, Weights
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


class Twin(Weights, Protocol):
    """A small model of the same architecture with random weights, the same every time."""

    @property
    def kinds(self) -> Sequence[str]:
        """What each decoder layer is made of."""

    def logits(self, tokens: Ids) -> NDArray[np.float32]:
        """(rows, length) token ids → (rows, length, vocabulary), by the library's own forward pass."""

    def anatomy(self, tokens: Ids) -> Anatomy:
        """How the model calls its decoder layers. Raises ModelError where that is no walk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is tried. `whose` code the model is, such as "mlx-lm's", and `foreign`: what that raises where it is given
    something that it does not expect; `kinds`: what each decoder layer of the whole model is made of; `words`: so many
    a small vocabulary needs.
    """

    config: Config
    whose: str
    foreign: tuple[type[Exception], ...]
    kinds: Sequence[str]
    words: int
    twin: Callable[[Config], Twin]
    walk: Callable[[Twin, Proof], Walk]


_proofs: dict[str, Proof] = {}  # of this process


def proven(key: str, subject: Callable[[], Subject]) -> Proof:
    """Try an architecture in small; once in a process for every `key`, which says all that the result depends on."""
    if key not in _proofs:
        _proofs[key] = _Trial(subject()).proof()
    return _proofs[key]


def anatomy_of(calls: Sequence[Seen], count: int) -> Anatomy:
    """How a model went through its `count` decoder layers. Raises ModelError for one that does not call each as often
    as the others, in their order.
    """
    if not calls:
        raise ModelError("it takes its decoder layers apart instead of calling them.")
    order = [call.layer for call in calls]
    if len(order) % count or order != [*range(count)] * (len(order) // count):
        raise ModelError(f"it does not call its {count} decoder layers one after the other, but {order}.")
    kinds = {call.outputs for call in calls}
    if len(kinds) > 1:
        raise ModelError(f"its decoder layers return different numbers of results: {sorted(kinds)}.")
    return Anatomy(loops=len(order) // count, outputs=kinds.pop(), place=calls[-1].place)


class _Differs(Exception):
    """What differs."""


class _Trial:
    """One architecture, being tried."""

    def __init__(self, subject: Subject) -> None:
        self._subject, self._random, self._vocabulary = subject, np.random.default_rng(0), WORDS

    def proof(self) -> Proof:
        proof = Proof(architecture=str(self._subject.config["model_type"]))
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
        """The smallest model with all kinds of layers that its own forward pass takes, and how it calls them.

        Raises ModelError where there is none.
        """
        subject, reasons = self._subject, []
        expected: tuple[type[Exception], ...] = (ModelError, *subject.foreign)
        for config in smaller(subject.config, subject.kinds, subject.words):
            try:
                twin = subject.twin(config)
                self._vocabulary = twin.logits(np.zeros((1, 1), np.int64)).shape[-1]
                anatomy = twin.anatomy(self._text(1, 9))
            except expected as error:
                reasons.append(self._shown(error))
                continue
            if set(twin.kinds) == set(subject.kinds):
                return twin, anatomy
            reasons.append("a small model of it does not have all kinds of its layers.")
        raise ModelError(reasons[0])

    def _tried(self, trial: Callable[[Proof], None], proof: Proof) -> str:
        """What is wrong; empty: nothing."""
        expected: tuple[type[Exception], ...] = (_Differs, QuantbenchError, *self._subject.foreign)
        try:
            trial(proof)
        except expected as error:
            return self._shown(error)
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
        what = f"layer by layer its losses are not those of {self._subject.whose} forward pass"
        for order in (range(len(texts)), reversed(range(len(texts)))):
            numbers = list(order)
            walked = self._walked([Batch(tokens=texts[number]) for number in numbers], proof)
            for number, losses in zip(numbers, walked, strict=True):
                for found in losses:
                    _compare(plain[number], found, what)

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
        logits = self._twin.logits(tokens)
        return HostLogits(logits.reshape(-1, logits.shape[-1])).nll(self._words(tokens.size)).reshape(tokens.shape)

    def _walked(self, batches: Sequence[Batch], proof: Proof) -> list[tuple[Losses, Losses]]:
        """Of every batch: losses as T3 asks for them, place by place, and as T2 does, some positions at a time."""
        walk = self._subject.walk(self._twin, proof)
        walk.begin(batches)
        for index in range(len(walk)):
            walk.advance(index)
        return [(self._single(walk, number), self._together(walk, number)) for number in range(len(batches))]

    def _single(self, walk: Walk, number: int) -> Losses:
        rows, length = walk.batches[number].tokens.shape
        places = np.repeat(np.arange(rows), length), np.tile(np.arange(length), rows)
        return walk.logits_at(number, *places).nll(self._words(rows * length)).reshape(rows, length)

    def _together(self, walk: Walk, number: int) -> Losses:
        rows, length = walk.batches[number].tokens.shape
        parts = [slice(start, min(start + STRETCH, length)) for start in range(0, length, STRETCH)]
        found = [
            walk.logits(number, part).nll(self._words(rows * (part.stop - part.start))).reshape(rows, -1)
            for part in parts
        ]
        return np.concatenate(found, axis=1)

    def _words(self, count: int) -> Ids:
        """The word whose loss is compared, so many times."""
        return np.full(count, min(WORD, self._vocabulary - 1))

    def _shown(self, error: Exception) -> str:
        """An error as a sentence."""
        if isinstance(error, _Differs | QuantbenchError):
            return str(error)
        return f"{self._subject.whose} code of it ends in {type(error).__name__} ({error})."


SAID = {
    "any": "branches of contexts of unlike lengths",
    "even": "branches of contexts of one length",
    "none": "rows that are padded at their ends",
}


def _compare(expected: Losses, found: Losses, what: str) -> None:
    difference = float(np.abs(expected - found).max())
    if not difference <= CLOSE_NATS:
        raise _Differs(f"{what} (by {difference:.2g} nats in a small model of it).")
