"""The tables that compare models: size, tokens per second, perplexity, accuracy; a row a model, two columns a level.

They show the default recipe of each level that has criteria; the others stand in the models' own tables.
"""

from collections.abc import Mapping, Sequence

from pytest_quantbench.catalog.criteria import CRITERIA, METRICS
from pytest_quantbench.catalog.recipes import LEVELS, REFERENCE
from pytest_quantbench.record.schema import Record
from pytest_quantbench.report import markdown_table
from pytest_quantbench.report.markdown import figures
from pytest_quantbench.report.markdown.comparisons import COMPARISONS, NOTHING, Comparison, Pair
from pytest_quantbench.report.markdown.escaped import text
from pytest_quantbench.report.tables import MISSING

OTHER = "†"
OTHER_LEGEND = (
    f"{OTHER}: the change is taken on other tokens or questions than the BF16 column shows, those that both sides have "
    "read; what BF16 had on them stands in the model's own table."
)


def recipes_shown(records: Sequence[Record]) -> list[str]:
    """The default recipes of levels with criteria; without any of these all recipes but candidates, which are files of
    one model.
    """
    found = {record.recipe for record in records if record.recipe != REFERENCE.id and record.candidate is None}
    return [level for level in LEVELS if level in CRITERIA and level in found] or sorted(found)


def section(records: Sequence[Record]) -> list[str]:
    """The four tables; nothing where there is nothing to compare with BF16."""
    recipes = recipes_shown(records)
    return [line for each in COMPARISONS for line in _table(each, records, recipes)] if recipes else []


def _table(table: Comparison, records: Sequence[Record], recipes: Sequence[str]) -> list[str]:
    cells = {(record.model_id, record.recipe): record for record in records}
    known = [record for record in records if record.recipe in (REFERENCE.id, *recipes)]
    rows, pairs = [], list[Pair]()
    for model in dict.fromkeys(record.model_id for record in known):
        mine = [record for record in known if record.model_id == model]
        for of in dict.fromkeys(key for record in mine for key in table.keys(record)):
            row, found = _row(table, of, mine, [cells.get((model, recipe)) for recipe in recipes])
            rows.append([text(model), *([text(of)] if table.of else []), *row])
            pairs += found
    if not any(pair != NOTHING for pair in pairs):
        return []
    limits = [cell for recipe in recipes for cell in ("", limit(table.metric, _of_recipe(recipe, records)))]
    if any(limits):
        rows.append(["*limit*", *([""] if table.of else []), "", *limits])
    heads = [head for recipe in recipes for head in (_head(recipe), f"{_head(recipe)}{table.change}")]
    names = ["Model", *filter(None, [table.of]), "BF16", *heads]
    shown = markdown_table.table(names, rows)
    return [
        f"## {table.title}",
        "",
        table.units + _how_many(table, pairs),
        "",
        *shown,
        "",
        *_notes(table, shown, known),
    ]


def _row(
    table: Comparison, of: str, mine: Sequence[Record], compressed: Sequence[Record | None]
) -> tuple[list[str], list[Pair]]:
    """The cells behind a row's name, and the pairs that they show. A size in BF16 is known without a BF16 cell."""
    one = next((record for record in mine if record.recipe == REFERENCE.id), None)
    sized = one or (mine[0] if table.metric == "size_reduction_percent" else None)
    before = MISSING if sized is None else table.reference(sized, of)
    row, pairs = [before], []
    for record in compressed:
        pair = NOTHING if record is None else table.pair(record, of)
        row += [pair.value, f"{pair.change}{_other(pair, before, one, record)}"]
        pairs.append(pair)
    return row, pairs


def _other(pair: Pair, before: str, reference: Record | None, record: Record | None) -> str:
    """The sign of a difference from another figure than the BF16 column's."""
    other = pair.reference not in ("", MISSING, before) or _reads_otherwise(reference, record)
    return f"{figures.TIED}{OTHER}" if pair.reference and before != MISSING and other else ""


def _reads_otherwise(reference: Record | None, record: Record | None) -> bool:
    """Whether T2 followed another protocol than that of the model's BF16 record, or had another text."""
    parts = [each and each.perplexity for each in (reference, record)]
    return None not in parts and len({part.protocol_sha256 for part in parts if part}) > 1


def _head(recipe: str) -> str:
    return recipe.upper() if recipe in LEVELS else text(recipe)


def _of_recipe(recipe: str, records: Sequence[Record]) -> list[Record]:
    return [record for record in records if record.recipe == recipe]


def limit(metric: str, records: Sequence[Record]) -> str:
    """The limits that verdicts were made with, as they stand in the records; empty where there is none."""
    found: dict[str, list[str]] = {}
    for verdict in (verdict for record in records for verdict in record.verdicts):
        if verdict.metric == metric and verdict.limit is not None and verdict.outcome != "informational":
            found.setdefault(bound(metric, verdict.limit), []).append(verdict.of)
    if metric != "accuracy_drop_points" or len(found) < 2:
        return ", ".join(found)
    return ", ".join(f"{told} ({text(', '.join(dict.fromkeys(of)))})" for told, of in found.items())


def bound(metric: str, value: float) -> str:
    """`< 3`, `≥ 70`: in the unit that the table has."""
    return f"{'≥' if METRICS[metric].better == 'higher' else '<'} {value:g}".replace(" ", figures.TIED)


def _how_many(table: Comparison, pairs: Sequence[Pair]) -> str:
    found = sorted({pair.items for pair in pairs if pair.items is not None})
    if not found:
        return ""
    items = METRICS[table.metric].items
    if len(found) == 1:
        return f" Each of {found[0]:,} {items}."
    return f" Each of {found[0]:,} to {found[-1]:,} {items}; the models' own tables say of how many."


def _notes(table: Comparison, shown: Sequence[str], records: Sequence[Record]) -> list[str]:
    """What signs of this table mean, and once the reasons for what it lacks."""
    notes = [OTHER_LEGEND] if any(OTHER in line for line in shown) else []
    if table.metric == "throughput_ratio":
        notes += _reasons(
            "No ratio", {r.cell: r.throughput.ratio_suppressed for r in records if r.throughput is not None}
        )
    unjudged = {
        record.cell: verdict.not_judged
        for record in records
        for verdict in record.verdicts
        if verdict.metric == table.metric
    }
    notes += _reasons("Not judged", unjudged)
    return [line for note in notes for line in (note, "")]


def _reasons(what: str, by_cell: Mapping[str, str]) -> list[str]:
    """`No ratio: the reason (cells)`, each reason once."""
    found: dict[str, list[str]] = {}
    for cell, reason in by_cell.items():
        if reason:
            found.setdefault(reason, []).append(cell)
    return [f"{what}: {text(reason)} ({text(', '.join(cells))})." for reason, cells in found.items()]
