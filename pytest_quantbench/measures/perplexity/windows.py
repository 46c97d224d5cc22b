"""Windows over a text: which tokens each reads, and which of them it scores. Every token is scored in one window."""

from collections.abc import Sequence
from dataclasses import dataclass

from pytest_quantbench.errors import CorpusError


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Tokens `begin` to `end` of the text are read, and those from `first` on scored."""

    begin: int
    end: int
    first: int

    @property
    def scored(self) -> int:
        """How many tokens are scored."""
        return self.end - self.first


def grid(available: int, context: int, stride: int, scores_first: bool) -> list[Window]:
    """The windows that score a text `stride` tokens at a time, each with what stands before them in `context` tokens.

    Unlike those of a head, the first ones score no more than others, with less before them.
    """
    ends = range(stride, available + stride, stride)
    found = [Window(begin=max(0, end - context), end=min(end, available), first=end - stride) for end in ends]
    if not scores_first:
        found = [Window(begin=w.begin, end=w.end, first=max(w.first, w.begin + 1)) for w in found]
    return [window for window in found if window.scored > 0]


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


def check_length(available: int, wanted: int, context: int, name: str) -> None:
    """Raise CorpusError where the text has fewer tokens than wanted, or fewer than two windows have."""
    window = min(context, wanted)
    if available < max(wanted, 2 * window) or window < 2:
        raise CorpusError(
            f"The corpus {name} has {available} tokens; two windows of {window} are the least that is scored, and "
            f"{wanted} tokens were asked for. Give a longer text with --corpus PATH, or fewer with --tokens N."
        )


def check_windows(available: int, wanted: int, stride: int, name: str) -> None:
    """Raise CorpusError where the text has fewer tokens than wanted, or they are fewer than two windows."""
    if available < max(wanted, 2 * stride):
        raise CorpusError(
            f"The corpus {name} has {available} tokens; two windows that score {stride} each are the least, and "
            f"{wanted} tokens were asked for. Give a longer text with --corpus PATH, or fewer with --tokens N."
        )
    if wanted < 2 * stride:
        raise CorpusError(
            f"--tokens {wanted} is less than two windows that score {stride} tokens each, and the error of a sample "
            f"shows between windows. Give --tokens {2 * stride} or more, a smaller --stride, or --sampling head."
        )


def still_open(whole: Sequence[Window], there: int) -> tuple[list[Window], int]:
    """The windows that are not scored to their end where `there` tokens are, and how many of the first one's are."""
    for number, window in enumerate(whole):
        if there < window.scored:
            return list(whole[number:]), there
        there -= window.scored
    return [], 0
