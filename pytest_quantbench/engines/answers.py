"""Answers to many prompts, several at a time: when each begins, what ends it, and which of them share a batch.

Prompts are taken longest first, and a waiting one comes in as soon as another's answer has ended and its keys and
values have room. Which prompts share a batch changes sums by float noise only; where two tokens are as good as equally
likely, that noise can decide between them. How a batch is computed is the engine's own (`Batch`).
"""

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from pytest_quantbench.checkpoints.tokenizer import added_tokens
from pytest_quantbench.engines.held_caches import HeldCache
from pytest_quantbench.engines.resident import Ending, Generation
from pytest_quantbench.errors import CorpusError, WeightError
from pytest_quantbench.progress import track

ROWS_AT_ONCE = 32
KEYS_AT_ONCE = 2**15  # tokens whose keys and values are held: 4 GB for an 8B model with grouped queries in 16 bits
PREFILL_ROWS, PREFILL_TOKENS = 4, 512  # prompts taken together, and how much of each: bounds the attention scores
MARGIN_TOKENS = 8  # decoded before those that can hold a stop string: some add no character, one may begin within one


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """The next token of a sequence; `usable` looks whether its logits are numbers."""

    sequence: int
    token: int
    usable: Callable[[], bool]


class Batch(Protocol):
    """Sequences that an engine carries on together."""

    def insert(self, prompt: Sequence[int], most: int) -> int:
        """Add one that will have at most so many new tokens; its number. The longest come first."""

    def next(self) -> Iterable[Said]:
        """Read prompts that were added, and give tokens: one of each sequence that has one."""

    def remove(self, sequences: Sequence[int]) -> None:
        """Drop these."""


@dataclass(slots=True, kw_only=True)
class _Answer:
    """An answer in progress. `most` is how many tokens it may have; `endings`: the tokens that end it, and how.

    Special tokens are not in decoded text, so stop strings that are one stand among `endings`, not among `stops`.
    """

    place: int
    prompt: tuple[int, ...]
    stops: tuple[str, ...]
    most: int
    endings: dict[int, Ending]
    tokens: list[int] = field(default_factory=list)

    @property
    def need(self) -> int:
        """Tokens whose keys and values it holds at its longest."""
        return len(self.prompt) + self.most

    def take(self, token: int, tokenizer: Any) -> Ending | None:
        """Add a token, unless it is an end; what ended the answer, or None."""
        if token in self.endings:
            return self.endings[token]
        self.tokens.append(token)
        if self.stops and self._stopped(tokenizer):
            return "stop"
        return "length" if len(self.tokens) == self.most else None

    def _stopped(self, tokenizer: Any) -> bool:
        """Whether a stop string is there. A token has at least one byte, so only the last few are decoded each time."""
        last = MARGIN_TOKENS + max(len(stop.encode()) for stop in self.stops)
        tail = _decoded(tokenizer, self.tokens[-last:])
        return any(stop in tail for stop in self.stops) and _has_any(_decoded(tokenizer, self.tokens), self.stops)

    def generation(self, ended: Ending, tokenizer: Any) -> Generation:
        """The answer as it is handed out."""
        text = _decoded(tokenizer, self.tokens)
        found: Ending = "stop" if _has_any(text, self.stops) else ended
        return Generation(text=cut(text, self.stops), tokens=tuple(self.tokens), ended=found)


