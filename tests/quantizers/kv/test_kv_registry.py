"""How methods for the key-value cache are named, found and made."""

import sys
import textwrap

import pytest

from pytest_quantbench import quantizers
from pytest_quantbench.catalog.recipes import CACHES, Part, recipe
from pytest_quantbench.errors import QuantbenchError, UnknownNameError
from pytest_quantbench.quantizers import kv
from pytest_quantbench.quantizers.kv.kivi import Kivi
from pytest_quantbench.quantizers.kv.protocol import FULL, CacheForm, Stage

WIDTH = "bits"
OWN = """
from dataclasses import dataclass
from typing import ClassVar

@dataclass(frozen=True, slots=True, kw_only=True)
class Mine:
    bits: int = 3
    name: ClassVar[str] = "mine"
    version: ClassVar[int] = 1

    def form(self, channels):
        raise NotImplementedError

@dataclass(frozen=True, slots=True, kw_only=True)
class Formless:
    name: ClassVar[str] = "formless"
    version: ClassVar[int] = 1

class Plain:
    name, version, form = "plain", 1, None

def function():
    pass
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A module with methods of one's own, on the path."""
    (tmp_path / "own_caches.py").write_text(textwrap.dedent(OWN))
    monkeypatch.syspath_prepend(tmp_path)
    yield
    kv.get.cache_clear()
    sys.modules.pop("own_caches", None)


def test_every_recipe_can_be_made_and_every_method_is_in_one():
    assert {part.quantizer for part in CACHES.values()} == set(kv.names())
    for name, part in CACHES.items():
        chosen = quantizers.recipe_of(name)
        assert (chosen.cache, chosen.level, chosen.of_weights.id) == (part, "kv", "bf16")
        assert kv.make(part).name == part.quantizer


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("kv3-token", Part(quantizer="token", parameters={"bits": 3})),
        ("kv2-kivi", Part(quantizer="kivi", parameters={"bits": 2})),
        ("kv-pmkvq", Part(quantizer="pmkvq")),
        ("kv-kivi", Part(quantizer="kivi")),
        ("kv6-affine", Part(quantizer="affine", parameters={"bits": 6})),
    ],
)
def test_any_method_has_a_recipe(name, part):
    assert quantizers.recipe_of(name).cache == part
    assert kv.make(part)


@pytest.mark.parametrize("held", ["kv8", "kivi2", "kv4-token", "kv3-channel"])
@pytest.mark.parametrize("weights", ["int4", "int4-rtn", "int4-q4_k_m"])
def test_weights_and_a_cache_are_joined(weights, held):
    joined = quantizers.recipe_of(f"{weights}+{held}")
    assert joined.of_weights == recipe(weights)
    assert joined.cache == recipe(held).cache
    assert joined.inner == recipe(weights).inner


@pytest.mark.parametrize(
    "name", ["kv9", "kv", "kv4-", "kv0-token", "bf16+kv8", "kv8+kv4", "kv8+int4", "int4+", "+kv8", "int4+kv8+kv4"]
)
def test_what_is_no_recipe_of_a_cache_is_unknown(name):
    with pytest.raises(UnknownNameError, match="Unknown recipe"):
        quantizers.recipe_of(name)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("kv4-nope", "Unknown KV-cache quantizer 'nope'.*affine, channel, .*Or name your own as package.module:Class"),
        ("int4+kv4-nope", "Unknown KV-cache quantizer 'nope'"),
        ("kv4-pmkvq", "pmkvq does not have one width, so it cannot have 4 bits. Choose kv-pmkvq"),
        ("kv1-affine", "affine cannot have 1 bits"),
        ("kv4-nowhere.to.be:Found", "KV-cache quantizer 'nowhere.to.be:Found' cannot be imported: No module"),
        ("kv4-own_caches:Lost", "'own_caches:Lost' cannot be imported"),
        ("kv4-own_caches:", "is not named as package.module:Class"),
        ("kv4-own_caches:Formless", "'own_caches:Formless' is no KV-cache quantizer: it lacks form"),
        ("kv4-own_caches:Plain", "it is no dataclass. docs/add-a-kv-quantizer.md shows what one has"),
        ("kv4-own_caches:function", "it is a function, not a class"),
    ],
)
def test_what_cannot_be_had_is_told(own, name, told):
    with pytest.raises(QuantbenchError, match=told):
        quantizers.recipe_of(name)


