"""The command line: `quantbench plan`, `report`, `weights`, `conform`, `prune`."""

import argparse
import itertools
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from pytest_quantbench.errors import ConformanceError, QuantbenchError
from pytest_quantbench.record import folder
from pytest_quantbench.report import plots, terminal
from pytest_quantbench.report.publish import write_report
from pytest_quantbench.storage import prune
from pytest_quantbench.storage.cache import default_cache
from pytest_quantbench.storage.files import GB


def main(arguments: "list[str] | None" = None) -> int:
    """The command line. Returns 0, or 2 with one sentence on standard error."""
    chosen, rest = _parser().parse_known_args(arguments)
    if rest and chosen.command != "plan":
        _parser().error(f"unrecognized arguments: {' '.join(rest)}")
    chosen.rest = rest
    sys.path.insert(0, str(Path.cwd()))  # for `module:Class`, as `python -m` does
    try:
        COMMANDS[chosen.command](chosen)
    except BrokenPipeError:  # whoever read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except QuantbenchError as error:
        print(f"quantbench: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="quantbench", description="Is the quantized model still good enough?")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser(
        "plan",
        help="what a selection will fetch, take and last: `quantbench plan [benches] [-m int4] [-k Llama]`",
        description="Takes the arguments that pytest would be given, paths first; without a path, the folder benches.",
    )
    prune = commands.add_parser("prune", help="show what the cache holds, and delete it")
    prune.add_argument("kind", nargs="*", help="artifacts, unfinished, samples, damaged, or all (none: show only)")
    reporting = commands.add_parser("report", help="rebuild combined.json, the markdown report and the plot")
    reporting.add_argument("directory", type=Path, help="a folder of records, such as results")
    reporting.add_argument("--output", type=Path, help="the markdown file (default: in the folder)")
    weights = commands.add_parser("weights", help="compare quantizers on the same matrices")
    weights.add_argument("--method", action="append", help="a quantizer (repeatable; default: all)")
    weights.add_argument(
        "--size", type=int, action="append", help="of synthetic matrices (repeatable; default 64, 1024)"
    )
    weights.add_argument("--model", type=Path, help="a model directory: also compare on its matrices")
    weights.add_argument(
        "--calibration", help="text that the model's layers see (default: c4, or what the model itself writes)"
    )
    weights.add_argument("--results", type=Path, default=Path("results"), help="where the files go")
    conform = commands.add_parser("conform", help="check a quantizer against what is asked of every one")
    conform.add_argument("quantizer", help="a registered name, or package.module:Class")
    return parser


def _plan(chosen: argparse.Namespace) -> None:
    from pytest_quantbench.plan.describe import outlook
    from pytest_quantbench.plugin.collect import collect

    paths = [] if chosen.rest and not chosen.rest[0].startswith("-") else ["benches"]
    for line in outlook(collect([*paths, *chosen.rest])):
        print(line)


def _prune(chosen: argparse.Namespace) -> None:
    cache = default_cache()
    if not chosen.kind:
        print("\n".join(prune.listed(cache)))
    else:
        print(f"{prune.prune(cache, chosen.kind) / GB:.3f} GB freed at {cache}")


def _report(chosen: argparse.Namespace) -> None:
    directory: Path = chosen.directory
    records = folder.read_all(directory)
    print("\n".join(terminal.summary(records)))
    combined = folder.write_combined(records, directory)
    output = chosen.output or directory / "benchmark_int_quant.md"
    print(f"combined: {combined}")
    print(f"report: {write_report(records, output, [f'quantbench report {directory}'])}")
    print(plots.draw_or_say(records, directory / "quantbench.svg"))


def _weights(chosen: argparse.Namespace) -> None:
    from pytest_quantbench.workbench import figures as codec_report
    from pytest_quantbench.workbench import matrices, side_by_side

    folder.check_writable(chosen.results)
    if any(size < 2 for size in chosen.size or ()):
        raise QuantbenchError(f"--size {min(chosen.size)}: give a number of at least 2.")
    sizes = tuple(chosen.size or ((64, 1024) if chosen.model is None else ()))
    own = [] if chosen.model is None else side_by_side.model_cases(chosen.model, chosen.calibration)
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


def _conform(chosen: argparse.Namespace) -> None:
    from pytest_quantbench.workbench import conformance, side_by_side

    made = list(side_by_side.methods([chosen.quantizer]))
    found = [(f"{name} at {width} bits", *each) for name, width, q in made for each in conformance.failures(q)]
    across = conformance.failures_across([quantizer for _, _, quantizer in made])
    found += [(chosen.quantizer, check, problem) for check, problem in across]
    for subject, check, problem in found:
        print("FAILED" if problem else "ok    ", f"{subject}: {check}", problem or "")
    if failed := sum(problem is not None for _, _, problem in found):
        raise ConformanceError(f"{failed} checks failed for {chosen.quantizer}.")


COMMANDS: Mapping[str, Callable[[argparse.Namespace], None]] = {
    "plan": _plan,
    "prune": _prune,
    "report": _report,
    "weights": _weights,
    "conform": _conform,
}
