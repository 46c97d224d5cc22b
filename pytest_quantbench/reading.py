"""How T2 reads a text: which tokens stand in which window, and which of them are scored there.

Protocol: the text is tokenized whole, and its first `tokens` tokens are read in windows of `context` tokens, each
`stride` further than the one before; what a window shares with the one before is its context and not scored again. By
default windows do not overlap. Where the tokenizer puts tokens in front of a text by itself (BOS, or whatever it is),
every window starts with all of them and the first window's first token is scored too; where it does not, a token that
nothing stands in front of is not scored. What it puts behind a text (EOS) is left out.
"""

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import mlx.core as mx

from pytest_quantbench.catalog import CONTEXT_TOKENS
from pytest_quantbench.errors import CorpusError
from pytest_quantbench.hub import Text
from pytest_quantbench.offsets import Offsets, byte_offsets
from pytest_quantbench.skeleton import Config
from pytest_quantbench.tokens import frame_of, longest_input, refuse_unknown_tokens, special_in

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How a text is read: so many tokens (None: all), in windows of `context`, each `stride` after the one before."""

    tokens: int | None
    context: int = CONTEXT_TOKENS
    stride: int | None = None  # None: the context, no overlap


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Tokens `begin` to `end` of the text are read, and those from `first` on scored."""

    begin: int
    end: int
    first: int


class Tokens:
    """A text as one model's tokenizer sees it."""

    def __init__(self, text: Text, tokenizer: Any, config: Config) -> None:
        self.text = text
        self.tokenizer = tokenizer
        self.config = config
        self.ids: Sequence[int] = tokenizer.encode(text.content, add_special_tokens=False, verbose=False)
        self.frame = frame_of(tokenizer)
        refuse_unknown_tokens([*self.front, *self.ids], config)
        self.special = special_in(tokenizer, text.content, self.ids)
        if self.special:
            log.warning(
                f"The text {text.name} contains {', '.join(self.special)}: read as special tokens, not as text."
            )

    @property
    def front(self) -> tuple[int, ...]:
        """What every window begins with."""
        return self.frame.prefix

    @property
    def begun_with(self) -> str:
        """What stands in front of every window, and what is done with special tokens, for the protocol."""
        names = self.frame.named(self.tokenizer)
        usual = self.front == (self.tokenizer.bos_token_id,)
        told = f"every window starts with {'BOS' if usual else ' '.join(names['prefix'])}"
        told = told if self.front else "no BOS, what has nothing before it is not scored"
        told += f", {' '.join(names['suffix_left_out'])} behind the text left out" if self.frame.suffix else ""
        return told + (f", {' '.join(self.special)} in the text read as special tokens" if self.special else "")

    @cached_property
    def byte_offsets(self) -> Offsets:
        """(tokens + 1,) byte of the text's UTF-8 form at which every token begins; the last is the text's length."""
        return byte_offsets(self.tokenizer, self.text.content, self.ids)

    def bytes_of(self, begin: int, end: int) -> int:
        """How many bytes of the text's UTF-8 form the tokens from `begin` to before `end` are."""
        return int(self.byte_offsets[end] - self.byte_offsets[begin])


class Script:
    """What is read, the same for every recipe of a model. With `there` tokens scored before, the rest, as far as the
    text has so many.

    Raises CorpusError where the text is shorter than two windows.
    """

    def __init__(self, tokens: Tokens, reading: Reading, there: int | None = None) -> None:
        self.tokens = tokens
        # a window's last token is no input: a prefix of one token takes its place, a longer one more of the window's
        room = longest_input(tokens.config, reading.context) - max(0, len(tokens.front) - 1)
        self.context = min(reading.context, room)
        self.stride = min(reading.stride or self.context, self.context)
        available = len(tokens.ids)
        wanted = available if reading.tokens is None else reading.tokens
        self.wanted = (
            check_length(available, wanted, self.context, tokens.text.name) if there is None else min(wanted, available)
        )
        self.scores_first = bool(tokens.front)
        self.whole = windows(self.wanted, self.context, self.stride, self.scores_first)
        self.there = there or 0
        # the windows that are not scored to their end, and how many tokens of the first of them are scored already
        self.open, self.again = _still_open(self.whole, self.there)

    def batches(self) -> list[mx.array]:
        """(1, tokens) inputs of every open window: the prefix first, and not the last token."""
        return [
            mx.array([[*self.tokens.front, *self.tokens.ids[window.begin : window.end - 1]]]) for window in self.open
        ]

    @cached_property
    def scored_bytes(self) -> int:
        """The UTF-8 length of the text of all tokens that are scored, those before included."""
        return sum(self.tokens.bytes_of(window.first, window.end) for window in self.whole)

    @property
    def protocol(self) -> str:
        """In one line. Perplexities of different protocols are not compared."""
        apart = "that do not overlap" if self.stride == self.context else f"each {self.stride} after the one before"
        return f"from the first token on, windows of {self.context} {apart}, {self.tokens.begun_with}, float32"


def protocol_sha256(protocol: str, corpus_sha256: str) -> str:
    """Hash of how a text was read, and of the text."""
    return hashlib.sha256(f"{protocol}\n{corpus_sha256}".encode()).hexdigest()


def windows(tokens: int, context: int, stride: int, scores_first: bool) -> list[Window]:
    """The windows over so many tokens. `scores_first`: something stands in front of a window's first token."""
    found: list[Window] = []
    reached = 0
    while reached < tokens:
        begin = len(found) * stride
        end = min(begin + context, tokens)
        first = reached if scores_first or reached > begin else begin + 1
        found.append(Window(begin=begin, end=end, first=first))
        reached = end
    return [window for window in found if window.first < window.end]


def check_length(available: int, wanted: int, context: int, name: str) -> int:
    """The number wanted. Raises CorpusError where the text has fewer tokens, or fewer than two windows have."""
    window = min(context, wanted)
    if available < max(wanted, 2 * window) or window < 2:
        raise CorpusError(
            f"The corpus {name} has {available} tokens; two windows of {window} are the least that is scored, and "
            f"{wanted} tokens were asked for. Give a longer text with --corpus PATH, or fewer with --tokens N."
        )
    return wanted


def _still_open(whole: Sequence[Window], there: int) -> tuple[list[Window], int]:
    for number, window in enumerate(whole):
        count = window.end - window.first
        if there < count:
            return list(whole[number:]), there
        there -= count
    return [], 0
