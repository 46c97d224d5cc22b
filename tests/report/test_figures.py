"""Figures as text: three digits that count, and no sign on nothing."""

import pytest

from pytest_quantbench.report import figures, tables
from pytest_quantbench.stats.estimates import Interval


@pytest.mark.parametrize(
    ("gigabytes", "shown"), [(0.00208, "2.08 MB"), (0.9996, "1.00 GB"), (0.9994, "999 MB"), (1340.0, "1,340 GB")]
)
def test_sizes_have_three_digits_that_count(gigabytes, shown):
    assert figures.size_of(gigabytes) == shown


def test_a_zero_has_no_minus():
    nothing = Interval(estimate=-1e-9, low=-2e-9, high=-1e-10)
    assert tables.interval(nothing, 3, "+") == "+0.000 [+0.000, +0.000]"
    assert tables.number(-1e-9, 2) == "0.00"
    assert figures.short(-1e-9) == "0.000"
