"""`quantbench engines`: whether two engines compute the same of a model."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_quantbench.cli.typed import typed
from pytest_quantbench.errors import QuantbenchError
from pytest_quantbench.plugin import option_values as values

if TYPE_CHECKING:
    from pytest_quantbench.engines.protocol import Engine
    from pytest_quantbench.workbench.engine_agreement import Compared

HELP = "do two engines compute the same? `quantbench engines MODEL [--recipe int4]`"
DESCRIPTION = (
    "Walks the same weights with two engines, over the texts of T2 and the choices of T3, and compares every token's "
    "loss and every choice's log-likelihood. Returns 0 where none is further apart than the limit, 1 where one is, 2 "
    "where nothing could be compared. How much bfloat16 changes is the model's: with it, the limit has to be given."
)
LIMIT_NATS = 1e-4  # per token: what float32 leaves between two ways to compute
NO_TASK = "none"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The model, the recipes, both engines, the limit, and what is read."""
    parser.add_argument("model", help="a model of the catalogue by name, a directory, or a Hub id like owner/name")
    parser.add_argument("--recipe", action="append", default=[], help="beside bf16, such as int4 (repeatable)")
    parser.add_argument(
        "--engine", action="append", default=[], help="twice: which two (default: mlx and torch); the first compresses"
    )
    parser.add_argument(
        "--activations",
        default="float32",
        choices=("float32", "bfloat16"),
        help="of the second (default float32); with bfloat16 --limit-nats has to be given",
    )
    parser.add_argument(
        "--limit-nats",
        type=typed(values.above_zero),
        metavar="X",
        help=f"nats per token that no token and no choice may exceed (default of float32: {LIMIT_NATS:g})",
    )
    parser.add_argument("--tokens", type=typed(values.token_count), default=512, help="of each text (default 512)")
    parser.add_argument("--corpus", type=typed(values.corpus), help="a text file, or a corpus by name")
    parser.add_argument("--task", action="append", default=[], help="whose choices (repeatable); none: no choices")
    parser.add_argument("--limit", type=typed(values.whole(1)), default=40, help="questions of a task (default 40)")
    parser.add_argument("--calibration", type=typed(values.calibration), help="a text file, a corpus by name, or self")
    parser.add_argument("--seed", type=typed(values.seed), default=0, help="of the compression (default 0)")
    parser.add_argument("--offline", action="store_true", help="fetch nothing")
    parser.add_argument("--output", type=Path, metavar="FILE", help="also write all figures as JSON")


def run(chosen: argparse.Namespace) -> int:
    """Print the table. Returns 0, or 1 where the engines do not agree."""
    import msgspec

    from pytest_quantbench.progress import show_on
    from pytest_quantbench.storage.files import write_atomically
    from pytest_quantbench.workbench import agreement_table

    limit, engines = _limit(chosen), _engines(chosen)
    show_on(sys.stderr)
    try:
        name, compared = _compared(chosen, engines)
    finally:
        show_on(None)
    print("\n".join(agreement_table.table(name, engines, compared, limit)))
    if chosen.output is not None:
        told = agreement_table.as_json(name, engines, compared, limit)
        write_atomically(chosen.output, msgspec.json.format(msgspec.json.encode(told)) + b"\n")
    return 0 if all(found.within(limit) for found in compared.agreements) else 1


def _limit(chosen: argparse.Namespace) -> float:
    """How far apart they may be. Raises QuantbenchError where it has to be told: how much bfloat16 moves a loss is the
    model's, and what float32 leaves is always less.
    """
    if chosen.limit_nats is not None:
        return float(chosen.limit_nats)
    if chosen.activations != "float32":
        raise QuantbenchError(
            f"With --activations {chosen.activations} a loss differs by more than the {LIMIT_NATS:g} nats that float32 "
            f"leaves. Say how far apart the engines may be: --limit-nats 0.1, which is more than bfloat16 moves Tiny."
        )
    return LIMIT_NATS


def _engines(chosen: argparse.Namespace) -> "tuple[Engine, Engine]":
    """Both. Raises QuantbenchError where there are not two, or the two are one."""
    from pytest_quantbench import engines

    names = chosen.engine or [engine.name for engine in engines.installed()]
    if len(names) != 2:
        told = f"{len(names)} named with --engine" if chosen.engine else f"{len(names)} installed"
        raise QuantbenchError(
            f"Two engines are compared, and {told} ({', '.join(names) or 'none'}). Install the other one with pip "
            f"install 'pytest-quantbench[torch]' or [cpu], or name two with --engine NAME --engine NAME."
        )
    first, second = engines.get(names[0]), engines.get(names[1], chosen.activations)
    if _what_runs(first) == _what_runs(second):
        same = f"--engine {names[0]} twice is" if names[0] == names[1] else f"{names[0]} and {names[1]} are"
        raise QuantbenchError(f"{same} one engine on one device. Name another, or add --activations bfloat16.")
    for engine in (first, second):
        engines.need(engine, "walk")
    return first, second


def _what_runs(engine: "Engine") -> tuple[object, ...]:
    """By which two engines are the same, however they are named."""
    return type(engine), engine.backend, engine.activations


def _compared(chosen: argparse.Namespace, engines: "tuple[Engine, Engine]") -> "tuple[str, Compared]":
    """The model's name, and what was found."""
    from pytest_quantbench import quantizers
    from pytest_quantbench.bench.subject import Subject
    from pytest_quantbench.catalog.recipes import REFERENCE
    from pytest_quantbench.catalog.settings import Settings
    from pytest_quantbench.workbench.engine_agreement import Comparison, SharedInputs, task_set

    settings = Settings(
        engine=chosen.engine[0] if chosen.engine else engines[0].name,
        tokens=chosen.tokens,
        limit=chosen.limit,
        corpus=chosen.corpus,
        tasks=tuple(name for name in chosen.task if name != NO_TASK),
        calibration=chosen.calibration,
        seed=chosen.seed,
        offline=chosen.offline,
    )
    recipes = [REFERENCE, *(quantizers.recipe_of(each) for each in chosen.recipe if each != REFERENCE.id)]
    inputs = SharedInputs(Subject(chosen.model, settings).model, settings, engines[1])
    asked = None if NO_TASK in chosen.task else task_set(inputs)
    differ = engines[0].activations != engines[1].activations
    return inputs.model.name, Comparison(inputs, recipes, asked).run(floor=differ)
