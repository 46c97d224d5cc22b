"""A whole model in memory: what it answers, and how fast."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias

Ending = Literal["stop", "eos", "length"]
Step = Literal["captured", "module by module"]  # how one decode step is run: replayed whole, or by Python's calls
Sampler: TypeAlias = Callable[[Any], Any]  # an engine's own: (rows, vocabulary) log-probabilities → (rows,) tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """One answer: its text up to the first stop string, all tokens that were generated, and what ended it.

    The end-of-sequence token (or a special token that was given as a stop string) is not among `tokens`. `engaged`:
    whether a token that was held in few bits was seen on the way; None: the cache is in 16 bits.
    """

    text: str
    tokens: tuple[int, ...]
    ended: Ending
    engaged: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """A timed generation: its tokens, and for each the seconds from the start until it was there."""

    tokens: tuple[int, ...]
    seconds: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TimedBatch:
    """A timed generation of several prompts at once: the tokens of each, and the seconds from the start until every
    prompt had its first new token, its second, and so on. `step`: how the steps of these were run.
    """

    tokens: tuple[tuple[int, ...], ...]
    seconds: tuple[float, ...]
    step: Step = "module by module"


class Generator(Protocol):
    """What goes on from token ids, and is timed."""

    def timed(self, prompt: Sequence[int], new_tokens: int) -> Timed:
        """One greedy generation of exactly so many tokens; end of sequence is ignored."""


class BatchGenerator(Protocol):
    """What goes on from several prompts at once, and is timed: residents of engines that can do `batches`."""

    @property
    def cache_bytes_per_token(self) -> int:
        """What one more token of a text adds to its keys and values, and so what one decode step reads of it."""

    def batch_bytes(self, rows: int, tokens: int) -> int:
        """About how much memory it takes, beside the weights, to go on from so many texts up to so many tokens each."""

    def timed_batch(
        self, prompts: Sequence[Sequence[int]], new_tokens: int, sampler: Sampler | None = None
    ) -> TimedBatch:
        """Exactly so many new tokens of each of the prompts (of one length), the likeliest or those that `sampler`
        draws; end of sequence is ignored. What has to be compiled for it is, before the clock begins. Raises
        QuantbenchError where memory does not hold them, ModelError where the model takes one text at a time.
        """

    def timed_requests(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> tuple[Timed, ...]:
        """Exactly so many new tokens of each of the prompts (of any lengths), which are all there at the start, as the
        engine puts them together when it writes answers; the seconds of each are from that start on.
        """


class Resident(Generator, Protocol):
    """A whole model in memory. `dense_layers` counts the encoded matrices that run decoded."""

    @property
    def activations(self) -> str:
        """Their type, such as `bfloat16`."""

    @property
    def dense_layers(self) -> int:
        """How many encoded matrices have no native layer."""

    @property
    def bytes_per_token(self) -> int:
        """What one decode step has to read of the weights, with their scales, codebooks and all: of a table of
        embeddings one row, unless it is the output head too; of experts those that a token goes through.
        """

    @property
    def kernels(self) -> Mapping[str, int]:
        """Through which kernels the matrices are multiplied: name → how many."""

    @property
    def step(self) -> Step:
        """How a decode step is run."""

    def ready(self, tokens: int) -> None:
        """Make now what `timed` needs of texts of so many tokens, prompt and answer, and keep it: nothing is compiled
        in a run that is watched.
        """

    def generate(
        self,
        tokenizer: Any,
        prompts: Sequence[Sequence[int]],
        *,
        stops: Sequence[Sequence[str]],
        new_tokens: Sequence[int] | int,
        what: str,
        end_tokens: Collection[int] | None = None,
        sampler: Sampler | None = None,
    ) -> list[Generation]:
        """The likeliest next token, or the one that `sampler` draws, again and again, after every prompt (token ids);
        the answers in the prompts' order.

        Answer i ends before the first of `stops[i]`, at one of `end_tokens` (by default the tokenizer's own), or after
        `new_tokens` tokens. `what` names the bar of progress. Raises CorpusError for a prompt without tokens or an
        answer that may have none, WeightError where logits are no numbers.
        """

    def sampler(self, seed: int, temperature: float = 1.0) -> Sampler:
        """Draws tokens by their probabilities, a new one with every call: of logits over the temperature, above 0."""
