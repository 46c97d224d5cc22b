"""What a million output tokens cost, from the rates that T1 measured and a price that the user gave.

A machine that costs `price` per hour and takes s seconds for a token has spent price · s / 3600 on it. T1 decodes one
sequence at a time: a server that batches is cheaper per token, by as much as its rate is higher. The interval comes
from how much the prompts differ, as that of a speed ratio does. Compressing costs once; spread over a volume of tokens
it is a part of each of them.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_quantbench.catalog.prices import Price
from pytest_quantbench.judge.rates import is_drifting
from pytest_quantbench.record.publication_schema import Cost
from pytest_quantbench.record.schema import Record
from pytest_quantbench.stats.estimates import Interval, Student

HOUR_SECONDS = 3600.0
MILLION = 1e6


def priced(record: Record, arrays: Mapping[str, Any], price: Price | None) -> Record:
    """The record with its cost at this price, from its raw samples; as it is where there is no price."""
    return record if price is None else replace(record, cost=cost(record, arrays, price))


def priced_again(record: Record, arrays: Mapping[str, Any]) -> Record:
    """The record with its cost at the same price, where its raw samples have changed."""
    told = record.cost
    if told is None:
        return record
    price = Price(per_hour=told.price_per_hour, currency=told.currency, volume_tokens=told.volume_tokens)
    return priced(record, arrays, price)


def cost(record: Record, arrays: Mapping[str, Any], price: Price) -> Cost:
    """Of a cell: of its tokens, where T1 was measured while the machine's own speed stayed the same, and of compressing
    it. The reference costs nothing to compress.
    """
    speed, size = record.throughput, record.compression
    compression = price.per_hour * (0.0 if size is None else size.time_sec) / HOUR_SECONDS
    per_million = suppressed = None
    if speed is not None and "throughput/prompt" in arrays:
        if is_drifting(speed.probe_drift):
            suppressed = f"the machine's own speed changed by {speed.probe_drift:+.0%} while it ran"
        else:
            seconds = seconds_per_token(arrays["throughput/prompt"], arrays["throughput/tokens_per_second"])
            per_million = None if seconds is None else _scaled(seconds.interval(), price.per_hour / HOUR_SECONDS)
    spread = None
    if per_million is not None and price.volume_tokens is not None:
        spread = _shifted(per_million, compression * MILLION / price.volume_tokens)
    return Cost(
        price_per_hour=price.per_hour,
        currency=price.currency,
        per_million_tokens=per_million,
        compression=compression,
        volume_tokens=price.volume_tokens,
        amortised_per_million_tokens=spread,
        suppressed=suppressed or "",
    )


def seconds_per_token(prompts: NDArray[Any], rates: NDArray[Any]) -> Student | None:
    """Mean seconds of an output token over the prompts, from (runs,) prompts and (runs,) tokens per second. Runs of one
    prompt are alike: each prompt is one sample. None where there is one prompt.
    """
    return _over_prompts(prompts, 1 / rates)


def rate_over_prompts(prompts: NDArray[Any], rates: NDArray[Any]) -> Student | None:
    """Mean output tokens per second over the prompts, likewise."""
    return _over_prompts(prompts, rates)


def _over_prompts(prompts: NDArray[Any], values: NDArray[Any]) -> Student | None:
    means = np.array([np.mean(values[prompts == each]) for each in np.unique(prompts)])
    if len(means) < 2:
        return None
    error = float(means.std(ddof=1)) / len(means) ** 0.5
    return Student(value=float(means.mean()), standard_error=error, degrees=len(means) - 1)


def _scaled(seconds: Interval, per_second: float) -> Interval:
    """Seconds of a token as the price of a million; no token costs less than nothing."""
    ends = (max(0.0, each) * per_second * MILLION for each in (seconds.estimate, seconds.low, seconds.high))
    estimate, low, high = ends
    return Interval(estimate=estimate, low=low, high=high, confidence=seconds.confidence)


def _shifted(interval: Interval, by: float) -> Interval:
    return replace(interval, estimate=interval.estimate + by, low=interval.low + by, high=interval.high + by)
