"""Two records' losses and divergences, text by text, as pairs that `judge.change` settles.

What a rerun changes though nothing was changed is known of the reference: its noise floor, which is how far it is from
itself with activations rounded to bfloat16. Of a mean loss it is one draw, which may be small by accident. What such
rounding moves a cell by lies within a bound that holds for all draws: a cell whose predictions are `k` nats from the
reference's, and that is moved by noise of `n` nats, ends up at most n + 2 √(k n) from where it was (for small distances
the divergence is half the square of one in Fisher's metric, whose triangle inequality says so). The larger of the two
is the floor, and never less than what the order of summing changes in float32.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from pytest_quantbench.judge.change import Pair
from pytest_quantbench.record import pairing
from pytest_quantbench.record.pairing import MISSING, Common, Measured
from pytest_quantbench.record.perplexity_schema import Perplexity
from pytest_quantbench.record.schema import NoiseFloor
from pytest_quantbench.stats import series
from pytest_quantbench.stats.estimates import Exact

ORDER_NATS = 1e-5  # of a mean loss: another order of summing in float32, as another machine has it
TOO_FEW = "fewer than two windows, or all tokens differ alike: run both again with more --tokens."
NOT_NUMBERS = "samples of the {} are no numbers (NaN or infinite): run that cell again with --fresh."


def texts(base: Measured, new: Measured, noise: NoiseFloor | None) -> Iterator[Pair]:
    """Perplexity and KL divergence of every text that either has read, but for the head of the judged one."""
    every = [_perplexities(each) for each in (base, new)]
    for part, new_part in _same_texts(every[0], every[1]):
        both = every[0].get(part), every[1].get(new_part)
        of = _of(part, new_part, both[1])
        if both[0] is None or both[1] is None:
            yield Pair(metric="perplexity", of=of, why=MISSING)
            continue
        found = pairing.common_tokens(base, new, part, (both[0], both[1]), new_part)
        if isinstance(found, str):
            yield Pair(metric="perplexity", of=of, why=found)
            continue
        before, after = base.arrays[f"{part}/nll_nats"][found.base], new.arrays[f"{new_part}/nll_nats"][found.new]
        why = _not_numbers(before, after)
        yield (
            Pair(metric="perplexity", of=of, why=why) if why else _perplexity(of, before, after, found, noise, both[0])
        )
        kl = base.arrays.get(f"{part}/kl_nats"), new.arrays.get(f"{new_part}/kl_nats")
        if kl[0] is not None and kl[1] is not None:
            before, after = kl[0][found.base], kl[1][found.new]
            why = _not_numbers(before, after)
            yield Pair(metric="kl", of=of, why=why) if why else _divergence(of, before, after, found, noise)
        elif kl[0] is not None or kl[1] is not None:
            yield Pair(metric="kl", of=of, why=MISSING)


def _not_numbers(base: Any, new: Any) -> str:
    """Why samples are not compared that are NaN or infinite; empty where none is."""
    wrong = [side for side, each in (("base", base), ("new run", new)) if not np.isfinite(each).all()]
    return NOT_NUMBERS.format(wrong[0]) if wrong else ""


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
        floor_measured=_is_measured(noise),
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


def _is_measured(noise: NoiseFloor | None) -> bool:
    return noise is not None and (noise.perplexity_points is not None or noise.kl_nats is not None)


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
        floor_measured=_is_measured(noise),
        items=len(base),
        counted="tokens",
        identical=np.array_equal(base, new),
        why="" if estimate is not None else TOO_FEW,
    )
