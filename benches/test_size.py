"""Bytes on disk against the BF16 bytes."""

import pytest

pytestmark = pytest.mark.size


def test_size(cell, settle):
    settle(cell.judge("size"))
