"""T1 of all levels on one random model, in turn: tokens per second, ratios with intervals, shares of the bandwidth.

    PYTHONPATH=. python tools/device/levels.py                          # 100 million parameters, as `make bench` ends
    PYTHONPATH=. python tools/device/levels.py --shape 8B --runs 3      # on an accelerator
    PYTHONPATH=. python tools/device/levels.py --engine torch:cpu --levels bf16,int4 --new-tokens 64 --json speed.json

Weights are drawn, codes too: how fast a matrix is multiplied with does not depend on its values. All levels are in
memory at once; every prompt is gone on from by each of them in turn, the first one another every time. Verdicts are by
T1's own criteria. What is said of the machine's drift and of overhead is what `pytest benches` says.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pytest_quantbench import engines
from pytest_quantbench.catalog.criteria import CRITERIA
from pytest_quantbench.engines.protocol import Engine
from pytest_quantbench.engines.resident import Resident
from pytest_quantbench.judge import rates, roofline, speed_ratio
from pytest_quantbench.measures.throughput_samples import Run, ThroughputSamples
from tools.device.random_weights import LEVELS, SHAPES, RandomWeights

PROMPTS = (16, 24, 32, 40, 48)  # tokens
NEW_TOKENS = 256
PROBE_SIDE, PROBES = 512, 5
COLUMNS = "| level | tokens/s | × BF16 | verdict | bytes per token | % of bandwidth | step | kernels |"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is run."""

    config: Mapping[str, Any]
    levels: Sequence[str]  # the reference first
    runs: int = 1  # of every prompt
    new_tokens: int = NEW_TOKENS

    def prompts(self) -> list[list[int]]:
        """Token ids, drawn once and for all."""
        rng = np.random.default_rng(0)
        return [rng.integers(0, self.config["vocab_size"], length).tolist() for length in PROMPTS]


def measured(engine: Engine, plan: Plan, device: str | None) -> dict[str, ThroughputSamples]:
    """The samples of every level, each beside the reference's runs."""
    probe = engine.products_per_second(PROBE_SIDE, PROBES)
    loaded = {level: engine.load(RandomWeights(plan.config, level, device), "timed") for level in plan.levels}
    warm = {level: _run(model, plan, 0) for level, model in loaded.items()}
    runs, read = _in_turn(engine, loaded, plan)
    probes = probe, engine.products_per_second(PROBE_SIDE, PROBES)
    reference = tuple(runs[plan.levels[0]])
    return {
        level: ThroughputSamples(
            warm_up=warm[level],
            runs=tuple(runs[level]),
            reference_runs=() if level == plan.levels[0] else reference,
            probes_per_second=probes,
            load_seconds=0.0,
            peak_bytes=engine.peak_bytes(),
            activations=model.activations,
            dense_layers=model.dense_layers,
            bytes_per_token=model.bytes_per_token,
            kernels=dict(model.kernels),
            step=model.step,
            read_rates=tuple(read[level]),
            reference_bytes_per_token=loaded[plan.levels[0]].bytes_per_token,
            reference_read_rates=tuple(read[plan.levels[0]]),
        )
        for level, model in loaded.items()
    }


def _in_turn(
    engine: Engine, loaded: Mapping[str, Resident], plan: Plan
) -> tuple[dict[str, list[Run]], dict[str, list[float]]]:
    """Every prompt by all levels, beginning with another one every time; in front of each run memory is read."""
    runs: dict[str, list[Run]] = {level: [] for level in loaded}
    read: dict[str, list[float]] = {level: [] for level in loaded}
    order = list(loaded)
    for turn in range(plan.runs * len(PROMPTS)):
        for level in order:
            read[level].append(engine.read_bytes_per_second(loaded[level].bytes_per_token))
            runs[level].append(_run(loaded[level], plan, turn % len(PROMPTS)))
        order = [*order[1:], order[0]]
    return runs, read


def _run(model: Resident, plan: Plan, prompt: int) -> Run:
    ids = plan.prompts()[prompt]
    return Run.of(prompt, len(ids), model.timed(ids, plan.new_tokens), "")


