"""Cells whose losses are another cell's to the last bit, though their weights or caches have other widths."""

from types import SimpleNamespace

import numpy as np
import pytest
from builders import make_losses

from pytest_quantbench.bench.refusals import refuse_identical
from pytest_quantbench.bench.target import PLAIN
from pytest_quantbench.catalog.recipes import recipe
from pytest_quantbench.errors import ComparisonError


class Cell:
    """A target as the refusal sees it."""

    variant = PLAIN

    def __init__(self, name):
        self.id, self.recipe = f"M-{name}", recipe(name)


def judge(*names, tokens=300, apart=0.0):
    """The first of these cells, whose losses differ by so much from one to the next."""
    depths = np.arange(1, tokens + 1, dtype=np.int32)
    found = {
        Cell(name): make_losses(np.linspace(1, 2, tokens) + apart * place, depths=depths, cache_shapes=((2, 64, 64),))
        for place, name in enumerate(names)
    }
    refuse_identical(next(iter(found)), SimpleNamespace(samples=SimpleNamespace(of=lambda measure: found)))


@pytest.mark.parametrize("names", [("kv8", "kv4"), ("kivi2", "pmkvq"), ("int4+kv8", "int4+kv2"), ("int4", "int3")])
def test_other_widths_with_the_very_same_losses_are_refused(names):
    with pytest.raises(ComparisonError, match=rf"M-{names[0]} and M-{names[1]} .*bit-identical".replace("+", r"\+")):
        judge(*names)
    judge(*names, apart=0.01)


def test_one_method_by_two_names_may_be_the_same():
    judge("kv8", "kv-affine")


def test_whether_a_cache_does_anything_is_not_asked_here():
    judge("kv8", "bf16")


def test_methods_that_hold_nothing_yet_in_few_bits_have_no_width_of_their_own():
    judge("kivi2", "kivi4", tokens=20)
