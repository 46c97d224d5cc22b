"""Records and raw samples of one model's cells → where each stands on the front of cost and loss (see stats.fronts).

Losses are compared pair by pair: on the same tokens where the raw samples of both are there and of one protocol, else
by their intervals against the reference. A cell loses less beyond doubt where it does by more than a rerun may move the
losses of the two (`noise_floor.floor_nats` of each, added up), since the noise of a rerun moves all tokens alike and is
in no interval.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from pytest_quantbench.record import noise_floor, pairing
from pytest_quantbench.record.pairing import Measured
from pytest_quantbench.record.perplexity_schema import Perplexity
from pytest_quantbench.record.schema import NoiseFloor, Record
from pytest_quantbench.stats import fronts, series
from pytest_quantbench.stats.estimates import Estimate, Interval

Cost = Literal["size", "price"]
Quality = Literal["delta", "kl"]
ARRAYS: Mapping[Quality, str] = {"delta": "perplexity/nll_nats", "kl": "perplexity/kl_nats"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """A cell on the plane of cost (GB, or the currency of its price per million tokens) and loss (perplexity points, or
    nats per token), and where it stands; `by` is the recipe that dominates it.
    """

    record: Record
    cost: Interval
    loss: Interval
    word: fronts.Word
    by: str
    p: float


def exactly(value: float) -> Interval:
    """A figure without error, such as a size."""
    return Interval(estimate=value, low=value, high=value, confidence=1.0)


def _alone(value: float) -> Interval:
    """A figure of whose error nothing is known: the truth lies within no width with a confidence of 0."""
    return Interval(estimate=value, low=value, high=value, confidence=0.0)


def cost_of(record: Record, cost: Cost) -> Interval | None:
    """What a cell costs; None where its record does not tell. The price is with its compression where that is spread
    over a volume.
    """
    if cost == "size":
        return None if record.compression is None else exactly(record.compression.compressed_gb)
    if record.cost is None:
        return None
    return record.cost.amortised_per_million_tokens or record.cost.per_million_tokens


def loss_of(record: Record, quality: Quality) -> Interval | None:
    """What a cell loses against the reference; of no width and a confidence of 0 where the record has no interval."""
    found = record.perplexity
    if found is None:
        return None
    if quality == "kl":
        divergence = found.divergence
        return None if divergence is None else divergence.kl_interval or _alone(divergence.kl_nats)
    return found.delta_interval or (None if found.delta is None else _alone(found.delta))


def known(record: Record, quality: Quality, cost: Cost) -> tuple[Interval, Interval] | None:
    """Cost and loss of a compressed cell; None where one of them is not there, and of one with a quantized cache, of
    which its size says nothing.
    """
    price, loss = cost_of(record, cost), loss_of(record, quality)
    if price is None or loss is None or record.level == "bf16" or record.kind != "weights":
        return None
    return price, loss


def front(
    cells: Sequence[tuple[Record, Mapping[str, Any]]], quality: Quality = "delta", cost: Cost = "size"
) -> list[Placed]:
    """Where the compressed cells of one model stand; those without the cost or the loss are left out. The noise floor
    is that of the reference's record, where it is among them.
    """
    noise = noise_floor.larger(*(record.noise_floor for record, _ in cells))
    there = [
        (Measured(record=record, arrays=arrays), *figures)
        for record, arrays in cells
        if (figures := known(record, quality, cost)) is not None
    ]
    pairs = {}
    for i, (mine, price, loss) in enumerate(there):
        for j, (other, other_price, other_loss) in enumerate(there):
            if i == j or (cost == "size" and other_price.estimate > price.estimate):
                continue  # sizes are exact: which are larger does not depend on any sample
            lighter = 0.0 if cost == "size" else fronts.p_less(other_price, price)
            better = _p_better(other, other_loss, mine, loss, quality, noise)
            pairs[i, j] = max(lighter, better)  # both must hold: the claim is as sure as the less sure of the two
    costs, losses = [each[1].estimate for each in there], [each[2].estimate for each in there]
    return [
        Placed(
            record=each[0].record,
            cost=each[1],
            loss=each[2],
            word=found.word,
            by="" if found.by is None else there[found.by][0].record.recipe,
            p=found.p,
        )
        for each, found in zip(there, fronts.standings(costs, losses, pairs), strict=True)
    ]


def _p_better(
    other: Measured, other_loss: Interval, mine: Measured, loss: Interval, quality: Quality, noise: NoiseFloor | None
) -> float:
    """The p of "the other loses less, by more than a rerun may move the two"."""
    before, after = mine.record.perplexity, other.record.perplexity
    assert before is not None
    assert after is not None
    floor = _floor(before, after, quality, noise, noise_floor.activations_of(mine.record))
    common = pairing.common_tokens(mine, other, "perplexity", (before, after))
    name = ARRAYS[quality]
    if isinstance(common, str) or name not in mine.arrays or name not in other.arrays:
        return fronts.p_less(other_loss, loss, floor)
    base, new = mine.arrays[name][common.base], other.arrays[name][common.new]
    if np.array_equal(base, new) or not (np.isfinite(base).all() and np.isfinite(new).all()):
        return 1.0
    found: Estimate | None
    if quality == "delta":
        found, _ = series.perplexity_delta(base, new, common.drawn)
    else:
        found = series.mean(new.astype(np.float64) - base, common.drawn)
    return 1.0 if found is None or found.value >= -floor else found.p_below(-floor)


def _floor(mine: Perplexity, other: Perplexity, quality: Quality, noise: NoiseFloor | None, activations: str) -> float:
    """How much less the other has to lose, in nats per token, or in points of the perplexity from which it differs."""
    ppl = mine.ppl if quality == "delta" else None
    nats = sum(
        noise_floor.floor_nats(noise, noise_floor.divergence_of(each), ppl, activations) for each in (mine, other)
    )
    if quality == "kl":
        return nats
    return math.inf if ppl is None else -ppl * math.expm1(-nats)
