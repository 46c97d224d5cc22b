"""How often T1 is sure of a ratio that other load made: the same T1 twice beside programs that come and go, and again.

    PYTHONPATH=. python tools/speed_beside_load.py                       # twenty pairs of sessions, two programs
    PYTHONPATH=. python tools/speed_beside_load.py --programs 0          # beside nothing but what runs here anyway
    PYTHONPATH=. python tools/speed_beside_load.py --shape 100M --new-tokens 32

The model is a random Llama, as in `device/levels.py`; PyTorch's engine on one thread of a CPU. Programs compute or read
memory for exponential times, and sleep as long. Of each pair it is told whether the two ratios have intervals that
overlap, one of both is undecided, or both are certain of ratios that exclude each other, which must not be. Beside it
stands what each would have said by the intervals alone, whatever the machine did.
"""

import argparse
import json
import multiprocessing
import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pytest_quantbench import engines
from pytest_quantbench.judge import rates
from pytest_quantbench.measures.throughput_samples import ThroughputSamples
from pytest_quantbench.stats import speeds
from pytest_quantbench.stats.estimates import Interval
from tools.device.levels import Plan, in_turn, loaded
from tools.device.random_weights import SHAPES

LEVELS = ("bf16", "int4")
READ_BYTES = 2**27


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """What one T1 said: its ratio, where it had one, and what the intervals alone would have said."""

    why_not: str
    ratio: Interval | None
    alone: Interval | None
    rounds: int
    cpu_share: float | None


def _busy(seed: int, seconds: float) -> None:
    """A program that computes or reads memory, and sleeps, in turn, for ever."""
    rng, numbers = np.random.default_rng(seed), np.ones(READ_BYTES // 8)
    while True:
        until, reads = time.monotonic() + rng.exponential(seconds), rng.random() < 0.5
        while time.monotonic() < until:
            numbers.max() if reads else sum(range(20_000))
        time.sleep(rng.exponential(seconds))


@contextmanager
def beside(programs: int, seed: int, seconds: float) -> Iterator[None]:
    """So many programs run meanwhile."""
    started = [
        multiprocessing.get_context("spawn").Process(target=_busy, args=(1000 * seed + each, seconds), daemon=True)
        for each in range(programs)
    ]
    for each in started:
        each.start()
    try:
        yield
    finally:
        for each in started:
            each.terminate()
            each.join()


def outcome(pair: Sequence[Interval | None]) -> str:
    """What two intervals of one ratio say of each other; None: undecided."""
    first, second = pair
    if first is None or second is None:
        return "undecided"
    return "overlap" if first.low <= second.high and second.low <= first.high else "exclude each other"


def _session(own: ThroughputSamples, reference: ThroughputSamples) -> Session:
    pairs = [[(run.prompt, run.tokens_per_second) for run in each] for each in (own.reference_runs, own.runs)]
    alone, ratio = speeds.paired_ratio(pairs[0], pairs[1]), rates.ratio(own, reference)
    return Session(
        why_not=rates.suppressed(own, reference),
        ratio=None if ratio is None else ratio.interval(),
        alone=None if alone is None else alone.interval(),
        rounds=len(own.runs),
        cpu_share=rates.cpu_share(own.runs),
    )


def sessions(given: argparse.Namespace) -> Iterator[Session]:
    """One after the other, twice as many as there are repeats; in every other one the models are loaded anew."""
    engine = engines.get("torch:cpu")
    plan = Plan(config=SHAPES[given.shape], levels=LEVELS, runs=given.runs, new_tokens=given.new_tokens)
    for number in range(2 * given.repeats):
        with beside(given.programs, given.seed + number, given.seconds):
            pair = [loaded(engine, plan, level, "cpu") for level in reversed(LEVELS)]
            own, reference = in_turn(engine, pair, plan, seed=given.seed + number)
        yield _session(own, reference)


def main() -> None:
    """Run the pairs, a line for each, and the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=20, help="pairs of sessions (default 20)")
    parser.add_argument("--programs", type=int, default=2, help="that run beside (default 2)")
    parser.add_argument("--seconds", type=float, default=3.0, help="that a program runs, and sleeps, on average")
    parser.add_argument("--shape", choices=list(SHAPES), default="small")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    if os.environ.get("OMP_NUM_THREADS") != "1":
        parser.error("set OMP_NUM_THREADS=1: one thread, whose clock tells whether it waited.")
    said, alone, lines = Counter[str](), Counter[str](), []
    found = sessions(given)
    for number, pair in enumerate(zip(found, found, strict=True), 1):
        results = outcome([each.ratio for each in pair]), outcome([each.alone for each in pair])
        said[results[0]] += 1
        alone[results[1]] += 1
        shown = [
            f"{each.alone.estimate:.2f} [{each.alone.low:.2f}, {each.alone.high:.2f}] ({each.why_not or 'certain'})"
            for each in pair
            if each.alone is not None
        ]
        lines.append({"pair": number, "said": results[0], "alone": results[1], "sessions": shown})
        print(f"{number:3} {results[0]:20} by the intervals alone {results[1]:20} {'; '.join(shown)}", flush=True)
    print(f"said: {dict(said)}; by the intervals alone: {dict(alone)}")
    if given.json is not None:
        given.json.write_text(json.dumps({"said": said, "alone": alone, "pairs": lines}, indent=1))


if __name__ == "__main__":
    main()
