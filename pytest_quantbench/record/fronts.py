"""Records and raw samples of one model's cells → where each stands on the front of cost and loss (see stats.fronts).

Losses are compared pair by pair: on the same tokens where the raw samples of both are there and of one protocol, else by
their intervals against the reference.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from pytest_quantbench.record.schema import Record
from pytest_quantbench.stats import fronts, series
from pytest_quantbench.stats.estimates import Estimate, Interval
from pytest_quantbench.stats.window_sampling import Drawn

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
    """A figure without error."""
    return Interval(estimate=value, low=value, high=value, confidence=1.0)


def cost_of(record: Record, cost: Cost) -> Interval | None:
    """What a cell costs; None where its record does not tell. The price is with its compression where that is spread
    over a volume.
    """
    if cost == "size":
        return None if record.compression is None else exactly(record.compression.compressed_gb)
    return record.cost and (record.cost.amortised_per_million_tokens or record.cost.per_million_tokens)


def loss_of(record: Record, quality: Quality) -> Interval | None:
    """What a cell loses against the reference; without an interval where the record has none."""
    found = record.perplexity
    if found is None:
        return None
    if quality == "kl":
        return found.divergence and (found.divergence.kl_interval or exactly(found.divergence.kl_nats))
    return found.delta_interval or (None if found.delta is None else exactly(found.delta))


def front(
    cells: Sequence[tuple[Record, Mapping[str, Any]]], quality: Quality = "delta", cost: Cost = "size"
) -> list[Placed]:
    """Where the compressed cells of one model stand; those without the cost or the loss are left out."""
    known = []
    for record, arrays in cells:
        price, loss = cost_of(record, cost), loss_of(record, quality)
        if price is not None and loss is not None and record.level != "bf16":
            known.append((record, arrays, price, loss))
    pairs = {}
    for i, (record, arrays, price, loss) in enumerate(known):
        for j, (other, other_arrays, other_price, other_loss) in enumerate(known):
            if i == j or (cost == "size" and other_price.estimate > price.estimate):
                continue  # sizes are exact: which are larger does not depend on any sample
            lighter = 0.0 if cost == "size" else fronts.p_less(other_price, price)
            better = _p_better(other, other_arrays, other_loss, record, arrays, loss, quality)
            pairs[i, j] = max(lighter, better)  # both must hold: the claim is as sure as the less sure of the two
    costs, losses = [each[2].estimate for each in known], [each[3].estimate for each in known]
    return [
        Placed(
            record=each[0],
            cost=each[2],
            loss=each[3],
            word=found.word,
            by="" if found.by is None else known[found.by][0].recipe,
            p=found.p,
        )
        for each, found in zip(known, fronts.standings(costs, losses, pairs), strict=True)
    ]


def _p_better(
    other: Record,
    other_arrays: Mapping[str, Any],
    other_loss: Interval,
    record: Record,
    arrays: Mapping[str, Any],
    loss: Interval,
    quality: Quality,
) -> float:
    """The p of "the other loses less"."""
    name = ARRAYS[quality]
    drawn = _common(other, other_arrays, record, arrays, name)
    if drawn is None:
        return fronts.p_less(other_loss, loss)
    tokens, windows = drawn
    theirs, mine = other_arrays[name][:tokens], arrays[name][:tokens]
    if np.array_equal(theirs, mine):
        return 1.0
    found: Estimate | None
    if quality == "delta":
        found, _ = series.perplexity_delta(mine, theirs, windows)
    else:
        found = series.mean(theirs.astype(np.float64) - mine, windows)
    return 1.0 if found is None or found.value >= 0 else found.p_below(0.0)


def _common(
    first: Record, first_arrays: Mapping[str, Any], second: Record, second_arrays: Mapping[str, Any], name: str
) -> tuple[int, Drawn | None] | None:
    """How many tokens both cells have in common, and the windows that they are of; None where they cannot be paired."""
    a, b = first.perplexity, second.perplexity
    if a is None or b is None or a.protocol_sha256 != b.protocol_sha256 or a.sampling != b.sampling:
        return None
    if name not in first_arrays or name not in second_arrays:
        return None
    tokens = min(len(first_arrays[name]), len(second_arrays[name]))
    if a.sampling == "head":
        return tokens, None
    windows = [_windows(each, arrays) for each, arrays in ((a, first_arrays), (b, second_arrays))]
    if windows[0] is None or windows[1] is None:
        return None
    shorter = min(windows, key=lambda each: len(each.counts))
    if any(not np.array_equal(each.begins[: len(shorter.counts)], shorter.begins) for each in windows):
        return None
    return int(shorter.counts.sum()), shorter
