"""`quantbench pick`: choices as the lines of a terminal. The answer stands first."""

from collections.abc import Iterator, Sequence
from textwrap import wrap

from pytest_quantbench.catalog.recipes import LEVELS
from pytest_quantbench.plan.pick import Choice, Weighed
from pytest_quantbench.record.schema import Record
from pytest_quantbench.storage.files import GB

WIDTH = 80
HOW_SURE = (
    "Brackets hold the interval in which a figure lies (5 % error on each side, by itself). That any cell is said to "
    "meet what it does not has a probability of at most 5 %, over all cells of a model (Holm's correction)."
)
NOT_WEIGHED = (
    "a quantized key-value cache makes no files smaller, and what it takes and loses is in the report (`quantbench "
    "report`)"
)


def lines(choices: Sequence[Choice], width: int = WIDTH) -> list[str]:
    """Of every model what to take, then every other cell with what speaks against it."""
    found = [line for choice in choices for line in (*_of_model(choice, width), "")]
    return [*found, *wrap(HOW_SURE, width)]


def _of_model(choice: Choice, width: int) -> Iterator[str]:
    """The answer, then what is smaller and was not taken; what is larger would change nothing."""
    picked = choice.picked
    if picked is None:
        yield from wrap(f"{choice.model}: nothing meets all that is required.", width)
    else:
        answer = f"{choice.model}: take {picked.record.recipe} ({_size(picked)}), the smallest that meets all."
        yield from wrap(answer, width, break_on_hyphens=False)
        yield from _reasons(picked, width)
    largest = float("inf") if picked is None else picked.gigabytes
    for title, cells in (("undecided", choice.undecided), ("rejected", choice.rejected)):
        for each in cells:
            if each.gigabytes <= largest:
                smaller = "" if picked is None else ", and smaller"
                head = f"{title}{smaller}: {each.record.recipe} ({_size(each)})"
                yield from wrap(head, width, break_on_hyphens=False)
                yield from _reasons(each, width)
    others = [*choice.larger, *choice.undecided, *choice.rejected]
    if larger := [f"{each.record.recipe} ({each.word})" for each in others if each.gigabytes >= largest]:
        yield from wrap(f"not smaller: {', '.join(larger)}", width, subsequent_indent="  ", break_on_hyphens=False)
    if choice.caches:
        told = f"not weighed: {', '.join(choice.caches)}: {NOT_WEIGHED}"
        yield from wrap(told, width, subsequent_indent="  ", break_on_hyphens=False)


def _size(weighed: Weighed) -> str:
    size = weighed.record.compression
    if size is None:
        return "size not known"
    shown = f"{size.compressed_gb:.3g} GB" if size.compressed_gb >= 0.1 else f"{size.compressed_gb * GB / 1e6:.3g} MB"
    return f"{shown}, {size.bits_per_weight:.2f} bits per weight"


def _selected(record: Record) -> str:
    """The options that select a cell: recipes that are no level's default are asked for by name."""
    named = "" if record.recipe in LEVELS else f" --recipe {record.recipe}"
    return f"-k {record.cell}{'' if record.candidate else named}"


def _reasons(weighed: Weighed, width: int) -> Iterator[str]:
    """Of a cell that was picked every figure; of another what speaks against it, and what would decide it."""
    told = [weighed.why] if weighed.why else []
    told += [
        each.sentence + (f"; {each.settled_by}" if each.settled_by else "")
        for each in weighed.weighings
        if each.word == weighed.word
    ]
    for sentence in told:
        whole = sentence.replace("-k CELL", _selected(weighed.record))
        yield from wrap(whole, width, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False)
