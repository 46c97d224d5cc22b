"""Targets: equal ones are equal, and each knows what it is compared with."""

import pytest
from builders import make_target

from pytest_quantbench.bench.damage import DAMAGES

INT4, BF16 = make_target(), make_target("bf16")


def test_equal_targets_are_one_key():
    assert len({INT4, make_target(), BF16, INT4.reference, INT4.rounded, BF16.rounded}) == 3
    assert INT4 == make_target() != make_target("int3-rtn")


def test_all_but_the_reference_itself_are_compared_with_it():
    assert INT4.reference == BF16.reference == BF16
    assert (INT4.paired, INT4.rounded.paired, BF16.paired) == (BF16, BF16, None)
    assert (INT4.is_reference, BF16.is_reference, BF16.rounded.is_reference) == (False, True, False)
    assert (INT4.id, BF16.rounded.id) == ("Tiny-int4-rtn", "Tiny-bf16")


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_target_is_another_one_and_knows_its_damage(damage):
    hurt = INT4.damaged(damage)
    assert hurt != INT4
    assert (hurt.damage, hurt.plain, hurt.rounds, hurt.paired) == (damage, INT4, False, BF16)
    assert (INT4.damage, BF16.rounded.damage, BF16.rounded.rounds) == (None, None, True)
