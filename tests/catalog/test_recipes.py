import pytest

from pytest_quantbench.catalog.recipes import Part, recipe
from pytest_quantbench.errors import UnknownNameError

METHODS = ["identity", "nibble", "rtn"]


def test_recipes_by_level_and_by_method():
    default, named = recipe("int4", METHODS), recipe("int4-rtn", METHODS)
    assert (default.level, default.method, default.bits) == ("int4", None, 4)
    assert default.inner == Part(quantizer="nibble", parameters={"bits": 4})
    assert (named.method, named.inner) == ("rtn", Part(quantizer="rtn", parameters={"bits": 4}))
    assert recipe("int3", METHODS).outer.parameters == {"bits": 4, "group_size": 64}
    assert recipe("int8", METHODS).outer.parameters["bits"] == 8
    assert recipe("bf16", METHODS).outer.quantizer == "identity"
    assert recipe("int2-my.package:Thing", METHODS).inner.quantizer == "my.package:Thing"


@pytest.mark.parametrize("name", ["int5", "int4-gqtp", "", "rtn", "INT4"])
def test_recipes_that_do_not_exist_list_those_that_do(name):
    with pytest.raises(UnknownNameError, match=r"Choose from: .*int4.*package\.module:Class"):
        recipe(name, METHODS)
