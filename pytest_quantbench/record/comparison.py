"""Two records of a cell, with their raw samples → every figure that both have, as pairs that `judge.change` settles.

What a rerun changes though nothing was changed is known of the reference: its noise floor, which is how far it is from
itself with activations rounded to bfloat16. Of a mean loss it is one draw, which may be small by accident. What such
rounding moves a cell by lies within a bound that holds for all draws: a cell whose predictions are `k` nats from the
reference's, and that is moved by noise of `n` nats, ends up at most n + 2 √(k n) from where it was (for small distances
the divergence is half the square of one in Fisher's metric, whose triangle inequality says so). The larger of the two
is the floor, and never less than what the order of summing changes in float32.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from pytest_quantbench.errors import unknown
from pytest_quantbench.judge.change import FIGURES, Pair
from pytest_quantbench.judge.rates import MOST_DRIFT
from pytest_quantbench.record import pairing
from pytest_quantbench.record.pairing import Common, Measured
from pytest_quantbench.record.perplexity_schema import Perplexity
from pytest_quantbench.record.schema import NoiseFloor
from pytest_quantbench.stats import series
from pytest_quantbench.stats.estimates import Exact
from pytest_quantbench.stats.proportions import flips

ORDER_NATS = 1e-5  # of a mean loss: another order of summing in float32, as another machine has it
NOT_DEPLOYED = "on a CPU, whose kernels nobody deploys"
TOO_FEW = "fewer than two windows, or all tokens differ alike: run both again with more --tokens."
NO_SOURCES = "the base's record does not tell which questions share a source: run that cell again."
TOO_FEW_PROMPTS = "fewer than two prompts in common, or all differ by the same factor: time one of them again."
MISSING = "only one of the two has measured it: run the other cell again with it."


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
    found = [*_size(base, new), *_texts(base, new, noise), *_tasks(base, new, noise), *_speed(base, new)]
    return [_allowing(pair, allowed.get(pair.metric, 0.0)) for pair in found]


def _allowing(pair: Pair, points: float) -> Pair:
    share = points / 100 if FIGURES[pair.metric].none else points
    return replace(pair, floor=max(pair.floor, share))


def larger(*floors: NoiseFloor | None) -> NoiseFloor | None:
    """Of several noise floors the largest figures; None where there is none."""
    there = [floor for floor in floors if floor is not None]
    if not there:
        return None
    names = ("perplexity_points", "kl_nats", "drop_points", "flipped_points")
    values: dict[str, list[float]] = {n: [v for f in there if (v := getattr(f, n)) is not None] for n in names}
    return NoiseFloor(**{name: max(each) if each else None for name, each in values.items()})


def _size(base: Measured, new: Measured) -> Iterator[Pair]:
    """Stored bytes, which are exact."""
    sizes = [each.record.compression for each in (base, new)]
    if sizes[0] is None or sizes[1] is None:
        return
    before, after = sizes[0].compressed_gb, sizes[1].compressed_gb
    why = pairing.other_model(base.record, new.record)
    growth = Exact(value=100 * (after / before - 1))
    yield Pair(metric="size", base=before, new=after, estimate=growth, identical=before == after and not why, why=why)


def _texts(base: Measured, new: Measured, noise: NoiseFloor | None) -> Iterator[Pair]:
    """Perplexity and KL divergence of every text that either has read, but for the head of the judged one."""
    every = [_perplexities(each) for each in (base, new)]
    for part, new_part in _same_texts(every[0], every[1]):
        texts = every[0].get(part), every[1].get(new_part)
        of = _of(part, new_part, texts[1])
        if texts[0] is None or texts[1] is None:
            yield Pair(metric="perplexity", of=of, why=MISSING)
            continue
        found = pairing.common_tokens(base, new, part, (texts[0], texts[1]), new_part)
        if isinstance(found, str):
            yield Pair(metric="perplexity", of=of, why=found)
            continue
        before, after = base.arrays[f"{part}/nll_nats"][found.base], new.arrays[f"{new_part}/nll_nats"][found.new]
        yield _perplexity(of, before, after, found, noise, texts[0])
        kl = base.arrays.get(f"{part}/kl_nats"), new.arrays.get(f"{new_part}/kl_nats")
        if kl[0] is not None and kl[1] is not None:
            yield _divergence(of, kl[0][found.base], kl[1][found.new], found, noise)
        elif kl[0] is not None or kl[1] is not None:
            yield Pair(metric="kl", of=of, why=MISSING)


def _same_texts(base: Mapping[str, Perplexity], new: Mapping[str, Perplexity]) -> list[tuple[str, str]]:
    """The parts of both that are of one text, whichever of them reads it first; behind them what only one has, together
    where the part is called alike.
    """
    unread = dict(new)
    found, alone = [], []
    for part, text in base.items():
        same = [name for name, other in unread.items() if other.corpus_sha256 == text.corpus_sha256]
        if same:
            there = part if part in same else same[0]
            del unread[there]
            found.append((part, there))
        else:
            alone.append(part)
    return [*found, *((part, part) for part in dict.fromkeys([*alone, *unread]))]


def _of(part: str, new_part: str, text: Perplexity | None) -> str:
    """What text a figure is said to be of: nothing for the one that both judge first."""
    if part != new_part and text is not None:
        return text.corpus
    return part.partition("/")[2]


def _perplexities(each: Measured) -> dict[str, Perplexity]:
    """By the part of the raw samples."""
    record = each.record
    found = {} if record.perplexity is None else {"perplexity": record.perplexity}
    return found | {f"perplexity/{name}": other for name, other in record.perplexities.items()}


def _perplexity(of: str, base: Any, new: Any, common: Common, noise: NoiseFloor | None, text: Perplexity) -> Pair:
    ppl = series.perplexity(base), series.perplexity(new)
    estimate, _ = series.perplexity_delta(base, new, common.drawn)
    if estimate is None and ppl[0] is not None and ppl[1] is None:
        estimate = Exact(value=math.inf)  # it overflows a float64: beyond any noise
    kl = text.divergence.kl_nats if text.divergence else 0.0
    points = (ppl[0] or 0.0) * math.expm1(floor_nats(noise, kl, ppl[0]))
    return Pair(
        metric="perplexity",
        of=of,
        base=ppl[0],
        new=ppl[1],
        estimate=estimate,
        floor=points,
        items=len(base),
        counted="tokens",
        identical=np.array_equal(base, new),
        why="" if estimate is not None else TOO_FEW,
    )


def floor_nats(noise: NoiseFloor | None, kl_nats: float, ppl: float | None) -> float:
    """How far a mean loss may move though nothing was changed, in nats per token; `kl_nats` is how far the base's
    predictions are from the reference's.
    """
    draw = 0.0 if noise is None or ppl is None else (noise.perplexity_points or 0.0) / ppl
    moved = 0.0 if noise is None else noise.kl_nats or 0.0
    return max(ORDER_NATS, draw, moved + 2 * math.sqrt(max(kl_nats, 0.0) * moved))


def _divergence(of: str, base: Any, new: Any, common: Common, noise: NoiseFloor | None) -> Pair:
    before, after = (float(each.mean(dtype=np.float64)) for each in (base, new))
    estimate = series.mean(new.astype(np.float64) - base, common.drawn)
    return Pair(
        metric="kl",
        of=of,
        base=before,
        new=after,
        estimate=estimate,
        floor=floor_nats(noise, before, None),
        items=len(base),
        counted="tokens",
        identical=np.array_equal(base, new),
        why="" if estimate is not None else TOO_FEW,
    )


def _tasks(base: Measured, new: Measured, noise: NoiseFloor | None) -> Iterator[Pair]:
    every = [each.record.accuracy.tasks if each.record.accuracy else {} for each in (base, new)]
    floor = 0.0 if noise is None else noise.drop_points or 0.0
    for task in {**every[0], **every[1]}:
        parts = every[0].get(task), every[1].get(task)
        if parts[0] is None or parts[1] is None:
            yield Pair(metric="accuracy", of=task, why=MISSING)
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
    """Rates by prompt. Within the drift of the machine's own speed that its probes let pass nothing is claimed."""
    parts = [each.record.throughput for each in (base, new)]
    if parts[0] is None and parts[1] is None:
        return
    if parts[0] is None or parts[1] is None:
        yield Pair(metric="throughput", why=MISSING)
        return
    names = [f"throughput/{name}" for name in ("prompt", "tokens_per_second")]
    columns = [[each.arrays[name].tolist() for name in names if name in each.arrays] for each in (base, new)]
    runs = [list(zip(*each, strict=True)) for each in columns]
    other = pairing.other_machine(base.record, new.record) or _other_runs(base, new)
    same = runs[0] == runs[1] and not other  # the very same runs, which were kept
    if not same and (why := other or pairing.drifted(base, new)):
        yield Pair(metric="throughput", base=parts[0].mean_tps, new=parts[1].mean_tps, why=why)
        return
    ratio, machine = series.rate_ratio(*runs), new.record.machine
    judged = machine is not None and machine.backend != "cpu"
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
    return ""
