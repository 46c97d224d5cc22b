"""The figures that two runs are compared by: how each is called, on which side it is worse, and how it is told."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from pytest_quantbench.stats.estimates import Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """How a figure that is compared is called and told. `none` is the value of no difference, `worse` the side of it on
    which the new cell is the worse one.
    """

    label: str
    unit: str
    digits: int
    means: str
    none: float = 0.0
    worse: Literal["higher", "lower"] = "higher"


# By name, as after `--allow`.
FIGURES: Mapping[str, Figure] = MappingProxyType(
    {
        "size": Figure(label="size", unit="%", digits=2, means="stored bytes, in percent of the base's"),
        "perplexity": Figure(label="perplexity", unit="", digits=3, means="new minus base on the same tokens"),
        "kl": Figure(
            label="KL divergence",
            unit="nats",
            digits=5,
            means="from BF16, new minus base, mean per token",
        ),
        "accuracy": Figure(label="accuracy drop", unit="points", digits=1, means="base minus new, same questions"),
        "throughput": Figure(
            label="speed", unit="×", digits=3, means="tokens per second, new over base", none=1.0, worse="lower"
        ),
    }
)


def shown(interval: Interval, figure: Figure) -> str:
    """`+0.213 [+0.112, +0.320]`, without the interval where it has no width; with the figure's unit."""
    sign = "+" if figure.none == 0 else ""
    text = f"{_rounded(interval.estimate, figure.digits):{sign}.{figure.digits}f}"
    if interval.low != interval.high:
        ends = (f"{_rounded(end, figure.digits):{sign}.{figure.digits}f}" for end in (interval.low, interval.high))
        text += f" [{', '.join(ends)}]"
    return f"{text} {figure.unit}".rstrip()


def _rounded(value: float, digits: int) -> float:
    """Without the sign of a zero."""
    return value if math.isinf(value) else round(value, digits) + 0.0


def worsening(metric: str, size: float) -> str:
    """How large a worsening is, in words: `0.021`, `1.3 points`, `7 % slower`."""
    figure = FIGURES[metric]
    if figure.none:
        return f"{100 * size:.0f} % slower"
    digits = max(figure.digits, 1)
    if size and size < 10**-digits:
        return f"{size:.1g} {figure.unit}".rstrip()
    return f"{size:.{digits}f} {figure.unit}".rstrip()
