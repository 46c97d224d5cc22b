"""T1 of all levels on one random model, in turn: tokens per second, ratios with intervals, shares of the bandwidth.

    PYTHONPATH=. python tools/device/levels.py                          # 100 million parameters, as `make bench` ends
    PYTHONPATH=. python tools/device/levels.py --shape 8B --runs 3      # on an accelerator
    PYTHONPATH=. python tools/device/levels.py --engine torch:cpu --levels bf16,int4 --json speed.json

Weights are drawn, codes too: how fast a matrix is multiplied with does not depend on its values. The first level is the
reference. Each other one is in memory beside it, and every prompt is gone on from by both in turn. Verdicts are by T1's
own criteria. What is said of the machine's drift and of overhead is what `pytest benches` says.
"""

import argparse
import importlib.util
import json
import math
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from pytest_quantbench import engines
from pytest_quantbench.catalog.criteria import CRITERIA
from pytest_quantbench.engines.protocol import Engine
from pytest_quantbench.engines.resident import Resident
from pytest_quantbench.judge import rates, roofline, speed_ratio
from pytest_quantbench.measures.throughput_runs import PROBE_SIDE, PROBES, observed, reference_first, warmed
from pytest_quantbench.measures.throughput_samples import Memory, Run, ThroughputSamples
from tools.device.random_weights import LEVELS, SHAPES, WRONG, RandomWeights

PROMPTS = (16, 24, 32, 40, 48)  # tokens
NEW_TOKENS = 256
NO_SCIPY = "without scipy there is no interval"
Row: TypeAlias = dict[str, Any]
COLUMNS = "| level | tokens/s | × BF16 | verdict | bytes per token | % of bandwidth | step | kernels |"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is run."""

    config: Mapping[str, Any]
    levels: Sequence[str]  # the reference first
    runs: int = 1  # of every prompt
    new_tokens: int = NEW_TOKENS
    seconds: float = math.inf  # for all levels; one for which it is likely too short is left out

    def prompts(self) -> list[list[int]]:
        """Token ids, drawn once and for all."""
        rng = np.random.default_rng(0)
        return [rng.integers(0, self.config["vocab_size"], length).tolist() for length in PROMPTS]


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A level in memory, and its first runs, until its rate was steady."""

    level: str
    model: Resident
    warm_ups: tuple[Run, ...]


def rows(engine: Engine, plan: Plan, device: str | None) -> Iterator[Row]:
    """The figures of every level as soon as they are known: the reference's own, then each level's beside it. What one
    level raises is its row. One that would likely not end in time, for the longest so far did not, is left out.
    """
    began = before = time.monotonic()
    reference = loaded(engine, plan, plan.levels[0], device)
    yield _figures(plan.levels[0], in_turn(engine, [reference], plan)[0], None) | _peak(engine)
    longest = 0.0
    for level in plan.levels[1:]:
        now = time.monotonic()
        longest, before = max(longest, now - before), now
        if now - began + longest > plan.seconds:
            yield {"level": level, "error": f"left out: {now - began:.0f} of {plan.seconds:.0f} seconds were spent"}
            continue
        try:
            yield _beside(engine, plan, level, reference, device)
        except WRONG as error:
            yield {"level": level, "error": f"{type(error).__name__}: {error}"[:1000], "right": False}
        engine.release()


def _beside(engine: Engine, plan: Plan, level: str, reference: Loaded, device: str | None) -> Row:
    """A level's figures, timed in turn with the reference; its model goes with this call."""
    own, beside = in_turn(engine, [loaded(engine, plan, level, device), reference], plan)
    return _figures(level, own, beside) | _peak(engine)


def _peak(engine: Engine) -> Row:
    return {"peak_gb": engine.peak_bytes() / 1e9}


def loaded(engine: Engine, plan: Plan, level: str, device: str | None) -> Loaded:
    """A level in memory, warmed up."""
    model = engine.load(RandomWeights(plan.config, level, device), "timed")
    return Loaded(level=level, model=model, warm_ups=warmed(lambda: _run(engine, model, plan, 0)))


def in_turn(engine: Engine, pair: Sequence[Loaded], plan: Plan, seed: int = 0) -> list[ThroughputSamples]:
    """The samples of one or two models, the reference last: every prompt by each of them, the first one drawn; in
    front of each run memory is read.
    """
    runs: dict[str, list[Run]] = {each.level: [] for each in pair}
    read: dict[str, list[float]] = {each.level: [] for each in pair}
    probes = []
    for turn, last_first in enumerate(reference_first(seed, plan.runs * len(PROMPTS))):
        probes.append(engine.products_per_second(PROBE_SIDE, PROBES))
        for each in pair[:: -1 if last_first else 1]:
            read[each.level].append(engine.read_bytes_per_second(each.model.bytes_per_token))
            runs[each.level].append(_run(engine, each.model, plan, turn % len(PROMPTS)))
    probes.append(engine.products_per_second(PROBE_SIDE, PROBES))
    return [
        ThroughputSamples(
            warm_ups=each.warm_ups,
            runs=tuple(runs[each.level]),
            reference_runs=() if each is pair[-1] else tuple(runs[pair[-1].level]),
            probes_per_second=tuple(probes),
            threads=engine.threads,
            load_seconds=0.0,
            memory=Memory(peak_bytes=engine.peak_bytes()),
            activations=each.model.activations,
            dense_layers=each.model.dense_layers,
            bytes_per_token=each.model.bytes_per_token,
            kernels=dict(each.model.kernels),
            step=each.model.step,
            read_rates=tuple(read[each.level]),
            reference_bytes_per_token=None if each is pair[-1] else pair[-1].model.bytes_per_token,
            reference_read_rates=() if each is pair[-1] else tuple(read[pair[-1].level]),
        )
        for each in pair
    ]


