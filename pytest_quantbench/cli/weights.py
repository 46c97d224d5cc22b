"""`quantbench weights`: quantizers side by side on the same matrices."""

import argparse
import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_quantbench.errors import QuantbenchError
from pytest_quantbench.plugin import engine_choice
from pytest_quantbench.record import folder

if TYPE_CHECKING:
    from pytest_quantbench.workbench.matrices import Case

HELP = "compare quantizers on the same matrices"
DESCRIPTION = (
    "On synthetic matrices, or on those of a model; with --kv recipes of the cache on synthetic keys and values."
)
TOKENS = 2048  # of a text whose keys and values are held


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Methods, matrices, and where the figures go."""
    parser.add_argument("--method", action="append", help="a quantizer (repeatable; default: all)")
    parser.add_argument("--kv", action="store_true", help="methods are recipes of the key-value cache, such as kivi2")
    parser.add_argument(
        "--size", type=int, action="append", help="of synthetic matrices (repeatable; default 64, 1024)"
    )
    parser.add_argument("--model", type=Path, help="a model directory: also compare on its matrices")
    parser.add_argument(
        "--calibration", help="text that the model's layers see (default: c4, or what the model itself writes)"
    )
    parser.add_argument("--engine", metavar="auto|mlx|torch|NAME", help="what runs the model (default auto)")
    parser.add_argument(
        "--activations", choices=("float32", "bfloat16"), help="in which the model is walked (default float32)"
    )
    parser.add_argument("--results", type=Path, default=Path("results"), help="where the files go")


def run(chosen: argparse.Namespace) -> int:
    """Print a line for every method on every matrix, and keep the figures."""
    from pytest_quantbench import engines
    from pytest_quantbench.workbench import codec_report, matrices, side_by_side

    folder.check_writable(chosen.results)
    if chosen.kv:
        return _caches(chosen)
    if any(size < 2 for size in chosen.size or ()):
        raise QuantbenchError(f"--size {min(chosen.size)}: give a number of at least 2.")
    sizes = tuple(chosen.size or ((64, 1024) if chosen.model is None else ()))
    own: Iterable[Case] = []
    if chosen.model is not None:
        engine = engines.get(*engine_choice.of_command(chosen.engine, chosen.activations))
        own = side_by_side.model_cases(chosen.model, chosen.calibration, engine=engine)
    figures = []
    for case in itertools.chain(matrices.synthetic(sizes), own):  # one at a time: a model's Hessians are large
        for name, width, quantizer in side_by_side.methods(chosen.method):
            row = side_by_side.compare(name, width, quantizer, case)
            figures.append(row)
            print(
                f"{case.name}: {name} {width}: {row.bits_per_weight:.3f} bpw, SNR {row.snr_db:.2f} dB, "
                f"output {row.output_snr_db:.2f} dB, {row.encode_seconds:.2f} s",
                flush=True,
            )
        files = codec_report.save(figures, chosen.results)  # after every case: nothing that was measured is lost
    print("\n".join(map(str, files)))
    return 0


def _caches(chosen: argparse.Namespace) -> int:
    from pytest_quantbench.workbench import cache_report, cache_side_by_side

    if chosen.size or chosen.model:
        raise QuantbenchError(
            "--kv compares recipes of the cache on keys and values of its own: leave --size and --model."
        )
    figures = []
    for name, method in cache_side_by_side.methods(chosen.method):
        for scene in cache_side_by_side.SCENES.values():
            row = cache_side_by_side.compare(name, method, scene(TOKENS))
            figures.append(row)
            print(
                f"{row.scene}: {name}: {row.bits_per_number:.2f} bits, answers {row.answer_error:.4f} off", flush=True
            )
    print("\n".join(map(str, cache_report.save(figures, chosen.results))))
    return 0
