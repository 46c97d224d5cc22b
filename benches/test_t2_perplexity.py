"""T2: perplexity, paired with the reference token by token; of cells with a quantized cache by depth, too."""

import pytest

pytestmark = pytest.mark.t2


def test_perplexity(cell, settle):
    settle(cell.judge_all("perplexity"))


@pytest.mark.depth
def test_perplexity_by_depth(cell, settle):
    settle(cell.judge("depth"))
