"""`quantbench rank`: recipes and candidates of a model in order, with those that cannot be told apart."""

import argparse
import sys
from pathlib import Path

HELP = "order a model's recipes and candidates: `quantbench rank results`"
DESCRIPTION = (
    "By the loss on the tokens that all of a model's cells have read. Cells that share a letter cannot be told apart. "
    "Returns 0, or 2 where no model has two cells to compare."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The folder, which models, and how it is told."""
    parser.add_argument("directory", type=Path, help="a folder of records, such as results")
    parser.add_argument("--model", action="append", default=[], metavar="NAME", help="only this one (repeatable)")
    parser.add_argument("--json", action="store_true", help="print it as JSON, for programs")


def run(chosen: argparse.Namespace) -> int:
    """Print the ranking of every model. Returns 0, or 2 where no model has any."""
    import msgspec

    from pytest_quantbench.record.ranking import rank
    from pytest_quantbench.report import ranks

    found = rank(chosen.directory, chosen.model)
    if chosen.json:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(found)).decode() + "\n")
    else:
        print("\n".join(ranks.terminal(found)))
    return 0 if any(ranking.cells for ranking in found) else 2
