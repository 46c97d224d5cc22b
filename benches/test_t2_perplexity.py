"""T2: perplexity, paired with the reference token by token."""

import pytest

pytestmark = pytest.mark.t2


def test_perplexity(cell, settle):
    settle(cell.judge_all("perplexity"))
