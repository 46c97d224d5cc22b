"""Raw per-item samples, as the measures hand them over: in a fixed order, with no judgement in them."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_quantbench.engines.divergence import Distributions, Fidelity, joined
from pytest_quantbench.errors import ComparisonError
from pytest_quantbench.stats.window_sampling import Drawn

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class PerplexitySamples:
    """T2. `nll_nats` is (tokens,) float32, in text order or, of windows that were `drawn`, one after the other in the
    order of the draw; `scored_bytes` the UTF-8 length of the tokens scored.

    `text_tokens` counts those to be scored, of which a window's first is not where nothing stands in front of it.
    `beside` has what was read of the same model on the same walk: other texts, and the head of this one.
    """

    nll_nats: Floats
    text_tokens: int
    available_tokens: int  # of the text
    window_tokens: int  # of the windows that begin anew
    unscored_tokens: int  # of each of them: 1 where nothing stands in front of it, else 0
    scored_bytes: int
    protocol: str
    protocol_sha256: str  # of it and the text
    corpus: str
    corpus_sha256: str
    corpus_revision: str | None
    weights_sha256: str
    seconds: float
    drawn: Drawn | None = None  # which windows; None: tokens from the text's first on
    distributions: Distributions | None = None  # of the reference: what others are compared with
    fidelity: Fidelity | None = None  # of the others
    beside: Mapping[str, "PerplexitySamples"] = field(default_factory=dict)
    # (tokens,) how many tokens the model could look back on where it predicted each; none: not known
    depths: NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, np.int32))
    # of each layer that stores something for a token: heads, channels of a head's key and value, and how many of the
    # newest tokens it keeps, 0 for all; none: not seen
    cache_shapes: tuple[tuple[int, int, int, int], ...] = ()
    # (tokens,) whether the prediction of each hangs on a token that the cache held in few bits; none: all in 16 bits
    engaged: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_))

    def first(self, scored: int) -> "PerplexitySamples":
        """The samples of the first so many scored tokens, to be paired with; `scored_bytes` stays that of all."""
        kept = None if self.distributions is None else self.distributions.part(0, scored)
        drawn = None if self.drawn is None else self.drawn.holding(min(scored, len(self.nll_nats)))
        items = {name: getattr(self, name)[:scored] for name in ("nll_nats", "depths", "engaged")}
        return replace(self, distributions=kept, drawn=drawn, **items)

    def as_of(self, text_tokens: int) -> "PerplexitySamples":
        """The samples that reading so many tokens of the text gave: the first, or the first windows drawn."""
        if self.drawn is not None:
            return self.first(int(self.drawn.counts[: -(-text_tokens // self.drawn.tokens)].sum()))
        windows = -(-text_tokens // self.window_tokens)
        return self.first(text_tokens - windows * self.unscored_tokens)

    def part(self, of: str | None) -> "PerplexitySamples":
        """The samples of one text: of what was read beside the first, by name; None: of the first."""
        return self if of is None else self.beside[of]

    def with_part(self, of: str | None, part: "PerplexitySamples") -> "PerplexitySamples":
        """The same with other samples of that text."""
        return part if of is None else replace(self, beside={**self.beside, of: part})

    @property
    def where(self) -> str:
        """Of what they are, and so what a verdict on them holds for."""
        if self.drawn is None:
            return f"the first of {self.corpus}: of this text, not of the rest"
        if self.drawn.whole:
            return f"which are all of {self.corpus}"
        return f"in {len(self.drawn.counts):,} of the {self.drawn.population:,} windows of {self.corpus}"

    def followed_by(self, more: "PerplexitySamples") -> "PerplexitySamples":
        """With the tokens that were scored after these; counts and sizes are of all. Raises ComparisonError if other
        weights scored them.
        """
        if more.weights_sha256 != self.weights_sha256:
            raise ComparisonError("The tokens that were added were scored by other weights.")
        kept = (self.distributions, more.distributions)
        found = (self.fidelity, more.fidelity)
        return replace(
            more,
            nll_nats=np.concatenate([self.nll_nats, more.nll_nats]),
            depths=np.concatenate([self.depths, more.depths]),
            engaged=np.concatenate([self.engaged, more.engaged]),
            distributions=joined([part for part in kept if part]) if all(kept) else None,
            fidelity=joined([part for part in found if part]) if all(found) else None,
            seconds=self.seconds + more.seconds,
            beside=self.beside,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSamples:
    """One task of T3. (questions,) arrays in the order of `ids`; `loglikelihoods[i]` holds a number per choice."""

    ids: tuple[str, ...]
    hashes: tuple[str, ...]  # of each question with its prompt and choices
    correct: NDArray[np.bool_]  # by length-normalised log-likelihood: lm-eval's acc_norm
    correct_raw: NDArray[np.bool_]  # by plain log-likelihood: lm-eval's acc
    loglikelihoods: tuple[tuple[float, ...], ...]
    texts: tuple[str, ...]  # what was written, where answers are
    gold: tuple[int, ...]  # -1 where answers are written
    choices: int  # of most questions; 0 where answers are written
    version: str
    clusters: tuple[str, ...] = ()  # of each question: those of one name share a source; (): each stands alone
    cluster_key: str = ""  # the fields of a document that say so
    questions: tuple[str, ...] = ()  # each one's own text, without what stands in front of it
    options: tuple[tuple[str, ...], ...] = ()  # of each question; none where answers are written
    # (questions,) whether an answer hangs on a token that the cache held in few bits; none: all in 16 bits
    engaged: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_))

    @property
    def chance(self) -> float:
        """How often guessing is right, over all questions: 0 of those whose answers are written, or not chosen among
        several.
        """
        shares = [1 / len(each) if len(each) > 1 else 0.0 for each in self.loglikelihoods]
        return sum(shares) / len(shares) if shares else 0.0

    @property
    def sha256(self) -> str:
        """Hash of all questions in their order."""
        return hashlib.sha256("".join(self.hashes).encode()).hexdigest()

    def first(self, questions: int) -> "TaskSamples":
        """The samples of the first so many questions."""
        return replace(self, **{name: getattr(self, name)[:questions] for name in _per_question(self)})

    def joined(self, more: "TaskSamples") -> "TaskSamples":
        """These questions, then those."""
        both = {name: (getattr(self, name), getattr(more, name)) for name in _per_question(self)}
        joined: dict[str, Any] = {
            n: a + b if isinstance(a, tuple) else np.concatenate([a, b]) for n, (a, b) in both.items()
        }
        return replace(self, **joined)


def _per_question(samples: TaskSamples) -> list[str]:
    return [field.name for field in fields(samples) if isinstance(getattr(samples, field.name), tuple | np.ndarray)]


@dataclass(frozen=True, slots=True, kw_only=True)
class AccuracySamples:
    """T3: every task's samples, in the order in which the tasks were asked for; `available` questions by task."""

    tasks: Mapping[str, TaskSamples]
    available: Mapping[str, int]
    cut_contexts: int  # requests whose context was longer than the model takes
    weights_sha256: str
    seconds: float

    def part(self, of: str | None) -> "AccuracySamples":
        """The samples of one task alone; None: of all."""
        return self if of is None else replace(self, tasks={of: self.tasks[of]})

    def as_far_as(self, other: "AccuracySamples") -> "AccuracySamples":
        """The first questions of every task, as many as the other has."""
        return replace(self, tasks={name: task.first(len(other.tasks[name].ids)) for name, task in self.tasks.items()})

    def joined(self, name: str, more: "AccuracySamples") -> "AccuracySamples":
        """With the questions that were added to one task. Raises ComparisonError if other weights answered them."""
        if more.weights_sha256 != self.weights_sha256:
            raise ComparisonError(f"{name}: the questions that were added were answered by other weights.")
        tasks = {**self.tasks, name: self.tasks[name].joined(more.tasks[name])}
        cut = self.cut_contexts + more.cut_contexts
        return replace(self, tasks=tasks, cut_contexts=cut, seconds=self.seconds + more.seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorError:
    """One encoded matrix against the original. SNR in dB, infinite where nothing was lost."""

    name: str
    quantizer: str
    weights: int
    bits_per_weight: float
    snr_db: float
    cosine: float
    largest_error: float
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightSamples:
    """Every encoded matrix, in the model's order."""

    tensors: tuple[TensorError, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class IntegritySamples:
    """What is wrong with the decoded weights, a sentence each; `tensors` were compared with the source. `notes`: in
    what a candidate's may differ from the source's on purpose.
    """

    tensors: int
    problems: tuple[str, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeSamples:
    """Bytes as they lie on disk. `bf16_bytes` is two per parameter, whatever the source's own type."""

    stored_bytes: int
    bf16_bytes: int
