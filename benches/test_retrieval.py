"""Retrieval: facts and chains of them at every depth of a long context, paired with the reference by question."""

import pytest

pytestmark = pytest.mark.retrieval


def test_retrieval(cell, settle):
    settle(cell.judge_all("retrieval"))