def told(samples: Mapping[str, ThroughputSamples], levels: Sequence[str]) -> list[dict[str, Any]]:
    """The figures of every level, and its verdict by T1's criterion."""
    reference = samples[levels[0]]
    return [_figures(level, samples[level], reference) for level in levels]


def _figures(level: str, own: ThroughputSamples, reference: ThroughputSamples) -> dict[str, Any]:
    line = roofline.own(own)
    assert line is not None
    speeds = [run.tokens_per_second for run in own.runs]
    found: dict[str, Any] = {
        "level": level,
        "tokens_per_second": rates.mean_rate(own),
        "deviation": float(np.std(speeds, ddof=1)) if len(speeds) > 1 else None,
        "runs": len(speeds),
        "milliseconds_per_token": 1000 * float(np.median([np.median(run.latencies_seconds) for run in own.runs])),
        "bytes_per_token": own.bytes_per_token,
        "bound_tokens_per_second": line.bound,
        "share_of_bandwidth": line.share,
        "activations": own.activations,
        "step": own.step,
        "kernels": dict(own.kernels),
        "matrices_run_decoded": own.dense_layers,
        "probe_drift": rates.probe_drift(own),
    }
    if own is reference:
        return found
    limit = CRITERIA.get(level.partition("-")[0], {}).get("throughput_ratio")
    verdict = speed_ratio.judge_throughput(own, reference, limit)
    found |= {"ratio": verdict.estimate, "low": verdict.low, "high": verdict.high, "limit": limit}
    return found | {"outcome": verdict.outcome, "not_judged": verdict.not_judged, "sentence": verdict.sentence}


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The same for reading."""
    lines = [COLUMNS, "|---|---:|---:|---|---:|---:|---|---|"]
    for row in rows:
        ratio = "" if row.get("low") is None else f"{row['ratio']:.2f} [{row['low']:.2f}, {row['high']:.2f}]"
        kernels = ", ".join(f"{count} × {name}" for name, count in row["kernels"].items())
        speed = f"{row['tokens_per_second']:.1f} ± {row['deviation'] or 0:.1f}"
        lines.append(
            f"| {row['level']} | {speed} | {ratio} | {_outcome(row)} | {row['bytes_per_token'] / 1e6:,.1f} MB | "
            f"{100 * row['share_of_bandwidth']:.0f} | {row['step']} | {kernels} |"
        )
    return "\n".join(lines)


def _outcome(row: Mapping[str, Any]) -> str:
    if "outcome" not in row:
        return "the reference"
    limit = "no limit" if row["limit"] is None else f"≥ {row['limit']:g} ×"
    return f"{row['not_judged'] or row['outcome']} ({limit})"


def run(engine: Engine, plan: Plan, device: str | None) -> dict[str, Any]:
    """Figures, with what they are of."""
    samples = measured(engine, plan, device)
    rows = told(samples, plan.levels)
    read = float(np.mean(samples[plan.levels[0]].read_rates))
    return {"levels": rows, "read_gb_per_second": read / 1e9, "peak_gb": engine.peak_bytes() / 1e9}


def main() -> None:
    """Measure, print the table, and write the figures where they are wanted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=list(SHAPES), default="100M")
    parser.add_argument("--engine", default="auto", help="auto, mlx, torch, or such as torch:cpu")
    parser.add_argument("--levels", default=",".join(LEVELS[:5]))
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--new-tokens", type=int, default=NEW_TOKENS)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    engine = engines.get(given.engine)
    plan = Plan(
        config=SHAPES[given.shape], levels=given.levels.split(","), runs=given.runs, new_tokens=given.new_tokens
    )
    device = getattr(engine, "device", None)  # PyTorch's engine draws weights where it computes
    found = run(engine, plan, None if device is None else str(device))
    print(f"A random Llama of {given.shape} parameters; codes are random, speed does not depend on them.")
    print(f"Memory is read at {found['read_gb_per_second']:.1f} GB/s.\n\n{table(found['levels'])}\n")
    for row in found["levels"]:
        if row.get("not_judged"):
            print(f"{row['level']}: {row['sentence']}")
    if given.json is not None:
        given.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
