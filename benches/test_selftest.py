"""The gate itself: does the reference pass, does known damage fail? Only with `-m selftest`."""

import pytest

from pytest_quantbench.selftest import FATAL, IDENTITY

pytestmark = [pytest.mark.selftest, pytest.mark.quantbench(recipes=["int4"])]


def test_the_reference_passes(selftest):
    assert [found.outcome for found in selftest if found.damage == IDENTITY] == ["pass"]


def test_fatal_damage_fails(selftest):
    assert [found.outcome for found in selftest if found.damage in FATAL] == ["fail"] * len(FATAL)
