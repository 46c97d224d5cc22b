"""Two records of a cell, with their raw samples → every figure that either has, in pairs for `judge.change`."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from pytest_quantbench.errors import unknown
from pytest_quantbench.judge.change import Pair
from pytest_quantbench.judge.figures import FIGURES
from pytest_quantbench.judge.rates import MOST_DRIFT
from pytest_quantbench.record import pairing
from pytest_quantbench.record.pairing import Common, Measured
from pytest_quantbench.record.raw import texts_of
from pytest_quantbench.record.schema import NoiseFloor
from pytest_quantbench.record.state import judges_speed
from pytest_quantbench.record.text_comparison import texts
from pytest_quantbench.stats import speeds
from pytest_quantbench.stats.estimates import Exact
from pytest_quantbench.stats.proportions import flips

NO_GROWTH = 0.005  # percent of the base's bytes, such as a longer name in a file's header
NOT_DEPLOYED = "on kernels that nobody deploys"
NO_SOURCES = "the base's record does not tell which questions share a source: run that cell again."
TOO_FEW_PROMPTS = "fewer than two prompts in common, or all differ by the same factor: time one of them again."


def pairs(
    base: Measured, new: Measured, noise: NoiseFloor | None = None, allowed: Mapping[str, float] | None = None
) -> list[Pair]:
    """Every figure that either record has. `noise`: of the model's reference. `allowed`: by how much a figure may get
    worse, by its name in `FIGURES`; a throughput by so many percent. Raises UnknownNameError for another name.
    """
    allowed = allowed or {}
    for name in allowed:
        if name not in FIGURES:
            raise unknown("figure to allow", name, list(FIGURES))
    found = [*_size(base, new), *texts(base, new, noise), *_tasks(base, new, noise), *_speed(base, new)]
    return [_allowing(pair, allowed.get(pair.metric, 0.0)) for pair in found]


def _allowing(pair: Pair, points: float) -> Pair:
    share = points / 100 if FIGURES[pair.metric].none else points
    return replace(pair, floor=max(pair.floor, share))


def _size(base: Measured, new: Measured) -> Iterator[Pair]:
    """Stored bytes, which are exact; of less than what two decimals show nothing is said."""
    sizes = [each.record.compression for each in (base, new)]
    if sizes[0] is None and sizes[1] is None:
        return
    if sizes[0] is None or sizes[1] is None:
        yield pairing.one_sided("size", "", in_base=sizes[0] is not None)
        return
    before, after = sizes[0].compressed_gb, sizes[1].compressed_gb
    why = pairing.other_model(base.record, new.record)
    growth = Exact(value=100 * (after / before - 1))
    same = before == after and not why
    yield Pair(metric="size", base=before, new=after, estimate=growth, floor=NO_GROWTH, identical=same, why=why)


def _tasks(base: Measured, new: Measured, noise: NoiseFloor | None) -> Iterator[Pair]:
    every = [each.record.accuracy.tasks if each.record.accuracy else {} for each in (base, new)]
    floor = 0.0 if noise is None else noise.drop_points or 0.0
    for task in {**every[0], **every[1]}:
        parts = every[0].get(task), every[1].get(task)
        if parts[0] is None or parts[1] is None:
            yield pairing.one_sided("accuracy", task, in_base=parts[0] is not None)
            continue
        found = pairing.common_questions(base, new, task, (parts[0], parts[1]))
        if isinstance(found, str):
            yield Pair(metric="accuracy", of=task, why=found)
            continue
        names = base.arrays.get(f"accuracy/{task}/clusters", np.array([]))
        if parts[0].clusters not in (None, parts[0].questions) and not len(names):
            yield Pair(metric="accuracy", of=task, why=NO_SOURCES)
            continue
        yield _accuracy(base, new, task, found, [names[place] for place in found.base] if len(names) else [], floor)


def _accuracy(base: Measured, new: Measured, task: str, common: Common, names: list[str], floor: float) -> Pair:
    right = [each.arrays[f"accuracy/{task}/correct"] for each in (base, new)]
    before, after = right[0][common.base], right[1][common.new]
    return Pair(
        metric="accuracy",
        of=task,
        base=float(before.mean()),
        new=float(after.mean()),
        estimate=flips(before, after, names),
        floor=floor,
        items=len(before),
        counted="questions",
        identical=_answers(base, task, common.base) == _answers(new, task, common.new),
    )


def _answers(each: Measured, task: str, places: Any) -> list[Any]:
    """What was answered to each of these questions, to the last bit: the choices' log-likelihoods, and what was
    written.
    """
    names = ("choices", "loglikelihoods", "texts", "correct")
    arrays = {name: each.arrays[f"accuracy/{task}/{name}"] for name in names}
    ends = np.cumsum(arrays["choices"])
    asked = [
        arrays["loglikelihoods"][ends[place] - arrays["choices"][place] : ends[place]].tolist() for place in places
    ]
    return [asked, arrays["texts"][places].tolist(), arrays["correct"][places].tolist()]


def _speed(base: Measured, new: Measured) -> Iterator[Pair]:
    """Rates by prompt. Within the drift of the machine's own speed that its probes let pass nothing is claimed. A
    base's rates of kernels that nobody deploys are told and not judged, and never missed.
    """
    parts, judged = [each.record.throughput for each in (base, new)], judges_speed(base.record)
    if parts[0] is None and parts[1] is None:
        return
    if parts[0] is None or parts[1] is None:
        yield replace(pairing.one_sided("throughput", "", in_base=parts[0] is not None), judged=judged)
        return
    names = [f"throughput/{name}" for name in ("prompt", "tokens_per_second")]
    columns = [[each.arrays[name].tolist() for name in names if name in each.arrays] for each in (base, new)]
    runs = [list(zip(*each, strict=True)) for each in columns]
    other = pairing.other_machine(base.record, new.record) or _other_runs(base, new)
    same = runs[0] == runs[1] and not other  # the very same runs, which were kept
    if not same and (why := other or pairing.drifted(base, new) or pairing.disturbed(base, new)):
        yield Pair(metric="throughput", base=parts[0].mean_tps, new=parts[1].mean_tps, judged=judged, why=why)
        return
    ratio = speeds.unpaired_ratio(runs[0], runs[1])
    yield Pair(
        metric="throughput",
        base=parts[0].mean_tps,
        new=parts[1].mean_tps,
        estimate=ratio,
        floor=MOST_DRIFT,
        items=len(runs[1]),
        counted="runs",
        identical=same,
        judged=judged,
        why=NOT_DEPLOYED if not judged else "" if ratio else TOO_FEW_PROMPTS,
    )


def _other_runs(base: Measured, new: Measured) -> str:
    """Why two T1s are not of the same work; empty where they are."""
    name = "throughput/latencies_seconds"
    for each in (base, new):
        if name not in each.arrays:
            return pairing.LOST.format(each.name)
    tokens = [each.arrays[name].shape[1] + 1 for each in (base, new)]
    if tokens[0] != tokens[1]:
        return f"their runs wrote {tokens[0]} and {tokens[1]} tokens: time one of them again."
    asked = [each.arrays.get("throughput/prompts") for each in (base, new)]
    if asked[0] is not None and asked[1] is not None and texts_of(asked[0]) != texts_of(asked[1]):
        return "they went on from different prompts: time one of them again, with the other's --prompts."
    return ""
