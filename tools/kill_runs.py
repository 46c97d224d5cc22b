"""Kill whole runs at random moments and run them again: python tools/kill_runs.py 50 [--seed 0] [--keep FOLDER]

A run judges the embedded model (T1, T2, T3, size, weights; one calibrated recipe) in a process group of its own, which
gets SIGKILL. What it left is in the table, and so is what became of the run after it: whether it completed, whether its
records, raw samples and artifacts are those of a run that nobody disturbed (timings and dates aside), and what lies
about that belongs to nobody.
"""

import argparse
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pytest_quantbench.catalog.models import TINY_DIRECTORY

ROOT = Path(__file__).parent.parent
RECIPES = ("bf16", "int4-rtn", "int4-gptq")
SMALL = (
    "--tokens 256 --limit 10 --runs 1 --new-tokens 8 --fixed --calibration-sequences 4 -p no:cacheprovider "
    "--assert=plain"
)
CHANGING = ("timestamp", "commands", "session", "throughput", "sha256", "raw_sha256")


@dataclass(frozen=True, slots=True)
class Place:
    """A cache and a results folder."""

    folder: Path

    @property
    def cache(self) -> Path:
        return self.folder / "cache"

    @property
    def results(self) -> Path:
        return self.folder / "results"

    def inventory(self) -> str:
        """What is there, in a few words."""
        begun = list(self.cache.glob("artifacts/.building-*"))
        layers = sum(len(list(each.glob("*.done"))) for each in begun)
        artifacts = len(list(self.cache.glob("artifacts/*"))) - len(begun)
        samples, records = (len(list(each)) for each in (self.cache.glob("measurements/*"), self.results.glob("*.npz")))
        started = f" and {len(begun)} begun with {layers} layers" if begun else ""
        return f"{artifacts} artifacts{started}, {samples} samples, {records} records"

    def litter(self) -> list[str]:
        """What a completed run should not have left."""
        files = [path for path in self.folder.rglob("*") if path.name.startswith((".", "damaged-"))]
        return [str(path.relative_to(self.folder)) for path in (*files, *self.folder.rglob("*.done"))]

    def content(self) -> dict[str, Any]:
        """Records, raw samples and artifacts, but for what differs from run to run."""
        records = [path for path in self.results.glob("*.json") if path.name != "combined.json"]
        found: dict[str, Any] = {path.name: _lasting(json.loads(path.read_text())) for path in records}
        for path in self.results.glob("*.npz"):
            with np.load(path) as arrays:
                found[path.name] = {n: arrays[n].tolist() for n in arrays.files if not n.startswith("throughput/")}
        for path in self.cache.glob("artifacts/*/*"):
            content = path.read_bytes()
            if path.name == "manifest.json":
                manifest = json.loads(content)
                found[f"{path.parent.name}/{path.name}"] = {
                    name: value for name, value in manifest.items() if name not in ("seconds", "sha256")
                }
            else:
                found[f"{path.parent.name}/{path.name}"] = hashlib.sha256(content).hexdigest()
        return found


def _lasting(record: dict[str, Any]) -> dict[str, Any]:
    """A record without dates, timings, T1, and the hashes that cover them."""
    kept = {name: value for name, value in record.items() if name not in CHANGING}
    kept["verdicts"] = [each for each in record["verdicts"] if each["metric"] != "throughput_ratio"]
    for part in ("compression", "perplexity", "accuracy"):
        kept[part] = record[part] and {name: value for name, value in record[part].items() if name != "time_sec"}
    return kept


def arguments(place: Place, texts: Path, *more: str) -> list[str]:
    """What pytest is called with; `texts` is a folder that gets a text to judge on and one to calibrate with."""
    told = (TINY_DIRECTORY / "heldout.txt").read_text()
    for name, half in (("corpus.txt", told[: len(told) // 2]), ("calibration.txt", told[len(told) // 2 :])):
        if not (texts / name).exists():
            (texts / name).write_text(half)
    files = ["--corpus", str(texts / "corpus.txt"), "--calibration", str(texts / "calibration.txt")]
    recipes = [part for name in RECIPES for part in ("--recipe", name)]
    return ["benches", "-k", "Tiny", *SMALL.split(), *recipes, *files, "--results", str(place.results), *more]


def start(place: Place, texts: Path) -> "subprocess.Popen[bytes]":
    """A run, in a process group of its own; what it says is in `log.txt`."""
    place.folder.mkdir(exist_ok=True)
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "QUANTBENCH_CACHE": str(place.cache), "PYTHONPATH": paths}
    command = [sys.executable, "-m", "pytest", *arguments(place, texts)]
    with (place.folder / "log.txt").open("ab") as log:
        return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True)


def kill(group: int) -> None:
    """Take a whole process group down, as a power cut would."""
    os.killpg(group, signal.SIGKILL)


def completed(place: Place, texts: Path) -> float:
    """Run to the end; returns the seconds. Raises RuntimeError where it fails."""
    began = time.perf_counter()
    if code := start(place, texts).wait():
        raise RuntimeError(f"exit code {code}, see {place.folder / 'log.txt'}")
    return time.perf_counter() - began


def row(cells: Sequence[object]) -> str:
    """A line of the table."""
    return "| " + " | ".join(map(str, cells)) + " |"


def main() -> None:
    """Undisturbed once, then killed and completed N times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("number", type=int, metavar="N", help="how many runs are killed")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default 0)")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="work here, and leave what was not as it should be")
    given = parser.parse_args()
    work = given.keep or Path(tempfile.mkdtemp())
    work.mkdir(parents=True, exist_ok=True)
    whole = Place(work / "whole")
    whole_seconds = completed(whole, work)
    wanted = whole.content()
    print(f"undisturbed: {whole_seconds:.1f} s, {whole.inventory()}\n")
    print(row(["#", "killed after s", "what was there", "rerun", "s", "equal", "litter"]), row(["---"] * 7), sep="\n")
    wrong = 0
    for number, moment in enumerate(np.random.default_rng(given.seed).uniform(0, whole_seconds, given.number), 1):
        place = Place(work / str(number))
        process = start(place, work)
        try:
            process.wait(moment)
            there = "it was done: " + place.inventory()
        except subprocess.TimeoutExpired:
            kill(process.pid)
            process.wait()
            there = place.inventory()
        try:
            seconds, outcome = f"{completed(place, work):.1f}", "completed"
        except RuntimeError as error:
            seconds, outcome = "–", str(error)
        equal, litter = place.content() == wanted, place.litter()
        print(row([number, f"{moment:.1f}", there, outcome, seconds, equal, litter or "–"]), flush=True)
        if outcome == "completed" and equal and not litter:
            shutil.rmtree(place.folder)
        else:
            wrong += 1
    print(f"\n{given.number} killed, {given.number - wrong} completed with the same content, {wrong} not")
    if not (given.keep or wrong):
        shutil.rmtree(work)
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
