"""Records and raw samples → one HTML file that needs no network: the answer, the table of cells, charts, a page a cell.

The table and the sentences are in the HTML itself and read without a script. What only a script shows (a cell's page,
charts) is packed and opened when it is asked for, so that a thousand cells open at once.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any

import msgspec
from jinja2 import Environment, PackageLoader, StrictUndefined

from pytest_quantbench.catalog.recipes import REFERENCE
from pytest_quantbench.judge.verdict import Verdict
from pytest_quantbench.record.schema import Record
from pytest_quantbench.report import charts
from pytest_quantbench.report.answers import answers
from pytest_quantbench.report.charts import Charted, theme
from pytest_quantbench.report.html import labels, limits, names, overview, packing
from pytest_quantbench.report.html.columns import REFERENCE_WORD, columns, method
from pytest_quantbench.report.html.how_sure import Certainty
from pytest_quantbench.report.html.rows import STATES, Row, rows
from pytest_quantbench.report.html.samples import samples
from pytest_quantbench.report.html.typeset import typeset
from pytest_quantbench.report.tables import MARKS

SCRIPTS = ("elements", "drawings", "listing", "figures", "samples", "cell", "charts", "main")  # in this order
STYLES = ("style", "cells", "print")
LEGEND = (
    "Marks: ✓ pass; ✗ fail; ? undecided; ! better than its original; · measured, not judged; – not measured. A mark is "
    "of the worst of a figure's criteria; the cell's page has each of them. Brackets hold the interval that a figure "
    "lies in, with 5 % error on each side, or less where a check was decided before its last look. A judged figure is "
    "of the tokens or questions that decided; charts are of all that were measured."
)
WORDS = (
    "may ship",
    "may not ship",
    "undecided",
    "not judged",
    REFERENCE_WORD,
)  # in the order in which they are counted


def page(cells: Sequence[Charted], commands: Sequence[str]) -> str:
    """The whole page. `commands`: how to repeat it."""
    records = [cell.record for cell in cells]
    shown, titles = rows(records), columns(records)
    drawn, bundle = _charts(cells)
    script = _script()
    words = [row.word for row in shown]
    made: str = _template().render(
        policy=packing.policy([script, *([bundle] if bundle else [])]),
        style="\n".join(_resource(f"{name}.css") for name in STYLES),
        script=script,
        sentences=[typeset(sentence) for sentence in answers(records)],
        counts={word: words.count(word) for word in WORDS},
        rows=shown,
        columns=titles,
        states={name: (told, sum(name in row.states for row in shown)) for name, told in STATES.items()},
        limits=limits.limits(records),
        limit_titles=limits.titles(records),
        smallest=overview.smallest(cells),
        meanings=names.MEANINGS,
        marks=MARKS,
        legend=LEGEND,
        levels=dict.fromkeys(row.level for row in shown),
        models=dict.fromkeys(row.model for row in shown),
        charts=drawn,
        charts_missing=charts.missing(),
        bundle=packing.packed(bundle) if bundle else "",
        themes=packing.inline_json({"light": theme.config(), "dark": theme.config(dark=True)}),
        labels=packing.inline_json(labels.table()),
        packets=_packets(cells, shown),
        spent=overview.spent(records),
        stages=list(overview.STAGES),
        price=overview.price(records),
        priced=any(record.cost for record in records),
        places=overview.places(records),
        protocols=overview.protocols(records),
        commands=commands,
        newest=max((record.timestamp for record in records), default=""),
    )
    return made


def _charts(cells: Sequence[Charted]) -> tuple[list[dict[str, str]], str]:
    """Every chart that has something to draw, its specification packed; and the JavaScript that draws it, empty where
    there is none or the extra is not installed.
    """
    if charts.missing():
        return [], ""
    drawn = [(chart, chart.draw(cells, width=None)) for chart in charts.CHARTS.values()]
    found = [
        {"name": chart.name, "title": chart.title, "tells": chart.tells, "packed": packing.packed_json(specification)}
        for chart, specification in drawn
        if specification is not None
    ]
    return found, _bundle() if found else ""


@cache
def _bundle() -> str:
    """Vega, Vega-Lite and Vega-Embed in one script, which sets `window.vegaEmbed`."""
    import vl_convert

    return vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")


def _packets(cells: Sequence[Charted], shown: Sequence[Row]) -> list[dict[str, str]]:
    """What the page of each cell is made of, packed, by the cell's name."""
    references = {cell.record.model_id: cell for cell in cells if cell.record.recipe == REFERENCE.id}
    return [
        {"name": row.name, "packed": packing.packed_json(_packet(cell, row, references.get(row.model)))}
        for cell, row in zip(cells, shown, strict=True)
    ]


def _packet(cell: Charted, row: Row, reference: Charted | None) -> dict[str, Any]:
    record = cell.record
    other: Mapping[str, Any] = reference.arrays if reference is not None and reference is not cell else {}
    return {
        "word": row.word,
        "outcome": row.outcome,
        "sentence": typeset(row.answer.sentence) if row.answer else "",
        "settled_by": typeset(row.answer.settled_by) if row.answer else "",
        "judged": row.judged,
        "method": method(record),
        "reference": reference.record.cell if reference is not None and reference is not cell else "",
        "told": [_told(*each) for each in zip(record.verdicts, row.certainties, strict=True)],
        "file": record.file_stem,
        "record": msgspec.to_builtins(record),
        "has_arrays": bool(cell.arrays),
        "samples": samples(cell.arrays, other, _same_text(record, reference.record if reference else None)),
    }


def _told(verdict: Verdict, sure: Certainty) -> dict[str, str]:
    """The sentences on one verdict, as the page shows them."""
    said = {"sentence": typeset(verdict.sentence), "needed": typeset(verdict.needed)}
    return said | {"alone": sure.alone, "together": sure.together, "whole": sure.whole}


def _same_text(record: Record, reference: Record | None) -> bool:
    """Whether T2 of both has read the same tokens in the same way, as paired differences need."""
    if reference is None or reference.perplexity is None or record.perplexity is None:
        return False
    return record.perplexity.protocol_sha256 == reference.perplexity.protocol_sha256


@cache
def _resource(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _script() -> str:
    """The page's own script: its files in one function, so that their names are theirs alone."""
    files = "\n".join(_resource(f"script/{name}.js") for name in SCRIPTS)
    return f'(() => {{\n"use strict";\n{files}\n}})();\n'


@cache
def _template() -> Any:
    environment = Environment(
        loader=PackageLoader(__package__, "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("template.html")
