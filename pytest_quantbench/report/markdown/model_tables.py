"""One table for each model: a row per figure, a column per recipe, few enough to be read without scrolling."""

from collections.abc import Iterator, Sequence

from pytest_quantbench.catalog.recipes import REFERENCE
from pytest_quantbench.record.schema import Record
from pytest_quantbench.report import markdown_table
from pytest_quantbench.report.markdown import figures
from pytest_quantbench.report.markdown.escaped import code, text
from pytest_quantbench.report.markdown.rows import GROUPS
from pytest_quantbench.report.tables import MISSING, tiny

MOST_COLUMNS = 5  # recipes beside each other


def section(records: Sequence[Record]) -> list[str]:
    """All models, one after the other."""
    lines = ["## Model by model", ""]
    for model in dict.fromkeys(record.model_id for record in records):
        mine = [record for record in records if record.model_id == model]
        lines += [f"### {text(model)}", "", *_tables(mine), *_notes(mine)]
    return lines


def _tables(records: Sequence[Record]) -> list[str]:
    """As many tables as it takes, about equally wide."""
    parts = -(-len(records) // MOST_COLUMNS)
    width = -(-len(records) // parts)
    lines = []
    for begin in range(0, len(records), width):
        shown = records[begin : begin + width]
        rows = [row for group in GROUPS for row in _group(group.title, group.rows(shown), shown)]
        lines += [*markdown_table.table(["", *(text(record.recipe) for record in shown)], rows), ""]
    return lines


def _group(title: str, rows: Sequence[figures.Row], records: Sequence[Record]) -> list[list[str]]:
    """The rows of which any record has a figure, under a title."""
    found = [[row.label, *(row.figure(record) for record in records)] for row in rows]
    shown = [row for row in found if any(cell != MISSING for cell in row[1:])]
    return [[f"**{title}**", *("" for _ in records)], *shown] if shown else []


def _notes(records: Sequence[Record]) -> list[str]:
    """What is too long for a cell: which matrices are worst, and the noise floor."""
    lines = [f"- {told}" for record in records for told in _of_cell(record)]
    return [*lines, ""] if lines else []


def _of_cell(record: Record) -> Iterator[str]:
    part, floor = record.weights, record.noise_floor
    if part is not None and part.worst_tensor is not None:
        least = part.least_cosine_tensor
        also = f", least cosine {code(least)}" if least not in (None, part.worst_tensor) and least else ""
        yield f"{text(record.recipe)}: lowest SNR {code(part.worst_tensor)}{also}"
    if record.recipe == REFERENCE.id and floor is not None:
        told = {
            "perplexity {} points": floor.perplexity_points,
            "KL divergence {} nats per token": floor.kl_nats,
            "accuracy {} points": floor.drop_points,
            "{} % of the answers turn": floor.flipped_points,
        }
        shown = [each.format(tiny(value)) for each, value in told.items() if value is not None]
        if shown:
            yield f"noise floor, BF16 against itself between float32 and bfloat16 activations: {', '.join(shown)}"
