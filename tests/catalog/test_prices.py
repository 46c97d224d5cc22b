"""Prices as they are typed."""

import pytest

from pytest_quantbench.catalog.prices import Price, amount
from pytest_quantbench.errors import QuantbenchError


@pytest.mark.parametrize(
    ("typed", "read"),
    [("2.49", (2.49, "")), ("2.49USD", (2.49, "USD")), (" 3 € ", (3.0, "€")), ("1e-2 EUR", (0.01, "EUR"))],
)
def test_a_price_may_name_its_currency(typed, read):
    assert amount(typed) == read


@pytest.mark.parametrize("typed", ["", "free", "0", "-1", "USD2", "1.2.3", "1e999", "nan", "2 3", "."])
def test_what_is_no_price_is_refused(typed):
    with pytest.raises(ValueError, match="give a number above 0"):
        amount(typed)


@pytest.mark.parametrize(
    "wrong", [{"per_hour": 0.0}, {"per_hour": float("inf")}, {"per_hour": 1.0, "volume_tokens": 0}]
)
def test_a_price_is_above_nothing(wrong):
    with pytest.raises(QuantbenchError, match="give a number"):
        Price(**wrong)
