"""`quantbench pick`: the smallest artifact that meets what is required, with confidence."""

import argparse
import sys
from pathlib import Path

from pytest_quantbench.cli.typed import typed
from pytest_quantbench.plugin.option_values import above_zero, limit

HELP = "which artifact to take: `quantbench pick results --max-ppl-delta 0.5 --max-gb 5`"
DESCRIPTION = (
    "Reads the records of a folder and names, for every model, the smallest cell that meets all requirements with "
    "confidence, what was rejected and why, and what would decide the rest. Nothing is measured. Returns 0 where "
    "something was picked for every model, 1 where nothing was, 2 for a wrong input."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The folder, and what is required."""
    parser.add_argument("directory", type=Path, nargs="?", default=Path("results"), help="of records (default results)")
    parser.add_argument("--max-gb", type=typed(above_zero), metavar="GB", help="stored size, in 10⁹ bytes")
    parser.add_argument("--max-ppl-delta", type=typed(limit), metavar="X", help="perplexity above the original's")
    parser.add_argument("--max-accuracy-drop", type=typed(limit), metavar="POINTS", help="accuracy below its")
    parser.add_argument("--min-tps", type=typed(above_zero), metavar="X", help="output tokens per second at batch 1")
    parser.add_argument("--model", action="append", default=[], metavar="NAME", help="only this one (repeatable)")
    parser.add_argument("--json", action="store_true", help="print it as JSON, for programs")


def run(chosen: argparse.Namespace) -> int:
    """Print the choices."""
    import msgspec

    from pytest_quantbench.plan import describe_pick
    from pytest_quantbench.plan.pick import pick
    from pytest_quantbench.plan.requirements import REQUIREMENTS
    from pytest_quantbench.record.folder_comparison import of_models, opened

    given = {name: getattr(chosen, name.replace("-", "_")) for name in REQUIREMENTS}
    kept = of_models(opened(chosen.directory), chosen.model)
    choices = pick(kept, {name: value for name, value in given.items() if value is not None})
    if chosen.json:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(choices)).decode() + "\n")
    else:
        print("\n".join(describe_pick.lines(choices)))
    return 0 if all(choice.picked for choice in choices) else 1
