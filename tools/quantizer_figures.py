"""The figures of docs/quantizers.md: quality on one hard layer, speed and memory on 4096², perplexity on small models.

    python tools/quantizer_figures.py layer --problem FILE      # FILE: a layer problem, see `_problem`; or without
    python tools/quantizer_figures.py speed
    python tools/quantizer_figures.py perplexity Tiny DIRECTORY…

Each writes a markdown table below docs/figures/.
"""

import argparse
import importlib.util
import math
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from pytest_quantbench import cases, comparison, quantizers
from pytest_quantbench.cases import Case
from pytest_quantbench.measures.weights import snr_db
from pytest_quantbench.quantizers import Quantizer, Statistics
from pytest_quantbench.recipes import Part

FIGURES = Path(__file__).parent.parent / "docs" / "figures"
Goal = tuple[str, dict[str, Any], str, float]  # method, parameters, what is counted, the goal in dB
GOALS: tuple[Goal, ...] = (
    ("nibble", {}, "weights", 21.5),
    ("nibble", {}, "output", 25.0),
    ("hqq", {"bits": 4}, "weights", 21.3),
    ("hqq", {"bits": 3}, "weights", 14.7),
    ("hqq", {"bits": 2}, "weights", 7.3),
    ("kquant", {"bits": 4}, "weights", 22.8),
    ("kquant", {"bits": 4}, "output", 27.0),
    ("kquant", {"bits": 3}, "output", 20.0),
    ("kquant", {"bits": 2}, "output", 15.7),
    ("awq", {"bits": 4, "group_size": 128}, "output", 23.5),
    ("awq", {"bits": 3, "group_size": 128}, "output", 17.4),
    ("gptq", {"bits": 4, "group_size": 128}, "output", 25.9),
    ("gptq", {"bits": 3, "group_size": 128}, "output", 19.8),
    ("gptq", {"bits": 2, "group_size": 64}, "output", 13.5),
    ("vptq", {"bits": 2}, "output", 17.0),
    ("vptq", {"bits": 3}, "output", 21.3),
    ("vptq", {"bits": 4}, "output", 27.4),
    ("quip", {"bits": 2}, "output", 18.1),
    ("quip", {"bits": 3}, "output", 23.4),
    ("quip", {"bits": 4}, "output", 29.0),
    ("aqlm", {"bits": 2}, "output", 18.3),
    ("milo", {"bits": 3}, "weights", 15.1),
)
SECONDS = {"nibble": 3, "hqq": 3, "kquant": 3, "gptq": 5, "awq": 20, "quip": 12, "vptq": 30, "milo": 60, "aqlm": 180}


def layer(problem: Path | None) -> None:
    """Every goal on three layer problems: the default seeds, others, and Student-t weights."""
    lines = ["| method | bits | counted | goal | Gaussian | other seed | Student-t | bound at these bits |"]
    lines.append("|---|---|---|---|---|---|---|---|")
    settings = list(_problem(problem))
    for name, parameters, counted, goal in GOALS:
        quantizer = quantizers.make(Part(quantizer=name, parameters=parameters))
        bits = _bits_at_4096(name, parameters)
        found = [_quality(quantizer, case, counted) for case in settings]
        bound = (
            cases.bound_db(settings[0].statistics.hessian, bits) if counted == "output" else 20 * math.log10(2) * bits
        )
        row = [name, f"{bits:.3f}", counted, f"{goal:.1f}", *(f"{each:.2f}" for each in found), f"{bound:.1f}"]
        print(*row, flush=True)
        lines.append(f"| {' | '.join(row)} |")
    _write("layer.md", lines)


def _problem(file: Path | None) -> Iterator[Case]:
    """Layer problems of 1024²: from a module with `weights` and `activations`, or our own of the same distribution."""
    for kind, seed in (("gauss", 0), ("gauss", 11), ("student", 3)):
        if file is None:
            weight = (cases.gaussian if kind == "gauss" else cases.student)(1024, seed + 5)
            yield Case(name=kind, weight=weight, statistics=cases.correlated_inputs(1024, seed))
            continue
        module = _module(file)
        inputs = module.activations(seed=seed)
        peaks = inputs[np.argsort(-np.abs(inputs).max(1))[:16]]
        hessian = module.hessian(inputs).astype(np.float32)
        seen = Statistics(hessian=hessian, tokens=len(inputs), sample=inputs[:1024], peaks=peaks)
        yield Case(name=kind, weight=module.weights(kind, seed=seed + 5), statistics=seen)


