"""How figures are written on the page."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_quantbench.report.html.typeset import signed, significant, typeset


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("it rises by -0.1 [-1.8, 1.8] points", "it rises by −0.1 [−1.8,\u00a01.8] points"),
        ("arc_easy 69.5% against 75.0 %", "arc_easy 69.5\u00a0% against 75.0\u00a0%"),
        ("Llama-3.2-3B-Instruct-int4-gptq", "Llama-3.2-3B-Instruct-int4-gptq"),  # a name keeps its hyphens
        ("at 2026-01-02, of layers [0, 1, 2]", "at 2026-01-02, of layers [0, 1, 2]"),
    ],
)
def test_sentences(text, shown):
    assert typeset(text) == shown


@given(st.text())
def test_nothing_but_signs_and_spaces_changes(text):
    def plain(told):
        return told.replace("−", "-").replace("\u00a0", " ").replace(" ", "")

    assert plain(typeset(text)) == plain(text)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0, "0"),
        (1.6e-6, "1.6·10⁻⁶"),
        (-7.9e-4, "−7.9·10⁻⁴"),
        (0.0015, "0.0015"),
        (0.3579, "0.36"),
        (10.71, "10.71"),
        (float("inf"), "inf"),
    ],
)
def test_digits_that_count(value, shown):
    assert significant(value) == shown


@given(st.floats(min_value=1e-3, max_value=0.99))
def test_two_digits_are_within_half_of_the_last(value):
    assert float(significant(value)) == pytest.approx(value, rel=0.06)


def test_signs():
    assert [signed(each, 1) for each in (-0.25, 0.0, 3.0)] == ["−0.2", "+0.0", "+3.0"]
    assert signed(-3.4e12, 3) == "−3.4e+12"
    assert signed(2.0, 2, "") == "2.00"
