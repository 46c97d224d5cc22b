import pytest

from pytest_quantbench.catalog.recipes import Part, recipe
from pytest_quantbench.errors import UnknownNameError


def test_recipes_by_level_and_by_method():
    default, named = recipe("int4"), recipe("int4-rtn")
    assert (default.level, default.method, default.bits) == ("int4", None, 4)
    assert default.inner == Part(quantizer="nibble", parameters={"bits": 4})
    assert (named.method, named.inner) == ("rtn", Part(quantizer="rtn", parameters={"bits": 4}))
    assert recipe("int3").outer.parameters == {"bits": 4, "group_size": 64}
    assert recipe("int8").outer.parameters["bits"] == 8
    assert recipe("bf16").outer.quantizer == "identity"
    assert recipe("int2-my.package:Thing").inner.quantizer == "my.package:Thing"


@pytest.mark.parametrize("name", ["int5", "", "rtn", "INT4", "bf16-rtn"])
def test_recipes_of_no_level_list_those_that_there_are(name):
    with pytest.raises(UnknownNameError, match=r"Choose from: .*int4.*package\.module:Class"):
        recipe(name)
