"""`quantbench merge`: the results of shards, in one folder."""

import argparse
import sys
from pathlib import Path

HELP = "put the results of shards together: `quantbench merge DIR... --output DIR`"
DESCRIPTION = (
    "Copies the records of several results folders, with their samples, into a new one, and makes combined.json and "
    "the report there. Parts of one cell become one record; of what was measured twice the newest is taken. Returns 0, "
    "1 where a file could not be taken, 2 where nothing was written."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The folders, and where all goes."""
    parser.add_argument("directories", nargs="+", type=Path, metavar="DIR", help="a results folder")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="a folder that has no records yet")


def run(chosen: argparse.Namespace) -> int:
    """Write the folder and print its summary. Returns 1 where anything was left out. Raises QuantbenchError where
    nothing was written.
    """
    from pytest_quantbench.cli.report import rebuild
    from pytest_quantbench.record import folder
    from pytest_quantbench.record.merging import merge

    found = merge(chosen.directories, chosen.output)
    rebuild(folder.read_all(chosen.output), chosen.output)
    for note in found.notes:
        print(f"note: {note}")
    for lost in found.lost:
        print(f"quantbench: left out: {lost}", file=sys.stderr)
    print(f"{_counted(len(found.written), 'record')} of {_counted(len(chosen.directories), 'folder')}: {chosen.output}")
    return 1 if found.lost else 0


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
