"""How T2 reads a text: which tokens stand in which window, and which of them are scored there.

Protocol: the text is tokenized whole and cut into windows, each `stride` tokens further than the one before; what a
window shares with the one before is its context and not scored again, so that every token of the text is scored in one
window. By default windows are drawn at random from all of the text (see window_sampling), each of 256 tokens of which
the last 64 are scored: the figure is the perplexity of the whole text, read in such windows, known as well as so many
of them can tell. With sampling `head` the text's first `tokens` tokens are read, in windows that do not overlap: then
the figure is of those tokens. Where the tokenizer puts tokens in front of a text by itself (BOS, or whatever it is),
every window starts with all of them; where it does not, a token that nothing stands in front of is not scored. What it
puts behind a text (EOS) is left out.
"""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_quantbench.catalog.corpora import CONTEXT_TOKENS, HEAD_TOKENS, SCORED_TOKENS, WINDOW_TOKENS, Sampling
from pytest_quantbench.checkpoints.token_offsets import Offsets, byte_offsets
from pytest_quantbench.checkpoints.tokenizer import frame_of, refuse_unknown_tokens, special_in
from pytest_quantbench.engines.parameters import Capacity
from pytest_quantbench.errors import CorpusError
from pytest_quantbench.fetch.texts import Text
from pytest_quantbench.measures.perplexity.windows import check_length, check_windows, grid, still_open, windows
from pytest_quantbench.stats.series import unigram_nats
from pytest_quantbench.stats.window_sampling import Drawn, Places, order

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How a text is read: so many tokens (None: all), in windows of `context`, each `stride` after the one before.

    None: windows that are drawn have 256 tokens and begin every 64, those of a text's head 2,048 and do not overlap.
    """

    tokens: int | None
    context: int | None = None
    stride: int | None = None
    sampling: Sampling = "windows"
    seed: int = 0  # of the draw
    fewest_windows: int = 0  # that are drawn, as far as the text has so many


HEAD = Reading(tokens=HEAD_TOKENS, sampling="head")


class Tokens:
    """A text as one model's tokenizer sees it; `capacity` says how much of it the model takes at once."""

    def __init__(self, text: Text, tokenizer: Any, capacity: Capacity) -> None:
        self.text = text
        self.tokenizer = tokenizer
        self.capacity = capacity
        self.ids: Sequence[int] = tokenizer.encode(text.content, add_special_tokens=False, verbose=False)
        self.frame = frame_of(tokenizer)
        refuse_unknown_tokens([*self.front, *self.ids], capacity.vocabulary)
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

    @cached_property
    def unigram_nats(self) -> "np.ndarray[Any, np.dtype[np.float64]]":
        """(tokens,) the loss of each by how often it occurs in the rest of the text, whatever stands before it."""
        return unigram_nats(np.asarray(self.ids), self.capacity.vocabulary or max(self.ids) + 1)


class Script:
    """What is read, the same for every recipe of a model. With `there` tokens scored before, the rest, as far as the
    text has so many. Other texts may be read on the same walk, by name: `beside`.

    Raises CorpusError where the text is shorter than two windows.
    """

    def __init__(
        self,
        tokens: Tokens,
        reading: Reading,
        there: int | None = None,
        beside: Mapping[str, "Script"] = MappingProxyType({}),
    ) -> None:
        self.tokens = tokens
        self.reading = reading
        self.beside = beside
        drawing = reading.sampling == "windows"
        context = reading.context or (WINDOW_TOKENS if drawing else CONTEXT_TOKENS)
        # a window's last token is no input: a prefix of one token takes its place, a longer one more of the window's
        room = tokens.capacity.longest_input(context) - max(0, len(tokens.front) - 1)
        self.context = min(context, room)
        if self.context < 2:
            raise CorpusError(
                f"--context {context} leaves no room behind the {len(tokens.front)} tokens that the tokenizer puts in "
                f"front of a text: give a larger one."
            )
        self.stride = min(reading.stride or (SCORED_TOKENS if drawing else self.context), self.context)
        available = len(tokens.ids)
        wanted = max(reading.tokens or available, min(reading.fewest_windows * self.stride, available))
        self.wanted = min(wanted, available)
        if there is None:
            size = self.stride if drawing else self.context
            (check_windows if drawing else check_length)(available, wanted, size, tokens.text.name)
        self.scores_first = bool(tokens.front)
        self.drawn: Drawn | None = None
        if drawing:
            self._draw(available)
        else:
            self.whole = windows(self.wanted, self.context, self.stride, self.scores_first)
        self.there = there or 0
        # the windows that are not scored to their end, and how many tokens of the first of them are scored already
        self.open, self.again = still_open(self.whole, self.there)

    def _draw(self, available: int) -> None:
        """Choose windows, in the order of the draw, that score as many tokens as are wanted; only whole ones."""
        cut = grid(available, self.context, self.stride, self.scores_first)
        chosen = order(len(cut), self.reading.seed)[: -(-self.wanted // self.stride)]
        self.whole = [cut[place] for place in chosen]
        self.wanted = available if len(chosen) == len(cut) else len(chosen) * self.stride
        self.drawn = Drawn(
            population=len(cut),
            tokens=self.stride,
            begins=np.array([window.first for window in self.whole]),
            counts=np.array([window.scored for window in self.whole]),
        )

    def batches(self) -> list[NDArray[np.int32]]:
        """(1, tokens) inputs of every open window, those of the texts beside behind them: the prefix first, and not the
        last token.
        """
        tokens = self.tokens
        own = [
            np.array([[*tokens.front, *tokens.ids[window.begin : window.end - 1]]], np.int32) for window in self.open
        ]
        return own + [batch for script in self.beside.values() for batch in script.batches()]

    def __len__(self) -> int:
        """How many batches there are."""
        return len(self.open) + sum(map(len, self.beside.values()))

    @property
    def places(self) -> Places:
        """The places in the text of all tokens that are scored, in the order of their losses."""
        return np.concatenate([np.arange(window.first, window.end) for window in self.whole])

    @property
    def open_depths(self) -> NDArray[np.int32]:
        """(tokens,) of the tokens that are scored now: how many stand in front of each in its window, what every window
        begins with counted in.
        """
        begun = [window.first + (self.again if place == 0 else 0) for place, window in enumerate(self.open)]
        own = [
            np.arange(first, window.end) - window.begin + len(self.tokens.front)
            for first, window in zip(begun, self.open, strict=True)
        ]
        return np.concatenate([np.zeros(0, np.int64), *own]).astype(np.int32)

    @cached_property
    def scored_bytes(self) -> int:
        """The UTF-8 length of the text of all tokens that are scored, those before included."""
        return sum(self.tokens.bytes_of(window.first, window.end) for window in self.whole)

    @property
    def protocol(self) -> str:
        """In one line. Perplexities of different protocols are not compared."""
        start = self.tokens.begun_with
        if self.drawn is not None:
            how = f"windows of {self.context}, the last {self.stride} tokens of each scored"
            return f"all of the text in {how}, drawn at random (seed {self.reading.seed}), {start}, float32"
        apart = "that do not overlap" if self.stride == self.context else f"each {self.stride} after the one before"
        return f"from the first token on, windows of {self.context} {apart}, {start}, float32"


def protocol_sha256(protocol: str, corpus_sha256: str) -> str:
    """Hash of how a text was read, and of the text."""
    return hashlib.sha256(f"{protocol}\n{corpus_sha256}".encode()).hexdigest()
