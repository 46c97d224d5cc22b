"""The end of a session: combined.json, the markdown report, the plot, and what the terminal says of them."""

from collections.abc import Sequence
from pathlib import Path

from pytest_quantbench.catalog.settings import Settings
from pytest_quantbench.errors import QuantbenchError, RecordError
from pytest_quantbench.record import folder
from pytest_quantbench.record.schema import Record, read
from pytest_quantbench.report import changes, markdown, plots, terminal
from pytest_quantbench.storage.files import GB, write_atomically


def publish(written: Sequence[Path], settings: Settings, command: str, reused: Sequence[str], freed: int) -> list[str]:
    """Write the files that cover the whole results folder; returns the terminal's lines on this session's cells.
    `reused`: what earlier sessions had measured; `freed`: bytes of BF16 weights that were deleted.
    """
    try:
        session = folder.in_order([read(path) for path in dict.fromkeys(written)])
        lines = terminal.summary(session)
        records = folder.read_all(settings.results)
        commands = [command, f"quantbench report {settings.results}"]
        files = [folder.write_combined(records, settings.results)]
        files.append(write_report(records, settings.report or settings.results / "benchmark_int_quant.md", commands))
        if reused:
            named = ", ".join(dict.fromkeys(reused))
            lines.append(f"measured in earlier sessions and taken from there (--fresh measures it again): {named}")
        if freed:
            lines.append(f"disk plan {settings.disk_plan.name}: {freed / GB:.1f} GB of BF16 weights deleted")
        lines.append(f"records: {settings.results}/*.json, raw samples *.npz, all together {files[0]}")
        lines.append(f"report: {files[1]}")
        return [*lines, plots.draw_or_say(records, settings.results / "quantbench.svg")]
    except QuantbenchError as error:  # the cells' own records are written: only what goes over all of them is not
        return [f"{type(error).__name__}: {error}"]


def since_baseline(written: Sequence[Path], baseline: Path) -> list[str]:
    """What became of this session's cells since the baseline, as its checks found it."""
    try:
        records = folder.in_order([read(path) for path in dict.fromkeys(written)])
    except RecordError as error:
        return [f"RecordError: {error}"]
    return changes.baseline_lines(records, baseline)


def write_report(records: Sequence[Record], path: Path, commands: Sequence[str]) -> Path:
    """The markdown report of these records."""
    write_atomically(path, markdown.markdown(records, commands).encode())
    return path
