"""The command line: `quantbench VERB`. Each verb has a module of its name, with its arguments and what it does."""

import argparse
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from pytest_quantbench.cli import (
    card,
    compare,
    conform,
    conform_engine,
    convert,
    engines,
    judge,
    merge,
    pick,
    plan,
    prune,
    rank,
    report,
    run,
    weights,
)
from pytest_quantbench.errors import QuantbenchError


class Verb(Protocol):
    """What a verb's module has. `run` returns the exit code; `passes_on` set by `add_arguments`: it takes any."""

    HELP: str
    DESCRIPTION: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Its own arguments."""

    def run(self, chosen: argparse.Namespace) -> int:
        """Do it. Raises QuantbenchError with what to say instead."""


VERBS: Mapping[str, Verb] = {
    "run": run,
    "judge": judge,
    "pick": pick,
    "plan": plan,
    "prune": prune,
    "report": report,
    "card": card,
    "merge": merge,
    "compare": compare,
    "rank": rank,
    "weights": weights,
    "convert": convert,
    "engines": engines,
    "conform": conform,
    "conform-engine": conform_engine,
}


def main(arguments: "list[str] | None" = None) -> int:
    """The command line. Returns 0, pytest's exit code where that ran, or 2 with one sentence on standard error."""
    chosen = _chosen(arguments)
    sys.path.insert(0, str(Path.cwd()))  # for `module:Class`, as `python -m` does
    try:
        return VERBS[chosen.verb].run(chosen)
    except BrokenPipeError:  # whoever read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except QuantbenchError as error:
        print(f"quantbench: {error}", file=sys.stderr)
        return 2


def _chosen(arguments: "list[str] | None") -> argparse.Namespace:
    """The verb and its arguments, with what it only passes on as `rest`."""
    parser = argparse.ArgumentParser(prog="quantbench", description="Is the quantized model still good enough?")
    parser.set_defaults(passes_on=False)
    verbs = parser.add_subparsers(dest="verb", required=True)
    for name, verb in VERBS.items():
        # without abbreviations: `--co` is pytest's
        verb.add_arguments(verbs.add_parser(name, help=verb.HELP, description=verb.DESCRIPTION, allow_abbrev=False))
    chosen, rest = parser.parse_known_args(arguments)
    if rest and not chosen.passes_on:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    chosen.rest = rest
    return chosen
