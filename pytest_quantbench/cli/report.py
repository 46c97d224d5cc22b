"""`quantbench report`: everything that is made of records, made again from the records alone."""

import argparse
import shutil
import sys
from pathlib import Path

from pytest_quantbench.record import folder
from pytest_quantbench.report import coloured, terminal
from pytest_quantbench.report.publish import MARKDOWN, write_all

HELP = "rebuild combined.json, the markdown report with its charts, and the page"
DESCRIPTION = "Reads the JSON records and raw samples of a folder; nothing is measured."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The folder, and where the report goes."""
    parser.add_argument("directory", type=Path, help="a folder of records, such as results")
    parser.add_argument("--output", type=Path, help="the markdown file (default: in the folder)")


def run(chosen: argparse.Namespace) -> int:
    """Write them and print the summary."""
    directory: Path = chosen.directory
    records = folder.read_all(directory)
    for line in terminal.summary(records, shutil.get_terminal_size().columns):
        print(coloured.as_text(line, colours=coloured.are_wanted(sys.stdout)))
    print("\n".join(write_all(records, directory, chosen.output or directory / MARKDOWN)))
    return 0
