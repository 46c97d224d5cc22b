"""`quantbench conform-engine`: an engine against what is asked of every one."""

import argparse
import sys

from pytest_quantbench.errors import ConformanceError

HELP = "check an engine against what is asked of every one"
DESCRIPTION = (
    "Opens, walks and runs small models of our making, and compares what comes of it with a forward pass in float64 "
    "that is no engine's. Prints every check and what it demands; those of an ability that the engine does not have "
    "are left out. Returns 0 where nothing is wrong, 2 where anything is."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which engine."""
    parser.add_argument("engine", help="mlx, torch, a registered name, or package.module:Class")
    parser.add_argument(
        "--activations",
        default="float32",
        choices=("float32", "bfloat16"),
        help="that it is made with; in bfloat16 its walks may be further from the forward pass (default float32)",
    )


def run(chosen: argparse.Namespace) -> int:
    """Print every check. Raises ConformanceError if any failed, QuantbenchError for what is no engine."""
    from pytest_quantbench import engines
    from pytest_quantbench.workbench.engine_conformance import findings

    engine, failed, left_out = engines.get(chosen.engine, chosen.activations), 0, 0
    for found in findings(engine):
        failed, left_out = failed + (found.problem is not None), left_out + (found.lacks is not None)
        print(f"{_word(found.problem, found.lacks)} {found.name}: {found.problem or found.demands}")
        sys.stdout.flush()  # a check may take seconds
    if left_out:
        print(f"{left_out} checks were left out: {chosen.engine} says that it can {', '.join(sorted(engine.can))}.")
    if failed:
        raise ConformanceError(f"{failed} checks failed for {chosen.engine}.")
    return 0


def _word(problem: str | None, lacks: str | None) -> str:
    """How a check's line begins."""
    return "FAILED  " if problem else "left out" if lacks else "ok      "
