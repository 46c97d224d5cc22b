"""Figures of docs/quantizers.md: quality on one hard layer, speed and memory on 4096² (see also quantizer_perplexity).

    python tools/quantizer_figures.py speed                     # first: it counts the bits on 4096²
    python tools/quantizer_figures.py layer --problem FILE      # FILE: a layer problem, see `_problem`; or without

Each writes a markdown table below docs/figures/.
"""

import argparse
import importlib.util
import json
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

import ml_dtypes
import mlx.core as mx
import mlx.nn as nn
import numpy as np

from pytest_quantbench import quantizers
from pytest_quantbench.catalog.recipes import Part
from pytest_quantbench.measures.weights import snr_db
from pytest_quantbench.quantizers import Quantizer, Statistics
from pytest_quantbench.workbench import matrices, side_by_side
from pytest_quantbench.workbench.matrices import Case

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
    counted_bits = json.loads((FIGURES / "bits.json").read_text())
    for name, parameters, counted, goal in GOALS:
        quantizer = quantizers.make(Part(quantizer=name, parameters=parameters))
        bits = counted_bits[_label(name, parameters)]
        found = [_quality(quantizer, case, counted) for case in settings]
        of_weights = 20 * math.log10(2) * bits
        bound = matrices.bound_db(settings[0].statistics.hessian, bits) if counted == "output" else of_weights
        row = [name, f"{bits:.3f}", counted, f"{goal:.1f}", *(f"{each:.2f}" for each in found), f"{bound:.1f}"]
        print(*row, flush=True)
        lines.append(f"| {' | '.join(row)} |")
    _write("layer.md", lines)


def _problem(file: Path | None) -> Iterator[Case]:
    """Layer problems of 1024²: from a module with `weights` and `activations`, or our own of the same distribution."""
    for kind, seed in (("gauss", 0), ("gauss", 11), ("student", 3)):
        if file is None:
            weight = (matrices.gaussian if kind == "gauss" else matrices.student)(1024, seed + 5)
            yield Case(name=kind, weight=weight, statistics=matrices.correlated_inputs(1024, seed))
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
    weight = case.weight.astype(ml_dtypes.bfloat16)
    original = weight.astype(np.float32)
    decoded = quantizer.decode(quantizer.encode(weight, seen, 0))
    if counted == "weights":
        return snr_db(original.ravel(), (decoded - original).ravel())
    hessian = case.statistics.hessian.astype(np.float64)
    power = [np.einsum("ij,ij->", each @ hessian, each) for each in (original, decoded - original)]
    return float(10 * np.log10(power[0] / power[1]))


def _label(name: str, parameters: dict[str, Any]) -> str:
    return " ".join([name, *(str(value) for value in parameters.values())])


def speed(repeats: int) -> None:
    """Every method on 4096², each in a process of its own: median seconds of `repeats`, and memory above the start."""
    lines = ["| method | bits per weight | encode s | goal s | decode s | peak memory, × float32 matrix |"]
    lines.append("|---|---|---|---|---|---|")
    counted_bits = {}
    for name, parameters in _timed():
        command = [sys.executable, __file__, "one", name, json.dumps(parameters), str(repeats)]
        printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        bits, encode, decode, peak = map(float, printed[-4:])
        counted_bits[_label(name, parameters)] = bits
        goal = str(SECONDS.get(name, "–"))
        row = [_label(name, parameters), f"{bits:.3f}", f"{encode:.1f}", goal, f"{decode:.2f}", f"{peak:.1f}"]
        print(*row, flush=True)
        lines.append(f"| {' | '.join(row)} |")
    ours, peer = _against_mlx_lm(repeats)
    lines += ["", f"gptq at 4 bits, group 64, beside `mlx_lm.quant.gptq` in one process, {repeats} times in turn:"]
    lines += [f"{ours:.1f} s against {peer:.1f} s, {peer / ours:.1f} times as fast."]
    print(lines[-1])
    _write("speed.md", lines)
    (FIGURES / "bits.json").write_text(json.dumps(counted_bits, indent=1) + "\n")


def _timed() -> list[tuple[str, dict[str, Any]]]:
    """Every setting of the goals, and the other methods at 4 bits, or the one width that they have."""
    wanted = {_label(name, parameters): (name, parameters) for name, parameters, _, _ in GOALS}
    named = {name for name, _ in wanted.values()}
    for name, width, _ in side_by_side.methods():
        if name not in named and width in (4, 8):
            wanted.setdefault(f"{name} {width}", (name, {"bits": width}))
    return list(wanted.values())


def one(name: str, parameters: dict[str, Any], repeats: int) -> None:
    """Time and memory of one method, for `speed`."""
    quantizer = quantizers.make(Part(quantizer=name, parameters=parameters))
    seen = _quick_statistics(4096) if quantizer.calibration != "none" else None
    weight = matrices.gaussian(4096).astype(ml_dtypes.bfloat16)
    before = _resident_bytes()
    encode, decode = [], []
    for _ in range(repeats):
        began = time.perf_counter()
        arrays = quantizer.encode(weight, seen, 0)
        encode.append(time.perf_counter() - began)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
        began = time.perf_counter()
        quantizer.decode(arrays)
        decode.append(time.perf_counter() - began)
    bits = 8 * sum(array.nbytes for array in arrays.values()) / 4096**2
    print(bits, statistics.median(encode), statistics.median(decode), peak / (4 * 4096**2))


def _resident_bytes() -> int:
    """What the process holds now: its peak so far may be higher and hide what encoding takes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


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

    seen, weight = _quick_statistics(4096), matrices.gaussian(4096).astype(ml_dtypes.bfloat16)
    hessian = mx.array(seen.hessian)

    class Given(nn.Module):
        """Its Catcher, with a Hessian that is there already: collecting it is not timed."""

        def __init__(self, module: nn.Module) -> None:
            super().__init__()
            self.module, self.H = module, mx.array(hessian)

        def __call__(self, x: mx.array) -> mx.array:
            return x

    setattr(peer, "Catcher", Given)  # noqa: B010
    ours, theirs = [], []
    quantizer = quantizers.make(Part(quantizer="gptq", parameters={"bits": 4}))
    for _ in range(repeats):
        began = time.perf_counter()
        quantizer.encode(weight, seen, 0)
        ours.append(time.perf_counter() - began)
        model = nn.Sequential(nn.Linear(4096, 4096, bias=False))
        model.layers[0].weight = mx.array(weight.astype(np.float32)).astype(mx.bfloat16)
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
    single.add_argument("parameters", type=json.loads)
    single.add_argument("repeats", type=int)
    chosen = parser.parse_args()
    if chosen.command == "layer":
        layer(chosen.problem)
    elif chosen.command == "speed":
        speed(chosen.repeats)
    else:
        one(chosen.name, chosen.parameters, chosen.repeats)


if __name__ == "__main__":
    main()
