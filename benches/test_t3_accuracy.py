"""T3: multiple-choice accuracy, paired with the reference question by question."""

import pytest

pytestmark = pytest.mark.t3


def test_accuracy(cell, settle):
    settle(cell.judge_all("accuracy"))