def test_a_method_of_one_s_own_gets_the_width(own):
    chosen = quantizers.recipe_of("kv4-own_caches:Mine")
    assert getattr(kv.make(chosen.cache), WIDTH) == 4
    assert getattr(kv.make(quantizers.recipe_of("kv-own_caches:Mine").cache), WIDTH) == 3


@pytest.mark.parametrize(
    ("parameters", "told"),
    [
        ({"width": 3}, "Unknown parameter of kivi 'width'. Choose from: bits, group, window"),
        ({"window": 100}, "window = 100 and group = 32"),
        ({"window": "much"}, "kivi cannot be made with window = 'much'"),
    ],
)
def test_parameters_that_cannot_be_are_told(parameters, told):
    with pytest.raises(QuantbenchError, match=told):
        kv.make(Part(quantizer="kivi", parameters=parameters))


def test_a_class_by_its_place_is_the_registered_one():
    assert kv.get("pytest_quantbench.quantizers.kv.kivi:Kivi") is kv.get("kivi") is Kivi


@pytest.mark.parametrize(
    ("method", "parameters", "told"),
    [
        ("pmkvq", {"four": 2048, "two": 512}, "bits fall with age"),
        ("mixkvq", {"full": 0.9, "four": 0.2}, "shares of one whole"),
        ("cocktailkv", {"block": 100}, "blocks of 100 tokens in chunks of 32"),
        ("cocktailkv", {"full": 9}, "9 get 16 bits"),
        ("cocktailkv", {"full": -1}, "-1 get 16 bits"),
        ("cocktailkv", {"chunk": 0}, "in chunks of 0"),
        ("cocktailkv", {"bits": 8}, "cannot have 8 bits: they are of what matters least, and what matters more has 4"),
        ("mixkvq", {"bits": 5}, "cannot have 5 bits.*Choose at most 4, such as kv2-mixkvq"),
        ("pmkvq", {"sinks": -3}, "sinks = -3"),
        ("kivi", {"group": 0}, "window = 128 and group = 0"),
        ("affine", {"group": 0}, "groups of 0 channels"),
        ("token", {"bits": 9}, "9 bits"),
        ("channel", {"bits": 1, "symmetric": True}, "1 bits"),
    ],
)
def test_values_that_make_no_sense_are_refused(method, parameters, told):
    with pytest.raises(QuantbenchError, match=told):
        kv.make(Part(quantizer=method, parameters=parameters)).form(64)


def test_roundings_that_look_refuse_what_are_no_queries():
    import numpy as np

    keys = np.ones((2, 8, 16), np.float32)
    for method in ("mixkvq", "cocktailkv"):
        form = kv.get(method)().form(16)
        for queries in (None, np.ones((3, 8, 16), np.float32), np.ones((2, 8, 4), np.float32)):
            with pytest.raises(QuantbenchError, match=r"looks at queries, and to keys of shape \(2, 8, 16\)"):
                form.given_back("keys", 0, keys, queries, keys)
    with pytest.raises(QuantbenchError, match="needs keys and queries"):
        kv.get("cocktailkv")().form(16).given_back("values", 0, keys)


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ({"keys": (FULL, Stage(rounding=None, age=9), Stage(rounding=None, age=2))}, "ages 0, 9, 2 in this order"),
        ({"sinks": -1}, "sinks = -1: give 0 or more"),
    ],
)
def test_forms_that_no_token_could_go_through_are_refused(how, told):
    with pytest.raises(QuantbenchError, match=told):
        CacheForm(**({"keys": (FULL,), "values": (FULL,)} | how))
