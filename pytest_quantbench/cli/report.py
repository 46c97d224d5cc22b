"""`quantbench report`: everything that is made of records, made again from the records alone."""

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from pytest_quantbench.catalog.prices import Price, amount, price_of
from pytest_quantbench.cli.typed import typed
from pytest_quantbench.plugin.option_values import whole
from pytest_quantbench.plugin.pyproject_table import read_table
from pytest_quantbench.record import folder
from pytest_quantbench.record.completeness import missing
from pytest_quantbench.record.cost import priced
from pytest_quantbench.record.schema import Record
from pytest_quantbench.report import coloured, terminal
from pytest_quantbench.report.publish import MARKDOWN, write_all

HELP = "rebuild combined.json, the markdown report with its charts, and the page"
DESCRIPTION = "Reads the JSON records and raw samples of a folder; nothing is measured."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The folder, and where the report goes."""
    parser.add_argument("directory", type=Path, help="a folder of records, such as results")
    parser.add_argument("--output", type=Path, help="the markdown file (default: in the folder)")
    parser.add_argument("--price-per-hour", type=typed(amount), metavar="PRICE", help="of the machine, such as 2.49USD")
    volume = "spread the cost of compressing over so many"
    parser.add_argument("--cost-volume", type=typed(whole(least=1)), metavar="TOKENS", help=volume)
    parser.add_argument("--complete", action="store_true", help="only say what records lack to be published")


def run(chosen: argparse.Namespace) -> int:
    """Write them and print the summary, or what records lack; returns 1 where they lack anything."""
    directory: Path = chosen.directory
    records, price = folder.read_all(directory), _price(chosen)
    if price is not None:
        records = [priced(each, folder.read_arrays(each, directory), price) for each in records]
    if chosen.complete:
        return _tell_missing(records)
    rebuild(records, directory, chosen.output)
    return 0


def rebuild(records: Sequence[Record], directory: Path, output: Path | None = None) -> None:
    """Write all that is made of a folder's records, and print the summary and where it lies. `output`: the markdown
    file, which by default is in the folder.
    """
    for line in terminal.summary(records, shutil.get_terminal_size().columns):
        print(coloured.as_text(line, colours=coloured.are_wanted(sys.stdout)))
    print("\n".join(write_all(records, directory, output or directory / MARKDOWN)))


def _price(chosen: argparse.Namespace) -> Price | None:
    """What an hour costs: as it was typed, else as `[tool.quantbench.cost]` above the current folder has it."""
    return price_of(chosen.price_per_hour, chosen.cost_volume, read_table(Path.cwd())[1].get("cost", {}))


def _tell_missing(records: Sequence[Record]) -> int:
    """Print it cell by cell; 1 where anything is lacking."""
    lacking = {record.cell: missing(record) for record in records}
    for cell, sentences in lacking.items():
        print("\n".join([f"{cell}: {f'lacks {len(sentences)}' if sentences else 'complete'}", *sentences]))
    return 1 if any(lacking.values()) else 0
