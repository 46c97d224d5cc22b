"""Recipes whose methods are looked up: those that do not exist are told with all that do."""

import pytest

from pytest_quantbench import quantizers
from pytest_quantbench.catalog.recipes import LEVELS, recipe
from pytest_quantbench.errors import QuantbenchError, UnknownNameError


@pytest.mark.parametrize("name", [*LEVELS, "int4-rtn", "int4-q4_k_m", "int4-pytest_quantbench.quantizers.rtn:Rtn"])
def test_a_recipe_that_there_is_comes_as_it_was_read(name):
    assert quantizers.recipe_of(name) == recipe(name)


@pytest.mark.parametrize("name", ["int5", "int4-gqtp", "", "rtn", "INT4", "bf16-rtn"])
def test_recipes_that_do_not_exist_list_those_that_do(name):
    with pytest.raises(UnknownNameError, match=r"Choose from: .*LEVEL-gptq.*LEVEL-q4_k_m.*int4.*package\.module:Class"):
        quantizers.recipe_of(name)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("int3-nibble", "nibble cannot have bits = 3"),
        ("int4-nibble:group_size=64", "gives parameters.*Choose int4-nibble"),
        ("int4-nowhere.to.be:Found", "'nowhere.to.be:Found' cannot be imported"),
    ],
)
def test_methods_that_cannot_be_had_at_this_width_are_refused(name, told):
    with pytest.raises(QuantbenchError, match=told):
        quantizers.recipe_of(name)
