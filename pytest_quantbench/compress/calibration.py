"""Calibration: a text that is run through the model, and what every matrix saw of it.

While a layer of the walk runs over all batches, the engine adds the inputs of its linear layers to the sums here.
Matrices that share an input (query, key and value; gate and up) share its statistics, which are computed once. Costs
O(tokens × in²) for every different input; memory: one (in, in) float32 sum for each in the current layer.

Every expert of a mixture has the statistics of the tokens that were sent to it. With fewer than two tokens for every
input the correlations are those of the sample, and fitting to them is worse than rounding: GPTQ's output error on text
that it has not seen, against rounding without data, was 2 dB larger with one token for every input, and 0.5 dB smaller
with two (a down projection of SmolLM2-135M at 4 bits; QuIP# and VPTQ at 2 bits likewise).
"""

from collections import Counter
from collections.abc import Container, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_quantbench.checkpoints.tokenizer import frame_of, refuse_unknown_tokens
from pytest_quantbench.engines.parameters import Capacity
from pytest_quantbench.engines.protocol import Rows, Square
from pytest_quantbench.errors import CorpusError
from pytest_quantbench.fetch.texts import Text
from pytest_quantbench.quantizers import Statistics
from pytest_quantbench.quantizers.encoding import named

SEQUENCE_TOKENS = 2048
BATCH_TOKENS = 4096
SAMPLE_TOKENS, PEAK_TOKENS = 1024, 16
TOKENS_PER_INPUT = 2  # an expert that saw fewer is rounded without data


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationSet:
    """The text that calibrates, and how many sequences of it are used, each so long or as long as the model takes."""

    text: Text
    sequences: int
    sequence_tokens: int = SEQUENCE_TOKENS

    def describe(self) -> dict[str, str | int]:
        """What an artifact's key and manifest say of it."""
        told: dict[str, str | int] = {"text": self.text.name, "sha256": self.text.sha256, "sequences": self.sequences}
        # Left out where it is the usual: that is how artifacts were always known.
        return told if self.sequence_tokens == SEQUENCE_TOKENS else {**told, "sequence_tokens": self.sequence_tokens}

    def batches(self, tokenizer: Any, capacity: Capacity, seed: int) -> list[NDArray[np.int32]]:
        """(batch, tokens) integers: `sequences` windows of the text, drawn with the seed, each behind the tokens
        that the tokenizer puts in front of a text.

        Raises CorpusError where the text is shorter than that, ModelError for tokens that the model does not know.
        """
        front = frame_of(tokenizer).prefix
        length = min(self.sequence_tokens, capacity.longest_input(self.sequence_tokens)) - len(front)
        ids = np.array(tokenizer.encode(self.text.content, add_special_tokens=False, verbose=False), np.int32)
        if len(ids) < length * self.sequences:
            raise CorpusError(
                f"The calibration text {self.text.name} has {len(ids)} tokens, and {self.sequences} sequences of "
                f"{length} were asked for. Give a longer text with --calibration FILE, or fewer sequences with "
                f"--calibration-sequences {len(ids) // length or 1}."
            )
        places = np.arange(len(ids) // length) * length
        chosen = np.sort(np.random.default_rng(seed).permutation(places)[: self.sequences])
        windows = ids[chosen[:, None] + np.arange(length)]  # (sequences, length)
        windows = np.concatenate([np.tile(np.array(front, np.int32), (len(windows), 1)), windows], axis=1)
        refuse_unknown_tokens(windows.reshape(-1).tolist(), capacity.vocabulary)
        together = max(1, BATCH_TOKENS // windows.shape[1])
        return [windows[start : start + together] for start in range(0, len(windows), together)]


def needed_tokens(in_features: int) -> int:
    """How many tokens an expert has to see so that its statistics are worth something."""
    return TOKENS_PER_INPUT * in_features


class _Seen:
    """A sample of one input, and its largest values."""

    def __init__(self, in_features: int, rows_per_batch: int, seed: int) -> None:
        self.tokens = 0
        self.sample: list[Rows] = []
        self.peaks = np.zeros((0, in_features), np.float32)
        self._rows_per_batch = rows_per_batch
        self._random = np.random.default_rng(seed)

    def add(self, rows: Rows) -> None:
        """Add inputs of one batch, (tokens, in)."""
        self.tokens += len(rows)
        self.sample.append(rows[self._random.permutation(len(rows))[: self._rows_per_batch]])
        candidates = np.concatenate([self.peaks, rows])
        largest = np.argsort(-np.abs(candidates).max(axis=1), kind="stable")[:PEAK_TOKENS]
        self.peaks = candidates[largest]

    def statistics(self, hessian: Rows) -> Statistics:
        """With this Hessian."""
        sample = np.concatenate(self.sample)[:SAMPLE_TOKENS]
        return Statistics(hessian=hessian, tokens=self.tokens, sample=sample, peaks=self.peaks)


class _Sums:
    """Running statistics of one input."""

    def __init__(self, in_features: int, rows_per_batch: int, seed: int) -> None:
        self.hessian = np.zeros((in_features, in_features), np.float32)
        self._seen = _Seen(in_features, rows_per_batch, seed)
        self._made: Statistics | None = None

    def add(self, rows: Rows, square: Square) -> None:
        """Add inputs of one batch, (tokens, in)."""
        self.hessian += square(rows)
        self._seen.add(rows)

    def statistics(self) -> Statistics:
        """When all batches were added: the sum itself becomes the mean."""
        if self._made is None:
            np.divide(self.hessian, np.float32(self._seen.tokens), out=self.hessian)
            self._made = self._seen.statistics(self.hessian)
        return self._made


class LayerInputs:
    """What the matrices of one decoder layer see of a text in so many batches: a walk's `Inputs`.

    `experts`: those whose statistics are collected, for all of a large mixture may not fit in memory. The tokens of all
    are counted.
    """

    def __init__(self, batches: int, seed: int, *, experts: Container[int] | None = None) -> None:
        self._rows_per_batch = -(-SAMPLE_TOKENS // batches)
        self._seed = seed
        self._experts = experts
        self._sums: dict[str, dict[int | None, _Sums]] = {}  # by the first matrix with this input, then by expert
        self._pooled: dict[str, _Seen] = {}  # what all experts together saw
        self._tokens: dict[str, Counter[int]] = {}
        self._owner: dict[str, str] = {}  # path → the path whose sums it shares

    def share(self, path: str, owner: str) -> None:
        """The layer of this path has the inputs of another one, which are added there."""
        self._owner[path] = owner

    def add(self, path: str, rows: Rows, square: Square) -> None:
        """The inputs of one batch, (tokens, in); `square` gives rowsᵀ rows, (in, in)."""
        self._owner[path] = path
        self._add(path, None, rows, square)

    def add_routed(self, path: str, rows: Rows, by_expert: Iterable[tuple[int, Rows]], square: Square) -> None:
        """The inputs of a layer of experts, and those of each expert that has any."""
        self._owner[path] = path
        self._pooled.setdefault(path, _Seen(rows.shape[1], self._rows_per_batch, self._seed)).add(rows)
        counts = self._tokens.setdefault(path, Counter())
        for expert, own in by_expert:
            counts[expert] += len(own)
            if self._experts is None or expert in self._experts:
                self._add(path, expert, own, square)

    def _add(self, path: str, expert: int | None, rows: Rows, square: Square) -> None:
        sums = self._sums.setdefault(path, {})
        if expert not in sums:
            sums[expert] = _Sums(rows.shape[1], self._rows_per_batch, self._seed)
        sums[expert].add(rows, square)

    def statistics(self) -> dict[str, Statistics]:
        """Statistics by the path of each matrix that was called, an expert's by its name (`…up_proj[3]`); matrices with
        one input share one object.
        """
        made = {path: {expert: sums.statistics() for expert, sums in of.items()} for path, of in self._sums.items()}
        return {
            path if expert is None else named(path, expert): found
            for path, owner in self._owner.items()
            for expert, found in made.get(owner, {}).items()
        }

    def tokens(self, path: str, expert: int) -> int:
        """How many tokens an expert of this layer saw."""
        return self._tokens[self._owner[path]][expert]

    def routed(self, path: str) -> bool:
        """Whether this is a layer of experts that was called."""
        return self._owner.get(path) in self._tokens

    def without_data(self, path: str) -> Statistics:
        """Statistics for an expert that has none worth having: all its inputs count alike, and where their values lie
        is what all experts together saw.
        """
        pooled = self._pooled[self._owner[path]]
        return pooled.statistics(np.eye(pooled.peaks.shape[1], dtype=np.float32))
