"""What an hour of a machine costs, as the user says. No price is built in: they differ by contract and change."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pytest_quantbench.errors import QuantbenchError

SPELLED = re.compile(r"\s*([0-9.]+(?:[eE][+-]?[0-9]+)?)\s*([^\s0-9.]*)\s*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """A price per hour in some currency (empty: the user named none), and over how many output tokens the cost of
    compressing is spread (None: it is told by itself).
    """

    per_hour: float
    currency: str = ""
    volume_tokens: int | None = None

    def __post_init__(self) -> None:
        """Raise QuantbenchError for a price or a volume that is not above 0."""
        if not 0 < self.per_hour < float("inf"):
            raise QuantbenchError(f"A price of {self.per_hour} per hour: give a number above 0.")
        if self.volume_tokens is not None and self.volume_tokens < 1:
            raise QuantbenchError(f"A volume of {self.volume_tokens} tokens: give a number of at least 1.")


def price_of(typed: tuple[float, str] | None, volume: float | None, table: Mapping[str, Any]) -> Price | None:
    """The price of a session: what was typed, else what `[tool.quantbench.cost]` says; None where neither names one.
    Raises QuantbenchError for a volume without a price.
    """
    per_hour, currency = typed or (table.get("price_per_hour"), table.get("currency", ""))
    tokens = table.get("volume_tokens") if volume is None else volume
    if per_hour is not None:
        return Price(per_hour=float(per_hour), currency=currency, volume_tokens=None if tokens is None else int(tokens))
    if tokens is not None:
        raise QuantbenchError("A volume of tokens without a price: give --price-per-hour as well.")
    return None


def amount(text: str) -> tuple[float, str]:
    """A number and its currency, of `2.49`, `2.49USD` or `2.49 €`. Raises ValueError with what to give instead."""
    found = SPELLED.fullmatch(text)
    try:
        value = float(found[1]) if found else 0.0
    except ValueError:
        value = 0.0
    if found is None or not 0 < value < float("inf"):
        raise ValueError("give a number above 0, with a currency or without: 2.49, 2.49USD.")
    return value, found[2]
