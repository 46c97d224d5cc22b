"""One engine's values as another's parameters, through the names and shapes in which a model is published."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_quantbench.engines.parameters import Origin, Parameter
from pytest_quantbench.errors import ModelError
from pytest_quantbench.quantizers import Fixed, PerToken
from pytest_quantbench.workbench.published_values import ForAnotherEngine, PublishedValues

EXPERTS = ("e0.gate", "e1.gate", "e0.up", "e1.up")
PUBLISHED = {
    **{
        name: np.random.default_rng(place).standard_normal((3, 4)).astype(np.float32)
        for place, name in enumerate(EXPERTS)
    },
    "wide": np.arange(10, dtype=np.float32).reshape(2, 5),
    "norm": np.arange(4, dtype=np.float32),
}
STACKING = {  # as mlx-lm has them: a stack of gates and one of ups
    "gates": Origin(form="stack", sources=EXPERTS[:2]),
    "ups": Origin(form="stack", sources=EXPERTS[2:]),
    "wide": Origin(form="turned", sources=("wide",)),
    "norm": Origin(form="same", sources=("norm",)),
}
JOINING = {  # as Transformers has them: gate above up of every expert
    "gates_ups": Origin(form="made", sources=EXPERTS),
    "wide": Origin(form="same", sources=("wide",)),
    "norm": Origin(form="same", sources=("norm",)),
}


class Opened:
    """An opened model whose parameters are made of the published ones as `origins` say."""

    def __init__(self, origins, published=PUBLISHED):
        self.origins, self.names, self.config = origins, list(origins), {}
        self.published = published
        self.checkpoint = SimpleNamespace(shapes={name: each.shape for name, each in PUBLISHED.items()})
        self.engine = SimpleNamespace(name="fake", to_host=np.asarray)
        shapes = {path: self.tensor(path).shape for path in self.names}
        self.parameters = [Parameter(path=p, shape=s, kind="other", owner="", layer=0) for p, s in shapes.items()]

    def origin(self, path):
        return self.origins[path]

    def tensor(self, path):
        return self.made(path, {name: self.published[name] for name in self.origins[path].sources})

    def made(self, path, tensors):
        form, parts = self.origins[path].form, list(tensors.values())
        if form == "made":
            return np.stack([np.concatenate(pair) for pair in zip(parts[:2], parts[2:], strict=True)])
        return np.stack(parts) if form == "stack" else parts[0].T if form == "turned" else parts[0]


class Artifact:
    """Values of an opened model, twice as large where it is encoded."""

    def __init__(self, opened, encoded=(), rules=()):
        self.opened, self.names, self.encoded, self.rules = opened, opened.names, encoded, dict(rules)

    def tensor(self, path):
        return SimpleNamespace(quantizer="double" if path in self.encoded else None)

    def float32(self, path):
        return self.opened.tensor(path) * np.float32(2 if path in self.encoded else 1)

    def inputs(self, path):
        return self.rules.get(path)


@pytest.mark.parametrize(("first", "second"), [(STACKING, JOINING), (JOINING, STACKING), (JOINING, JOINING)])
def test_values_get_to_the_other_engine_in_its_own_form(first, second):
    encoded = [path for path in first if path != "norm"]
    view = ForAnotherEngine(PublishedValues(Artifact(Opened(first), encoded), Opened(first)), Opened(second))
    for path in second:
        expected = Opened(second).tensor(path) * (1 if path == "norm" else 2)
        np.testing.assert_array_equal(view.dense(path), expected)
    assert view.differing == set()


@given(st.permutations(range(12)), st.integers(1, 3))
def test_whatever_moves_values_is_undone(order, parts):
    """A parameter that is the values of some tensors in any order."""
    tensors = {f"t{n}": np.arange(4 * n, 4 * n + 4, dtype=np.float32) * 1.5 for n in range(3)}
    opened = Opened(JOINING)
    opened.origins = {"moved": Origin(form="made", sources=tuple(tensors))}
    opened.names = ["moved"]
    opened.checkpoint = SimpleNamespace(shapes=dict.fromkeys(tensors, (4,)))
    opened.made = lambda path, given: np.concatenate(list(given.values()))[list(order)].reshape(parts, -1)
    held = SimpleNamespace(names=["moved"], float32=lambda path: opened.made(path, tensors))
    published = PublishedValues(held, opened)
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(published.values(name), tensor)


def test_a_tensor_that_is_not_held_whole_is_refused_by_name():
    opened = Opened(STACKING)
    lacking = {path: origin for path, origin in STACKING.items() if path != "ups"}
    with pytest.raises(ModelError, match=r"holds e0\.up not as it is published"):
        PublishedValues(Artifact(Opened(lacking)), opened).values("e0.up")


def test_what_the_other_engine_reads_otherwise_is_told():
    other = Opened(JOINING, {**PUBLISHED, "norm": PUBLISHED["norm"] + 1})
    view = ForAnotherEngine(PublishedValues(Artifact(Opened(STACKING)), Opened(STACKING)), other)
    for path in JOINING:
        view.dense(path)
    assert view.differing == {"norm"}


def test_rules_of_inputs_go_along():
    one, each = PerToken(bits=8), tuple(Fixed(step=float(step), zero=0, bits=8) for step in (1, 2))
    rules = {"gates": each, "ups": (one, one), "wide": one}

    def view(second, given, first=STACKING):
        published = PublishedValues(Artifact(Opened(first), list(first), given), Opened(first))
        return ForAnotherEngine(published, Opened(second))

    assert view(STACKING, rules).inputs("gates") == each
    assert view(JOINING, rules).inputs("wide") == one
    assert view(JOINING, rules).inputs("norm") is None
    assert view(JOINING, {"gates": (one, one), "ups": (one, one)}).inputs("gates_ups") == (one, one)
    with pytest.raises(ModelError, match="gates_ups has in one what is several matrices"):
        view(JOINING, rules).inputs("gates_ups")
    with pytest.raises(ModelError, match="gates_ups has inputs on other grids"):
        view(STACKING, {"gates_ups": each}, JOINING).inputs("ups")
