"""The gate itself: does the reference pass, does fatal damage fail? Only with `-m selftest`."""

import pytest

pytestmark = [pytest.mark.selftest, pytest.mark.quantbench(recipes=["int4"])]


def test_the_gate_sees_damage(selftest):
    judged = {found.damage: (found.outcome, found.expected) for found in selftest if found.expected}
    named = {found.damage for found in selftest if found.named}
    assert named == {found.damage for found in selftest if found.expected != "pass"}
    assert {damage: outcome for damage, (outcome, _) in judged.items()} == {
        damage: expected for damage, (_, expected) in judged.items()
    }
