"""`quantbench conform`: a quantizer against what is asked of every one."""

import argparse
from collections.abc import Iterator

from pytest_quantbench.errors import ConformanceError

HELP = "check a quantizer against what is asked of every one"
DESCRIPTION = "Prints every check; fails if one does."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which quantizer."""
    parser.add_argument("quantizer", help="a registered name, or package.module:Class")
    parser.add_argument("--kv", action="store_true", help="it is a method for the key-value cache")


def run(chosen: argparse.Namespace) -> int:
    """Print every check at every width. Raises ConformanceError if any failed."""
    failed = 0
    for subject, check, problem in (_of_cache if chosen.kv else _of_weights)(chosen.quantizer):
        print("FAILED" if problem else "ok    ", f"{subject}: {check}", problem or "")
        failed += problem is not None
    if failed:
        raise ConformanceError(f"{failed} checks failed for {chosen.quantizer}.")
    return 0


def _of_weights(name: str) -> Iterator[tuple[str, str, str | None]]:
    from pytest_quantbench.workbench import conformance, side_by_side

    made = list(side_by_side.methods([name]))
    for called, width, quantizer in made:
        for each in conformance.failures(quantizer):
            yield f"{called} at {width} bits", *each
    for each in conformance.failures_across([quantizer for _, _, quantizer in made]):
        yield name, *each


def _of_cache(name: str) -> Iterator[tuple[str, str, str | None]]:
    from pytest_quantbench.workbench import cache_conformance

    for called, method in cache_conformance.widths(name):
        for each in cache_conformance.failures(method):
            yield called, *each
