"""`quantbench plan`: what a selection will fetch, take and last."""

import argparse

HELP = "what a selection will fetch, take and last: `quantbench plan [-m int4] [-k Llama]`"
DESCRIPTION = (
    "Takes the arguments that `quantbench run` would be given. With a path of your own tests as the first of them, "
    "those that pytest would be given."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """All of them are pytest's."""
    parser.set_defaults(passes_on=True)


def run(chosen: argparse.Namespace) -> int:
    """Print the lines of the plan."""
    from pytest_quantbench.plan.describe import outlook
    from pytest_quantbench.plugin.dry_run import collect
    from pytest_quantbench.plugin.suite import suite_arguments

    own_tests = chosen.rest and not chosen.rest[0].startswith("-")
    for line in outlook(collect(chosen.rest if own_tests else suite_arguments(chosen.rest))):
        print(line)
    return 0
