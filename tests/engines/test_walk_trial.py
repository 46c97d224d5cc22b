"""How a model went through its decoder layers, as it was watched: what a walk needs of it, for every engine."""

import pytest

from pytest_quantbench.engines.calls import Seen
from pytest_quantbench.engines.walk_proof import Anatomy
from pytest_quantbench.engines.walk_trial import anatomy_of
from pytest_quantbench.errors import ModelError


def calls(*layers, outputs=0):
    return [Seen(layer=layer, outputs=outputs, place="x", result=None) for layer in layers]


@pytest.mark.parametrize("loops", [1, 2, 3])
def test_layers_one_after_the_other_as_often_as_it_likes(loops):
    assert anatomy_of(calls(*[0, 1, 2] * loops, outputs=2), 3) == Anatomy(loops=loops, outputs=2, place="x")


@pytest.mark.parametrize(
    ("seen", "message"),
    [
        ([], "takes its decoder layers apart"),
        (calls(2, 1, 0), r"one after the other, but \[2, 1, 0\]"),
        (calls(0, 1), r"one after the other, but \[0, 1\]"),
        (calls(0, 1, 2, 0), "one after the other"),
        (calls(0, 1) + calls(2, outputs=2), r"different numbers of results: \[0, 2\]"),
    ],
)
def test_other_ways_are_named(seen, message):
    with pytest.raises(ModelError, match=message):
        anatomy_of(seen, 3)
