"""`quantbench run`: the suite that comes with the package, from any folder."""

import argparse

HELP = "run the suite: `quantbench run [-m int4] [-k Llama] [--model PATH]`, all arguments are pytest's"
DESCRIPTION = (
    "Runs the tests that come with the package, as `pytest benches` does in its repository: the same options by their "
    "short names, the same exit codes. Results go to the folder `results` here. `quantbench run --co -q` lists the "
    "tests, `pytest --help` the options."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """All of them are pytest's."""
    parser.set_defaults(passes_on=True)


def run(chosen: argparse.Namespace) -> int:
    """Run it. Returns pytest's exit code."""
    from pytest_quantbench.plugin import suite

    return suite.run(chosen.rest)
