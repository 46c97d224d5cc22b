"""`quantbench report`: everything that is made of records, made again from the records alone."""

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from pytest_quantbench.catalog.prices import price_of
from pytest_quantbench.errors import QuantbenchError
from pytest_quantbench.plugin import option_values as values
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
    parser.add_argument("--complete", action="store_true", help="only say what records lack to be published")
    parser.add_argument(
        "--price-per-hour", metavar="PRICE", help="tell costs at this price, such as 2.49USD, whatever records say"
    )
    parser.add_argument(
        "--cost-volume", metavar="TOKENS", help="with a price: spread the cost of compressing over so many tokens"
    )


def run(chosen: argparse.Namespace) -> int:
    """Write them and print the summary, or what records lack; returns 1 where they lack anything."""
    directory: Path = chosen.directory
    records = _at_price(folder.read_all(directory), chosen)
    if chosen.complete:
        return _tell_missing(records)
    for line in terminal.summary(records, shutil.get_terminal_size().columns):
        print(coloured.as_text(line, colours=coloured.are_wanted(sys.stdout)))
    print("\n".join(write_all(records, directory, chosen.output or directory / MARKDOWN)))
    return 0


def _at_price(records: Sequence[Record], chosen: argparse.Namespace) -> Sequence[Record]:
    """The records with their costs at the price that was typed; as they are without one. Raises QuantbenchError
    for what is no price.
    """
    try:
        typed = None if chosen.price_per_hour is None else values.price(chosen.price_per_hour)
        volume = None if chosen.cost_volume is None else values.whole(least=1)(chosen.cost_volume)
    except ValueError as error:
        raise QuantbenchError(f"--price-per-hour, --cost-volume: {error}") from error
    price = price_of(typed, volume, {})
    return [priced(record, folder.read_arrays(record, chosen.directory), price) for record in records]


def _tell_missing(records: Sequence[Record]) -> int:
    """Print it cell by cell; 1 where anything is lacking."""
    lacking = {f"{record.model_id}-{record.recipe}": missing(record) for record in records}
    for cell, sentences in lacking.items():
        print("\n".join([f"{cell}: {f'lacks {len(sentences)}' if sentences else 'complete'}", *sentences]))
    return 1 if any(lacking.values()) else 0
