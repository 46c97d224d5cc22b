"""Records → a terminal's tables: a block for each model, a row for each recipe. Computes nothing.

Of the layouts the first is taken that the terminal is wide enough for; where none fits, as in 40 columns, a recipe's
figures stand behind each other below its name. Nothing is cut off: a name that is too long for its column stands on a
line of its own.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pytest_quantbench.record.schema import Record
from pytest_quantbench.report.answers import answer
from pytest_quantbench.report.coloured import WORD_TONES, Line, Piece, plain
from pytest_quantbench.report.figures import Column, layouts, listed
from pytest_quantbench.report.text_width import columns, left, printable, right, wrapped

GAP = " "  # before a figure; behind the one before it there is room for a sign
INDENT = "  "  # of a recipe below its model
SHORT_NAME, LONG_NAME = 9, 28  # columns that recipes' names get at least, and at most


@dataclass(frozen=True, slots=True, kw_only=True)
class _Table:
    """A layout with the widths that it takes: of names, and of the figures by column."""

    columns: Sequence[Column]
    names: int
    figures: Sequence[int]


def blocks(records: Sequence[Record], width: int) -> list[Line]:
    """A block for each model; blank lines between them."""
    table = next(filter(None, (_fitting(records, width, *layout) for layout in layouts(records))), None)
    lines: list[Line] = []
    for model in dict.fromkeys(record.model_id for record in records):
        own = [record for record in records if record.model_id == model]
        lines += [plain("")] if lines else []
        lines += [plain(line, "title") for line in wrapped(model, width)]
        lines += _listed(own, width) if table is None else _rows(own, table, width)
    return lines


def _fitting(records: Sequence[Record], width: int, least: int, layout: Sequence[Column]) -> _Table | None:
    """The layout, with as much room for names as they need and there is; None where there is too little."""
    if width < least:
        return None
    figures = [max(columns(text) for text in (each.title, *map(each.shown, records))) for each in layout]
    taken = sum(len(GAP) + figure + 1 for figure in figures) + max(columns(_word(record).text) for record in records)
    longest = max(columns(INDENT + printable(record.recipe)) for record in records)
    names = min(longest, LONG_NAME, width - taken)
    return _Table(columns=layout, names=names, figures=figures) if names >= min(longest, SHORT_NAME) else None


def _word(record: Record) -> Piece:
    """What is said of a cell, with room before it."""
    found = answer(record)
    if found is None:
        return Piece(f"{GAP}reference", "aside")
    return Piece(f"{GAP}{found.word}", WORD_TONES.get(found.word, "plain"))


def _rows(records: Sequence[Record], table: _Table, width: int) -> Iterator[Line]:
    titles = [right(each.title, len(GAP) + figure) for each, figure in zip(table.columns, table.figures, strict=True)]
    yield plain(left("", table.names) + " ".join([*titles, f"{GAP}verdict"]), "aside")
    for record in records:
        name = INDENT + printable(record.recipe)
        if columns(name) > table.names:
            yield from map(plain, wrapped(record.recipe, width, INDENT))
            name = ""
        pieces = [Piece(left(name, table.names))]
        for each, figure in zip(table.columns, table.figures, strict=True):
            pieces += [Piece(right(each.shown(record), len(GAP) + figure)), each.sign(record)]
        yield [*pieces, _word(record)]


def _listed(records: Sequence[Record], width: int) -> Iterator[Line]:
    """For a terminal that is too narrow for a table: figures behind each other."""
    for record in records:
        word = _word(record)
        *before, last = wrapped(f"{record.recipe}: {word.text}", width, INDENT)
        yield from map(plain, before)
        yield plain(last, word.tone)
        shown = [(each.title.rstrip(" ±×"), each.shown(record), each.sign(record).text) for each in listed([record])]
        told = ", ".join(f"{title} {figure}{sign.strip()}" for title, figure, sign in shown)
        yield from map(plain, wrapped(told, width, 2 * INDENT))
