"""What a compressed-tensors config may say, and the one error for what it may not, whatever kind of value that is."""

import time
from pathlib import Path

import pytest
from compressed_files import WEIGHTS, quantization
from hypothesis import given
from hypothesis import strategies as st

from pytest_quantbench.checkpoints.formats.compressed_schemes import Arguments, Config, Targets
from pytest_quantbench.errors import ModelError

FILE = Path("somewhere/config.json")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def schemes(table):
    return Config(FILE).schemes(table)


def weights(**said):
    """The arguments that are made of these."""
    return schemes(quantization(said)).schemes[0].weights


def test_what_is_not_said_is_as_the_package_has_it():
    usual = {"bits": 8, "type": "int", "symmetric": True, "dynamic": False, "block": None}
    assert weights() == Arguments(strategy="tensor", group=None, **usual)
    assert weights(group_size=-1) == Arguments(strategy="channel", group=None, **usual)
    assert weights(group_size=64) == Arguments(strategy="group", group=64, **usual)
    assert weights(strategy="GROUP", type="INT", group_size=64) == Arguments(strategy="group", group=64, **usual)


def test_a_group_has_its_own_format_or_that_of_all():
    group = {"targets": ["Linear"], "weights": WEIGHTS}
    said = {"config_groups": {"a": group, "b": group | {"format": "dense"}}, "format": "pack-quantized", "ignore": None}
    found = schemes(said)
    assert [scheme.format for scheme in found.schemes] == ["pack-quantized", "dense"]
    assert (found.schemes[0].inputs, found.schemes[0].rounds_outputs, found.caches) == (None, False, False)


WRONG = {
    "config_groups": (None, [], {}, "W4A16", {"a": ["Linear"]}, {"a": None}),
    "format": (None, 4, ["dense"], {}),
    "ignore": ("lm_head", {"a": 1}, [None], [["a"]], 7),
}
WRONG_IN_WEIGHTS = {
    "num_bits": ("4", 4.0, 0, -1, 33, 10**30, True, None, [4], {}),
    "type": (4, ["int"], None, {}),
    "strategy": (4, ["group"], {"a": 1}, True),
    "group_size": ("64", 0, -2, 2**31, 10**40, 64.0, True, [64], {}),
    "symmetric": ("true", 1, None, []),
    "block_structure": (
        "128", "axb", "1x", "-1x4", [128], [1, 2, 3], [0, 1], [1.5, 2], ["1", "2"], {}, 7, "9" * 5000 + "x1",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in WRONG.items() for value in values])
def test_a_value_of_a_wrong_kind_is_named_with_its_key(key, value):
    with pytest.raises(ModelError, match=r"^somewhere/config\.json says .* = .*, and .* is needed\.$") as caught:
        schemes(quantization() | {key: value})
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, of in WRONG_IN_WEIGHTS.items() for value in of])
@pytest.mark.parametrize("part", ["weights", "input_activations"])
def test_so_is_one_of_a_groups_arguments(key, value, part):
    said = quantization()
    said["config_groups"]["group_0"][part] = WEIGHTS | {key: value}
    with pytest.raises(ModelError, match=rf"says {key} in {part} of 'group_0' = .*, and .* is needed\.$"):
        schemes(said)


@given(key=st.sampled_from(sorted(WRONG_IN_WEIGHTS)), value=JSON)
def test_any_value_is_read_or_refused(key, value):
    try:
        found = weights(**WEIGHTS | {key: value})
    except ModelError:
        return
    assert 1 <= found.bits <= 32
    assert found.group is None or found.group > 0


@given(table=JSON)
def test_any_table_is_read_or_refused(table):
    with pytest.raises(ModelError):
        schemes({"config_groups": {"a": {"targets": ["Linear"], "weights": {"num_bits": table}}}, "format": table})


@pytest.mark.parametrize(
    "pattern", ["(", "[", "(?P<a", "*", "(a+)+$", "(a|aa)*b", "(.*){9}", ".*" * 7, "a" * 301, "\\", "(?<=a+)b"]
)
def test_expressions_that_are_none_or_could_take_for_ever(pattern):
    with pytest.raises(ModelError, match=r"says targets of 'group_0' = .*, and a (pattern without|regular exp)"):
        schemes(quantization(targets=[f"re:{pattern}"]))
    with pytest.raises(ModelError, match="says ignore = "):
        schemes(quantization() | {"ignore": [f"re:{pattern}"]})


def test_those_that_are_read_do_not_take_long():
    """The worst that may be written, on the longest name that a model has."""
    started = time.perf_counter()
    assert Targets([["re:.*.*.*.*.*.*!"]]).group_of("model.layers.0.mlp.experts.127.gate_proj") is None
    assert time.perf_counter() - started < 10


@pytest.mark.parametrize(
    "pattern",
    [
        r".*\.mlp\.(gate|up|down)_proj$",
        r"^model\.layers\.(0|1[0-9])\..*",
        r".*lm_head",
        r"(?:.*\.)?experts\.\d+\.w[123]",
    ],
)
def test_expressions_that_are_in_use_are_read(pattern):
    found = schemes(quantization(targets=[f"re:{pattern}"]))
    assert found.schemes[0].targets == [f"re:{pattern}"]


def test_an_embedding_is_told_by_its_name():
    targets = Targets([["Linear"], ["Embedding"]])
    assert [targets.group_of(path) for path in ("lm_head", "model.embed_tokens", "transformer.wte")] == [0, 1, 1]
