"""All that is made of a results folder: combined.json, charts, the markdown report, the page; and where they lie."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from pytest_quantbench.catalog.settings import Settings
from pytest_quantbench.errors import QuantbenchError
from pytest_quantbench.record import folder
from pytest_quantbench.record.schema import Record, read
from pytest_quantbench.report import charts, html, markdown
from pytest_quantbench.report.charts import Charted
from pytest_quantbench.report.markdown.repeat import commands_of
from pytest_quantbench.storage.files import GB, write_atomically

MARKDOWN = "benchmark_int_quant.md"
PAGE = "report.html"


def publish(
    written: Sequence[Path], settings: Settings, reused: Sequence[str], freed: int
) -> tuple[list[Record], list[str]]:
    """Write the files that cover the whole results folder; returns this session's records, and lines on what was
    written. `reused`: what earlier sessions had measured; `freed`: bytes of BF16 weights that were deleted.
    """
    session: list[Record] = []
    try:
        session = folder.in_order([read(path) for path in dict.fromkeys(written)])
        lines: list[str] = []
        if reused:
            named = ", ".join(dict.fromkeys(reused))
            lines.append(f"measured in earlier sessions and taken from there (--fresh measures it again): {named}")
        if freed:
            lines.append(f"disk plan {settings.disk_plan.name}: {freed / GB:.1f} GB of BF16 weights deleted")
        records = folder.read_all(settings.results)
        return session, lines + write_all(records, settings.results, settings.report or settings.results / MARKDOWN)
    except QuantbenchError as error:  # the cells' own records are written: only what goes over all of them is not
        return session, [f"{type(error).__name__}: {error}"]


def write_all(records: Sequence[Record], results: Path, report: Path) -> list[str]:
    """Write what is made of a folder's records and raw samples; returns a line for each of it that says where it is.
    Raises DiskError where a file cannot be written.
    """
    cells = [Charted(record=record, arrays=folder.read_arrays(record, results)) for record in records]
    again = shlex.join(["quantbench", "report", str(_as_typed(results))])
    combined = folder.write_combined(records, results)
    pictures = draw(cells, report)
    lacking = charts.missing()
    write_atomically(report, markdown.markdown(records, [again], pictures, lacking).encode())
    page = results / PAGE
    write_atomically(page, html.page(cells, [*commands_of(records), again]).encode())
    beside = f", with {len(pictures)} charts in {report.with_suffix('')}" if pictures else ""
    return [
        f"records: {results}/*.json, raw samples *.npz, all together {combined}",
        f"report: {report}{beside}",
        f"page: {page}",
        *([lacking] if lacking else []),
    ]


def _as_typed(results: Path) -> Path:
    """The folder as it is called from here, where it is below."""
    here = Path.cwd()
    return results.relative_to(here) if results.is_relative_to(here) else results


def draw(cells: Sequence[Charted], report: Path) -> list[markdown.Picture]:
    """Draw all charts as SVGs into a folder beside the report that is called like it; returns them as it shows them."""
    if charts.missing():
        return []
    paths = charts.write_svgs(cells, report.with_suffix(""))
    drawn = [(charts.CHARTS[path.stem], path.relative_to(report.parent).as_posix()) for path in paths]
    return [markdown.Picture(title=chart.title, tells=chart.tells, path=path) for chart, path in drawn]
