"""A file that its runtime has loaded: logits of token ids, and greedy generation timed token by token.

It takes token ids and gives logits, so that tokenizer and losses are the same on both sides: what differs is how the
runtime multiplies. Texts are read a batch at a time, as far as its logits fit in memory.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pytest_quantbench.engines.logits import LOGITS_AT_ONCE, HostLogits
from pytest_quantbench.engines.resident import Timed
from pytest_quantbench.engines.runtimes import Process, default_threads
from pytest_quantbench.engines.runtimes.child import BATCH_TOKENS
from pytest_quantbench.errors import RunnerError


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """Tokens `begin` to `end` of a sequence, read at once, and how many of the last are scored."""

    begin: int
    end: int
    scored: int


class Deployed:
    """`source`, loaded in this process for so many positions; `told` is how it is run, in one line.

    `before_bytes` is the most memory that the process took before, `peak_bytes` the most so far, pages of the mapped
    file included; `had_bytes` and `has_bytes` are what it had before and has behind loading. It was loaded at the time
    `loaded_at` of `time.monotonic()`, which is the whole system's.
    """

    def __init__(
        self,
        process: Process,
        source: Path,
        *,
        context: int,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        values = {
            "source": str(source),
            "context": context,
            "threads": default_threads(),
            "options": dict(options or {}),
        }
        answer = process.ask("load", values).values
        self._process, self.name = process, process.name
        self.vocabulary, self.told = int(answer["vocabulary"]), str(answer["told"])
        self.load_seconds, self.loaded_at = float(answer["seconds"]), float(answer["at"])
        self.had_bytes, self.has_bytes = int(answer["had_bytes"]), int(answer["resident_bytes"])
        self.before_bytes, self.peak_bytes = int(answer["before_bytes"]), int(answer["peak_bytes"])
        self.read_seconds = 0.0  # of all that was read so far

    def logits(self, ids: Sequence[int], scored: int) -> Iterator[HostLogits]:
        """The logits of a sequence's last `scored` positions, some at a time; nothing stands before it.

        Raises RunnerError where the runtime does not give them.
        """
        tokens = np.asarray(ids, np.int32)
        for piece in pieces(len(tokens), scored, max(1, LOGITS_AT_ONCE // self.vocabulary)):
            values = {"scored": piece.scored, "anew": piece.begin == 0}
            answer = self._process.ask("read", values, {"ids": tokens[piece.begin : piece.end]})
            rows = answer.arrays.get("logits")
            if rows is None or rows.shape != (piece.scored, self.vocabulary) or rows.dtype != np.float32:
                raise RunnerError(f"{piece.scored} positions were read, and no logits of so many came back.")
            self.read_seconds += float(answer.values["seconds"])
            self.peak_bytes = int(answer.values["peak_bytes"])
            if piece.scored:
                yield HostLogits(rows)

    def timed(self, prompt: Sequence[int], new_tokens: int) -> Timed:
        """One greedy generation, timed token by token, the runtime's cache emptied before."""
        answer = self._process.ask("timed", {"new_tokens": new_tokens}, {"ids": np.asarray(prompt, np.int32)})
        self.peak_bytes = int(answer.values["peak_bytes"])
        tokens, seconds = (tuple(answer.arrays[name].tolist()) for name in ("tokens", "seconds"))
        return Timed(tokens=tokens, seconds=seconds)


def pieces(length: int, scored: int, most_scored: int, most_tokens: int = BATCH_TOKENS) -> Iterator[Piece]:
    """How a sequence is read whose last `scored` tokens are scored: as few pieces as both bounds allow."""
    begin, first = 0, length - scored
    while begin < length:
        end = min(begin + most_tokens, max(begin, first) + most_scored, length)
        yield Piece(begin=begin, end=end, scored=max(0, end - max(begin, first)))
        begin = end
