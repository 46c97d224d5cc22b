"""`quantbench conform`: a quantizer against what is asked of every one."""

import argparse

from pytest_quantbench.errors import ConformanceError

HELP = "check a quantizer against what is asked of every one"
DESCRIPTION = "Prints every check; fails if one does."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which quantizer."""
    parser.add_argument("quantizer", help="a registered name, or package.module:Class")


def run(chosen: argparse.Namespace) -> int:
    """Print every check at every width. Raises ConformanceError if any failed."""
    from pytest_quantbench.workbench import conformance, side_by_side

    made = list(side_by_side.methods([chosen.quantizer]))
    found = [(f"{name} at {width} bits", *each) for name, width, q in made for each in conformance.failures(q)]
    across = conformance.failures_across([quantizer for _, _, quantizer in made])
    found += [(chosen.quantizer, check, problem) for check, problem in across]
    for subject, check, problem in found:
        print("FAILED" if problem else "ok    ", f"{subject}: {check}", problem or "")
    if failed := sum(problem is not None for _, _, problem in found):
        raise ConformanceError(f"{failed} checks failed for {chosen.quantizer}.")
    return 0