def _module(file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _quality(quantizer: Quantizer, case: Case, counted: str) -> float:
    """dB of SNR: of the weights, encoded without calibration where the method can do without, or of the outputs."""
    optional = counted == "weights" and quantizer.calibration == "optional"
    seen = None if optional or quantizer.calibration == "none" else case.statistics
    weight = mx.array(case.weight).astype(mx.bfloat16)
    original = np.array(weight.astype(mx.float32))
    decoded = np.array(quantizer.decode(quantizer.encode(weight, seen, 0)).astype(mx.float32))
    if counted == "weights":
        return snr_db(original.ravel(), (decoded - original).ravel())
    hessian = case.statistics.hessian.astype(np.float64)
    power = [np.einsum("ij,ij->", each @ hessian, each) for each in (original, decoded - original)]
    return float(10 * np.log10(power[0] / power[1]))


def _bits_at_4096(name: str, parameters: dict[str, Any]) -> float:
    """Stored bits per weight on 4096², from the arrays of 1024²: what does not grow with the matrix weighs less there.

    Arrays are taken to grow as the matrix does, or as its rows, or not at all, whichever fits two smaller sizes.
    """
    quantizer = quantizers.make(Part(quantizer=name, parameters=parameters))
    sizes, stored = (256, 512, 1024), []
    for size in sizes:
        arrays = quantizer.encode(mx.array(cases.gaussian(size)), _seen(quantizer, size), 0)
        stored.append(8 * sum(array.nbytes for array in arrays.values()))
    square, edge, fixed = np.linalg.solve([[size**2, size, 1] for size in sizes], stored)
    return float(square + edge / 4096 + fixed / 4096**2)


def _seen(quantizer: Quantizer, size: int) -> Statistics | None:
    return None if quantizer.calibration == "none" else cases.white_inputs(size)


def speed(repeats: int) -> None:
    """Every method on 4096², each in a process of its own: median seconds of `repeats`, and memory above the start."""
    lines = [
        "| method | bits per weight | encode s | goal s | decode s | peak memory × float32 matrix |",
        "|---|---|---|---|---|---|",
    ]
    for name, width in _timed():
        command = [sys.executable, __file__, "one", name, str(width), str(repeats)]
        printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        bits, encode, decode, peak = map(float, printed[-4:])
        goal = str(SECONDS.get(name, "–"))
        row = [f"{name} {width}", f"{bits:.3f}", f"{encode:.1f}", goal, f"{decode:.2f}", f"{peak:.1f}"]
        print(*row, flush=True)
        lines.append(f"| {' | '.join(row)} |")
    ours, peer = _against_mlx_lm(repeats)
    lines += ["", f"gptq at 4 bits, group 64, beside `mlx_lm.quant.gptq` in one process, {repeats} times in turn: "]
    lines += [f"{ours:.1f} s against {peer:.1f} s, {peer / ours:.1f} times as fast."]
    _write("speed.md", lines)


def _timed() -> Iterator[tuple[str, int]]:
    for name, width, _ in comparison.methods():
        if width in (
            (3,) if name == "milo" else (2,) if name in ("vptq", "aqlm") else (4, 2) if name == "quip" else (4, 8)
        ):
            yield name, width


def one(name: str, width: int, repeats: int) -> None:
    """Time and memory of one method, for `speed`."""
    quantizer = quantizers.make(Part(quantizer=name, parameters={"bits": width}))
    seen = _quick_statistics(4096) if quantizer.calibration != "none" else None
    weight = mx.array(cases.gaussian(4096)).astype(mx.bfloat16)
    mx.eval(weight)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    encode, decode = [], []
    for _ in range(repeats):
        began = time.perf_counter()
        arrays = quantizer.encode(weight, seen, 0)
        mx.eval(arrays)
        encode.append(time.perf_counter() - began)
        began = time.perf_counter()
        mx.eval(quantizer.decode(dict(arrays)))
        decode.append(time.perf_counter() - began)
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / (4 * 4096**2)
    bits = 8 * sum(array.nbytes for array in arrays.values()) / 4096**2
    print(bits, statistics.median(encode), statistics.median(decode), peak)


def _quick_statistics(size: int) -> Statistics:
    """Correlated inputs of uneven channels, cheap at any size: noise smoothed over neighbouring channels."""
    random = np.random.default_rng(0)
    inputs = random.standard_normal((2 * size, size), np.float32)
    for shift in (1, 2, 4, 8):
        inputs += np.roll(inputs, shift, axis=1)
    inputs *= np.exp(0.5 * random.standard_normal(size)).astype(np.float32)
    inputs[:, random.permutation(size)[: size // 500]] *= 15
    hessian = inputs.T @ inputs / np.float32(len(inputs))
    return Statistics(hessian=hessian, tokens=len(inputs), sample=inputs[:1024].copy(), peaks=inputs[:16].copy())


def _against_mlx_lm(repeats: int) -> tuple[float, float]:
    """Median seconds of our GPTQ and of mlx_lm's on the same matrix and Hessian, in turn."""
    from mlx_lm.quant import gptq as peer

    seen, weight = _quick_statistics(4096), mx.array(cases.gaussian(4096)).astype(mx.bfloat16)
    hessian = mx.array(seen.hessian)

    class Given(nn.Module):
        """Its Catcher, with a Hessian that is there already: collecting it is not timed."""

        def __init__(self, module: nn.Module) -> None:
            super().__init__()
            self.module, self.H = module, mx.array(hessian)

        def __call__(self, x: mx.array) -> mx.array:
            return x

    peer.Catcher = Given
    ours, theirs = [], []
    quantizer = quantizers.make(Part(quantizer="gptq", parameters={"bits": 4}))
    for _ in range(repeats):
        began = time.perf_counter()
        mx.eval(quantizer.encode(weight, seen, 0))
        ours.append(time.perf_counter() - began)
        model = nn.Sequential(nn.Linear(4096, 4096, bias=False))
        model.layers[0].weight = weight
        began = time.perf_counter()
        peer.gptq_quantize(model, mx.zeros((1, 1, 4096)), 4, 64, 6, 64)
        theirs.append(time.perf_counter() - began)
    return statistics.median(ours), statistics.median(theirs)


def _write(name: str, lines: list[str]) -> None:
    FIGURES.mkdir(parents=True, exist_ok=True)
    (FIGURES / name).write_text("\n".join(lines) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("layer").add_argument("--problem", type=Path)
    commands.add_parser("speed").add_argument("--repeats", type=int, default=3)
    single = commands.add_parser("one")
    single.add_argument("name")
    single.add_argument("width", type=int)
    single.add_argument("repeats", type=int)
    chosen = parser.parse_args()
    if chosen.command == "layer":
        layer(chosen.problem)
    elif chosen.command == "speed":
        speed(chosen.repeats)
    else:
        one(chosen.name, chosen.width, chosen.repeats)


if __name__ == "__main__":
    main()
