"""What has to be seen on a device: kernels, agreement with the CPU, T1, a sweep, T2's speed; as JSON and a table.

    PYTHONPATH=. python tools/device_check.py                          # on CUDA, at most 8 minutes
    PYTHONPATH=. python tools/device_check.py --device cpu --small     # the same with small shapes, to try it
    PYTHONPATH=. python tools/device_check.py --only levels --out DIRECTORY

It needs PyTorch, Triton (on CUDA), Transformers with what comes with these, ml_dtypes and this checkout; no pytest, no
MLX, no network. With scipy, ratios have intervals and verdicts. Every part is a process with a time limit of its own,
and prints each row as it knows it: what it had found before it hung or failed is kept. The files go to `--out`, else to
`$OUT`, else to results/. The exit code is 0 where every part ended and all that it checked was right.
"""

import argparse
import importlib.util
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

NEEDED = {  # what is imported, by the wheel that brings it; other wheels come with these
    "torch": "torch",
    "transformers": "transformers",  # with numpy, tokenizers, safetensors and huggingface-hub
    "ml_dtypes": "ml-dtypes",
}
COMPILERS = {"cuda": "triton", "cpu": "numba"}  # of kernels, by the device
FOLDER = Path(__file__).resolve().parent.parent
ROOT = str(FOLDER)  # where modules are found
Row = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What was asked for."""

    device: str
    small: bool
    seconds: float = math.inf  # for the part that is run

    @property
    def shape(self) -> str:
        """The model's."""
        return "small" if self.small else "8B"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One thing that is looked at: its rows, one after the other, and how long it may take at most."""

    seconds: float
    rows: Callable[[Given], Iterator[Row]]


def _kernels(given: Given) -> Iterator[Row]:
    from tools.device import kernels, random_weights

    if given.device == "cpu" and importlib.util.find_spec("triton") is not None:
        yield from kernels.interpreted()
    yield from kernels.checked(random_weights.SHAPES[given.shape], given.device)


def _agreement(given: Given) -> Iterator[Row]:
    from tools.device import random_weights, walks

    return walks.agreement(random_weights.SHAPES["small"], given.device)


def _levels(given: Given) -> Iterator[Row]:
    from pytest_quantbench.engines.torch.engine import TorchEngine
    from tools.device import levels, random_weights

    plan = levels.Plan(
        config=random_weights.SHAPES[given.shape],
        levels=random_weights.LEVELS[:5] if given.small else random_weights.LEVELS,
        new_tokens=16 if given.small else levels.NEW_TOKENS,
        seconds=given.seconds - STARTS,
    )
    return levels.rows(TorchEngine(device=given.device), plan, given.device)


def _sweep(given: Given) -> Iterator[Row]:
    from pytest_quantbench.engines.torch.engine import TorchEngine
    from tools.device import random_weights, sweep

    small = {"decode": ((1, 64), (3, 64)), "prefill": (300,), "requests": 3, "new_tokens": 4} if given.small else {}
    config = random_weights.SHAPES["small" if given.small else "100M"]
    plan = sweep.Plan(config=config, seconds=given.seconds - STARTS, **small)  # type: ignore[arg-type]
    return sweep.rows(TorchEngine(device=given.device), plan, given.device)


def _walk(given: Given) -> Iterator[Row]:
    from tools.device import random_weights, walks

    rows, length = (2, 64) if given.small else (4, 2048)
    return walks.speed(random_weights.SHAPES[given.shape], given.device, rows, length)


TOTAL = 450.0  # seconds for all parts: the rest of the script's own limit is for PyTorch's import and the table
STARTS = 15.0  # seconds of a part until it begins, imports being cold
PARTS: Mapping[str, Part] = {  # T1 first: it is what nobody has ever run; the last has what the others leave
    "levels": Part(seconds=190, rows=_levels),
    "sweep": Part(seconds=80, rows=_sweep),
    "agreement": Part(seconds=50, rows=_agreement),
    "walk": Part(seconds=60, rows=_walk),
    "kernels": Part(seconds=TOTAL, rows=_kernels),
}


def missing(device: str) -> list[str]:
    """The wheels that are not here."""
    compilers = [wheel for kind, wheel in COMPILERS.items() if device.startswith(kind)]
    wanted = {**NEEDED, **dict(zip(compilers, compilers, strict=True))}
    return [wheel for module, wheel in wanted.items() if importlib.util.find_spec(module) is None]


def command_of(name: str, given: Given) -> list[str]:
    """What runs a part."""
    small = ["--small"] if given.small else []
    limit = ["--seconds", str(given.seconds)]
    return [sys.executable, __file__, "--part", name, "--device", given.device, *limit, *small]


def run_apart(name: str, given: Given, left: float = TOTAL) -> Row:
    """A part in a process of its own: its rows up to where it ended, and how that was. It may take what it may at most,
    and of all `left` seconds no more.
    """
    seconds = min(PARTS[name].seconds, left)
    command = command_of(name, replace(given, seconds=seconds))
    env = {**os.environ, "PYTHONPATH": ROOT, "PYTHONUNBUFFERED": "1"}
    if given.device == "cpu":
        env["TRITON_INTERPRET"] = "1"  # before Triton is imported
    began = time.monotonic()
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        process = subprocess.Popen(command, cwd=FOLDER, env=env, stdout=out, stderr=err)
        try:
            ended = "well" if process.wait(seconds) == 0 else f"with exit code {process.returncode}"
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            ended = f"beyond its {seconds:.0f} seconds"
        out.seek(0)
        err.seek(0)
        rows = [json.loads(line) for line in out.read().splitlines() if line.startswith("{") and line.endswith("}")]
        tail = "" if ended == "well" else err.read()[-4000:]
    return {"ended": ended, "seconds": time.monotonic() - began, "rows": rows, "stderr": tail}


def about() -> Row:
    """The machine and the versions, as PyTorch and the driver tell them."""
    import torch
    import transformers

    found = {"python": platform.python_version(), "torch": torch.__version__, "transformers": transformers.__version__}
    if importlib.util.find_spec("triton") is not None:
        import triton

        found["triton"] = triton.__version__
    if torch.cuda.is_available():
        from pytest_quantbench.engines.accelerator import accelerator

        return found | {"device": torch.cuda.get_device_name(), "accelerator": str(accelerator("cuda"))}
    return found | {"device": platform.processor() or platform.machine()}


def is_right(parts: Mapping[str, Row]) -> bool:
    """Whether all ended well, and nothing that was checked was wrong."""
    return all(
        part["ended"] == "well" and all(row.get("right", True) for row in part["rows"]) for part in parts.values()
    )


def main() -> None:
    """Run the parts one after the other, and write what they found after each of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--only", choices=list(PARTS), action="append")
    parser.add_argument("--out", type=Path, default=Path(os.environ.get("OUT", "results")))
    parser.add_argument("--part", choices=list(PARTS), help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, default=math.inf, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if lacking := missing(asked.device):
        sys.exit(f"This check needs these wheels, which are not installed: {', '.join(lacking)}.")
    given = Given(device=asked.device, small=asked.small, seconds=asked.seconds)
    if asked.part is not None:
        for row in PARTS[asked.part].rows(given):
            print(json.dumps(row), flush=True)
        return
    from tools.device.report import text

    found: dict[str, Any] = {"about": about(), "shape": given.shape, "parts": {}}
    asked.out.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    for name in asked.only or PARTS:
        found["parts"][name] = run_apart(name, given, TOTAL - (time.monotonic() - began))
        (asked.out / "device_check.json").write_text(json.dumps(found, indent=1))
        (asked.out / "device_check.md").write_text(text(found))
    print(text(found))
    sys.exit(0 if is_right(found["parts"]) else 1)


if __name__ == "__main__":
    main()