def _run(engine: Engine, model: Resident, plan: Plan, prompt: int) -> Run:
    ids = plan.prompts()[prompt]
    return observed(lambda: Run.of(prompt, len(ids), model.timed(ids, plan.new_tokens), ""), engine, None)


def _figures(level: str, own: ThroughputSamples, reference: ThroughputSamples | None) -> Row:
    line = roofline.own(own)
    assert line is not None
    speeds = [run.tokens_per_second for run in own.runs]
    found: Row = {
        "level": level,
        "tokens_per_second": rates.mean_rate(own),
        "deviation": float(np.std(speeds, ddof=1)) if len(speeds) > 1 else None,
        "runs": len(speeds),
        "milliseconds_per_token": 1000 * float(np.median([np.median(run.latencies_seconds) for run in own.runs])),
        "bytes_per_token": own.bytes_per_token,
        "read_gb_per_second": float(np.mean(own.read_rates)) / 1e9,
        "bound_tokens_per_second": line.bound,
        "share_of_bandwidth": line.share,
        "activations": own.activations,
        "step": own.step,
        "kernels": dict(own.kernels),
        "matrices_run_decoded": own.dense_layers,
        "probe_drift": rates.probe_drift(own),
    }
    return found if reference is None else found | _judged(level, own, reference)


def _judged(level: str, own: ThroughputSamples, reference: ThroughputSamples) -> Row:
    """The ratio to the reference's runs beside it, and T1's verdict; without scipy, the ratio alone."""
    limit = CRITERIA.get(level.partition("-")[0], {}).get("throughput_ratio")
    if importlib.util.find_spec("scipy") is None:
        pairs = zip(own.runs, own.reference_runs, strict=True)
        value = math.exp(float(np.mean([math.log(a.tokens_per_second / b.tokens_per_second) for a, b in pairs])))
        return {"ratio": value, "low": None, "high": None, "limit": limit, "not_judged": NO_SCIPY, "sentence": NO_SCIPY}
    verdict = speed_ratio.judge_throughput(own, reference, limit)
    return {
        "ratio": verdict.estimate,
        "low": verdict.low,
        "high": verdict.high,
        "limit": limit,
        "outcome": verdict.outcome,
        "not_judged": verdict.not_judged,
        "sentence": verdict.sentence,
    }


def table(found: Sequence[Mapping[str, Any]]) -> str:
    """The same for reading."""
    lines = [COLUMNS, "|---|---:|---:|---|---:|---:|---|---|"]
    for row in found:
        if "error" in row:
            lines.append(f"| {row['level']} | | | {row['error'].splitlines()[0].replace('|', '/')} | | | | |")
            continue
        kernels = ", ".join(f"{count} × {name}" for name, count in row["kernels"].items())
        speed = f"{row['tokens_per_second']:.1f} ± {row['deviation'] or 0:.1f}"
        lines.append(
            f"| {row['level']} | {speed} | {_ratio(row)} | {_outcome(row)} | {row['bytes_per_token'] / 1e6:,.1f} MB | "
            f"{100 * row['share_of_bandwidth']:.0f} | {row['step']} | {kernels} |"
        )
    return "\n".join(lines)


def _ratio(row: Mapping[str, Any]) -> str:
    if row.get("ratio") is None:
        return ""
    interval = "" if row["low"] is None else f" [{row['low']:.2f}, {row['high']:.2f}]"
    return f"{row['ratio']:.2f}{interval}"


def _outcome(row: Mapping[str, Any]) -> str:
    if "limit" not in row:
        return "the reference"
    limit = "no limit" if row["limit"] is None else f"≥ {row['limit']:g} ×"
    return f"{row['not_judged'] or row['outcome']} ({limit})"


def main() -> None:
    """Measure, print the table, and write the figures where they are wanted. An engine whose speed is not judged here
    is not timed: it says why.
    """
    from pytest_quantbench.bench.checks.throughput import not_deployed  # imports what a check of a device lacks

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=list(SHAPES), default="100M")
    parser.add_argument("--engine", default="auto", help="auto, mlx, torch, or such as torch:cpu")
    parser.add_argument("--levels", default=",".join(LEVELS[:5]))
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--new-tokens", type=int, default=NEW_TOKENS)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    engine = engines.get(given.engine)
    if reason := not_deployed(engine):
        print(f"T1 of all levels is left out: it would run {reason}.")
        return
    plan = Plan(
        config=SHAPES[given.shape], levels=given.levels.split(","), runs=given.runs, new_tokens=given.new_tokens
    )
    device = getattr(engine, "device", None)  # PyTorch's engine draws weights where it computes
    found = list(rows(engine, plan, None if device is None else str(device)))
    print(f"A random Llama of {given.shape} parameters; codes are random, speed does not depend on them.")
    print(f"Memory is read at {found[0]['read_gb_per_second']:.1f} GB/s.\n\n{table(found)}\n")
    for row in found:
        if row.get("not_judged") or row.get("outcome") == "undecided":
            print(f"{row['level']}: {row['sentence']}")
    if given.json is not None:
        given.json.write_text(json.dumps(found, indent=1))
    if any("error" in row for row in found):
        sys.exit(1)


if __name__ == "__main__":
    main()
