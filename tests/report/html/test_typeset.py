"""How figures are written on the page."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_quantbench.report.html.typeset import share, signed, typeset


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


@given(st.floats(min_value=0, max_value=1))
def test_shares_are_never_told_smaller_than_they_are(probability):
    told = float(share(probability).removesuffix("\u00a0%"))
    assert told >= min(100 * probability, 100) - 1e-9
    assert told <= 100 * probability + 0.011


def test_signs():
    assert [signed(each, 1) for each in (-0.25, 0.0, 3.0)] == ["−0.2", "+0.0", "+3.0"]
    assert signed(-3.4e12, 3) == "−3.4e+12"
    assert signed(2.0, 2, "") == "2.00"
