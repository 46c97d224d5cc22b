"""Axes: where values lie, what is written beside them, and that all there is lies on them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_quantbench.report.charts import scales

VALUES = st.lists(st.floats(-1e4, 1e4).filter(lambda x: x == 0 or abs(x) > 1e-6), min_size=1, max_size=12)
MAKERS = {
    "linear": lambda values: scales.linear("t", values),
    "log": lambda values: scales.logarithmic("t", values),
    "bent": lambda values: scales.bent("t", values, 0.1),
}


@pytest.mark.parametrize("kind", MAKERS)
@given(values=VALUES)
def test_all_values_lie_on_the_axis(kind, values):
    axis = MAKERS[kind](values)
    assert axis.low < axis.high
    for value in values:
        place = axis.at(axis.within(value))
        assert -1e-9 <= place <= 1 + 1e-9
        assert axis.within(value) == value or (kind == "log" and value <= 0)
        assert axis.value(place) == pytest.approx(axis.within(value), rel=1e-6, abs=1e-6)


@given(values=VALUES)
def test_written_values_lie_on_the_axis_and_are_not_many(values):
    for axis in (MAKERS["log"](values), MAKERS["bent"](values)):
        if axis.kind != "linear":
            assert all(axis.low <= tick <= axis.high for tick in axis.ticks)
            assert len(axis.ticks) <= 25


def test_powers_of_ten_are_written_round():
    assert scales.logarithmic("t", [1e-6, 100.0]).ticks == [1e-6, 1e-5, 1e-4, 0.001, 0.01, 0.1, 1, 10, 100]
    assert scales.logarithmic("t", [2.0, 60.0]).ticks == [3, 10, 30]
    assert scales.logarithmic("t", [4.0, 30.0]).ticks == [5, 10, 20]


def test_losses_below_nothing_have_their_place():
    axis = scales.bent("t", [-0.5, 60.0], 0.1)
    assert axis.kind == "symlog"
    assert {-0.3, -0.1, 0.0, 0.1, 10.0, 30.0} <= set(axis.ticks)
    assert axis.at(-0.5) < axis.at(0) < axis.at(0.1)


def test_small_losses_need_no_logarithm():
    assert scales.bent("t", [0.0, 0.4], 0.1).kind == "linear"


def test_what_is_not_positive_lies_at_the_end_of_a_logarithm():
    axis = scales.logarithmic("t", [0.0, 1e-3, 1.0])
    assert axis.within(0.0) == axis.low > 0
