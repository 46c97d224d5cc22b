"""Whether reading ahead makes a walk faster: ways of reading a checkpoint, by itself and in a walk, cold and warm.

    python tools/peers/reading.py alone --model DIRECTORY               # the bytes of each layer, one after the other
    python tools/peers/reading.py walk --model DIRECTORY --engine torch # a walk of 256 tokens through them

Every measurement runs in a process of its own, in random order within each repeat. Before a cold one the files' pages
are given back to the system (posix_fadvise), and how much stayed in memory is looked up; before a warm one all is read.

Ways: `mapped` is what the walks do (PyTorch's by a memory map, MLX's by its own reads); `plain` reads each tensor into
memory of its own; `asked` asks the system for the next layer's bytes (POSIX_FADV_WILLNEED) before a layer is read;
`thread` has a thread read them; `blocks` keeps at most 64 MB of mapped blocks and asks for the one behind; `decoded`
walks a copy of the model that is stored in float32, as walks compute.
"""

import argparse
import json
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pytest_quantbench import engines
from pytest_quantbench.catalog.models import TINY_DIRECTORY
from pytest_quantbench.catalog.recipes import REFERENCE
from pytest_quantbench.checkpoints.checkpoint import Checkpoint
from pytest_quantbench.checkpoints.shards import weight_files
from pytest_quantbench.checkpoints.tokenizer import load_tokenizer
from pytest_quantbench.compress.pipeline import reference
from pytest_quantbench.storage import page_cache

sys.path.append(str(Path(__file__).parent))
from reading_ways import AHEAD, Ahead, alone, by_layer, ranges  # type: ignore[import-not-found]

WAYS = {
    "alone": ("mapped", "plain", "asked", "thread", "blocks"),
    "walk": ("mapped", "asked", "thread", "plain", "decoded"),
}


def walk(directory: Path, way: str, engine_name: str, tokens: int) -> Callable[[], None]:
    """A walk that is ready to begin, the model opened and proved."""
    engine = engines.get(engine_name)
    opened = engine.open(Checkpoint(directory, sha256="0" * 64))
    if way == "plain":
        _read_plainly(opened)
    ids = load_tokenizer(directory).encode((TINY_DIRECTORY / "heldout.txt").read_text())[:tokens]
    made = engine.walk([reference(opened, REFERENCE, Path("/nonexistent"))])
    ahead = AHEAD.get(way, Ahead)(by_layer(weight_files(directory)))

    def through() -> None:
        ahead.layer(0)
        made.begin([np.array([ids], np.int32)])
        for index in range(len(made)):
            ahead.layer(index + 2)  # the first is what is outside
            made.advance(index)
        assert np.isfinite(made.logits(0, slice(tokens - 1, tokens)).nll(np.array([0]))).all()

    return through


def _read_plainly(opened: Any) -> None:
    """Have PyTorch's tensors read from the file into memory of their own. MLX's always are."""
    import torch

    places = {name: (file, place) for file in opened.checkpoint.files for name, place in ranges(file).items()}
    stored, mapped = opened._stored, type(opened._stored).__getitem__

    def read(name: str) -> Any:
        like, (file, place) = mapped(stored, name), places[name]
        held = torch.from_numpy(np.fromfile(file, np.uint8, place[1] - place[0], offset=place[0]))
        return held.view(like.dtype).view(like.shape)

    class Plain(type(stored)):  # type: ignore[misc]
        def __getitem__(self, name: str) -> Any:
            return read(name)

    stored.__class__ = Plain


def as_float32(directory: Path, to: Path) -> Path:
    """A copy of a model that is stored in float32, one file for each of its."""
    import torch
    from safetensors import safe_open
    from safetensors.torch import save_file

    for file in directory.iterdir():
        if not file.name.endswith(".safetensors"):
            (to / file.name).write_bytes(file.read_bytes())
    for file in weight_files(directory):
        with safe_open(file, framework="pt") as held:
            save_file({name: held.get_tensor(name).to(torch.float32) for name in held.offset_keys()}, to / file.name)
    return to


def measured(arguments: argparse.Namespace) -> None:
    """In this process: one measurement, printed as JSON."""
    act: Callable[[], None] = (
        walk(arguments.model, arguments.way, arguments.engine, arguments.tokens)
        if arguments.what == "walk"
        else lambda: alone(arguments.model, arguments.way)
    )
    files = weight_files(arguments.model)
    if arguments.cold:
        page_cache.drop(files)
    else:
        page_cache.read(files)
    share = page_cache.resident_share(files)
    began, used = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
    act()
    seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime
    print(json.dumps({"wall": seconds, "cpu": cpu, "faults": after.ru_majflt - used.ru_majflt, "resident": share}))


def apart(arguments: argparse.Namespace, way: str, cold: bool, model: Path) -> dict[str, float]:
    """One measurement in a process of its own."""
    command = [sys.executable, __file__, arguments.what, "--model", str(model), "--engine", arguments.engine]
    command += ["--tokens", str(arguments.tokens), "--way", way, *(["--cold"] if cold else [])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def compare(arguments: argparse.Namespace) -> None:
    """Every way from disk and from memory, so often, in random order; a table with ratios to `mapped`."""
    ways = arguments.ways or WAYS[arguments.what]
    found: dict[tuple[str, bool], list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory(prefix="float32-") as folder:
        copy = as_float32(arguments.model, Path(folder)) if "decoded" in ways else arguments.model
        for repeat in range(arguments.repeats):
            order = [(way, cold) for way in ways for cold in (True, False)]
            random.Random(repeat).shuffle(order)
            for way, cold in order:
                each = apart(arguments, way, cold, copy if way == "decoded" else arguments.model)
                found.setdefault((way, cold), []).append(each)
                print("#", repeat, way, "cold" if cold else "warm", each, file=sys.stderr, flush=True)
    print("\n".join(table(ways, found)))


def table(ways: Sequence[str], found: Mapping[tuple[str, bool], Sequence[Mapping[str, float]]]) -> Iterator[str]:
    """Mean and standard deviation of wall seconds, CPU seconds, and wall seconds over those of `mapped`, in pairs."""
    yield "| way | from | wall s | sd | CPU s | over mapped: least, median, most | in memory before |"
    yield "|---|---|---|---|---|---|---|"
    for cold in (True, False):
        for way in ways:
            runs, before = found[way, cold], found[ways[0], cold]
            wall = [run["wall"] for run in runs]
            ratios = sorted(run["wall"] / other["wall"] for run, other in zip(runs, before, strict=True))
            yield (
                f"| {way} | {'disk' if cold else 'memory'} | {statistics.mean(wall):.2f} | {statistics.stdev(wall):.2f}"
                f" | {statistics.mean(run['cpu'] for run in runs):.2f} | {ratios[0]:.2f},"
                f" {statistics.median(ratios):.2f}, {ratios[-1]:.2f} | {max(run['resident'] for run in runs):.1%} |"
            )


def main() -> None:
    """From the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=list(WAYS))
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--engine", default="torch")
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--ways", nargs="*")
    parser.add_argument("--way", help=argparse.SUPPRESS)
    parser.add_argument("--cold", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.way:
        measured(arguments)
    else:
        compare(arguments)


if __name__ == "__main__":
    main()