def answers(
    batch: Batch,
    tokenizer: Any,
    prompts: Sequence[Sequence[int]],
    *,
    stops: Sequence[Sequence[str]],
    new_tokens: Sequence[int] | int,
    what: str,
    end_tokens: Collection[int] | None = None,
    at_once: int | None = None,
) -> list[Generation]:
    """As `Resident.generate`, on a batch that is empty. Prompt and answer together must fit the model's positions: cut
    prompts beforehand. `at_once`: how many share the batch at most, where the model allows fewer than ROWS_AT_ONCE.
    """
    most = [new_tokens] * len(prompts) if isinstance(new_tokens, int) else new_tokens
    ends = {tokenizer.eos_token_id} - {None} if end_tokens is None else end_tokens
    special = {str(added): token for token, added in added_tokens(tokenizer).items() if added.special}
    waiting = [
        _answer(place, prompt, until, length, ends, special)
        for place, (prompt, until, length) in enumerate(zip(prompts, stops, most, strict=True))
    ]
    waiting.sort(key=lambda answer: answer.need, reverse=True)
    found = _answers(batch, tokenizer, deque(waiting), at_once or ROWS_AT_ONCE)
    done = dict(track(found, what=what, unit="answer", total=len(prompts)))
    return [done[place] for place in range(len(prompts))]


def engaged(found: Sequence[Generation], prompts: Sequence[Sequence[int]], held: HeldCache) -> list[Generation]:
    """Each with whether the cache held any of its tokens in few bits. Nobody asks behind an answer's last token."""
    asked = [len(prompt) + max(len(each.tokens) - 1, 0) for each, prompt in zip(found, prompts, strict=True)]
    return [replace(each, engaged=held.engages(tokens)) for each, tokens in zip(found, asked, strict=True)]


def cut(text: str, stops: Iterable[str]) -> str:
    """The text up to the first stop string: lm-eval's rule, which takes them in their order and ignores empty ones."""
    for stop in stops:
        if stop:
            text = text.partition(stop)[0]
    return text


def _answer(
    place: int, prompt: Sequence[int], stops: Sequence[str], most: int, ends: Iterable[int], special: Mapping[str, int]
) -> _Answer:
    if not len(prompt):
        raise CorpusError(f"Prompt {place} has no tokens: there is nothing to go on from. Give it one, such as BOS.")
    if most < 1:
        raise CorpusError(f"The answer to prompt {place} may have {most} tokens: allow at least 1.")
    endings: dict[int, Ending] = {special[stop]: "stop" for stop in stops if stop in special}
    endings |= {int(token): "eos" for token in ends}
    plain = tuple(stop for stop in stops if stop and stop not in special)
    return _Answer(place=place, prompt=tuple(map(int, prompt)), stops=plain, most=most, endings=endings)


def _answers(batch: Batch, tokenizer: Any, waiting: deque[_Answer], at_once: int) -> Iterator[tuple[int, Generation]]:
    """Places and answers, as they end."""
    running: dict[int, _Answer] = {}  # by the batch's number for a sequence
    while waiting or running:
        while waiting and _fits(waiting[0], running.values(), at_once):
            answer = waiting.popleft()
            running[batch.insert(answer.prompt, answer.most)] = answer
        ended = list(_ended(batch.next(), running, tokenizer))
        batch.remove([number for number, _ in ended])
        for number, ending in ended:
            answer = running.pop(number)
            yield answer.place, answer.generation(ending, tokenizer)


def _ended(tokens: Iterable[Said], running: Mapping[int, _Answer], tokenizer: Any) -> Iterator[tuple[int, Ending]]:
    """Give every answer its next token; the numbers of those that this token ends."""
    for said in tokens:
        ending = running[said.sequence].take(said.token, tokenizer)
        if ending is None:
            continue
        if not said.usable():  # no number once, none ever after
            raise WeightError("The output head gives logits that are no numbers: not a usable model.")
        yield said.sequence, ending


def _fits(answer: _Answer, running: Collection[_Answer], at_once: int) -> bool:
    """Whether one more sequence has room: all are padded to the longest. One alone always has."""
    rows = len(running) + 1
    longest = max(answer.need, *(other.need for other in running), 0)
    return rows == 1 or (rows <= min(at_once, ROWS_AT_ONCE) and rows * longest <= KEYS_AT_ONCE)


def _has_any(text: str, stops: Iterable[str]) -> bool:
    return any(stop in text for stop in stops)


def _decoded(tokenizer: Any, tokens: Sequence[int]) -> str:
    """Text as lm-eval decodes it."""
    return str(tokenizer.decode(tokens, skip_special_tokens=True))
