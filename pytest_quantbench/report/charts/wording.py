"""Figures as they stand in what a chart tells of a point."""

from collections.abc import Mapping
from dataclasses import dataclass

from pytest_quantbench.record.fronts import Quality
from pytest_quantbench.stats.estimates import Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """How a loss is called beside an axis and elsewhere; about `constant` is the least that a chart tells from 0."""

    title: str
    short: str
    constant: float


LOSSES: Mapping[Quality, Loss] = {
    "delta": Loss(title="ΔPPL vs BF16, perplexity points", short="ΔPPL", constant=0.1),
    "kl": Loss(title="KL divergence from BF16, nats per token", short="KL, nats per token", constant=0.01),
}


def number(value: float) -> str:
    """Four digits that count; large and small powers of ten as such."""
    return f"{value:.4g}"


def interval(found: Interval, unit: str = "") -> str:
    """`0.31 [0.12, 0.5] points`; the bare figure where there is no interval."""
    text = number(found.estimate)
    if found.low != found.high:
        text += f" [{number(found.low)}, {number(found.high)}]"
    return f"{text} {unit}".rstrip()


def count(number: int, one: str, more: str = "") -> str:
    """`1 cell`, `3 cells`."""
    return f"{number} {one if number == 1 else more or one + 's'}"
