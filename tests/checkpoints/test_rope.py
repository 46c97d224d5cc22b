"""Rotary positions of config.json: what both spellings say, contradictions, and a model that does otherwise."""

import mlx.nn as nn
import numpy as np
import pytest
from published_configs import FAMILIES
from small_models import CONFIGS, HEADS

from pytest_quantbench.checkpoints.layer_kinds import for_mlx_lm, layer_kinds, pattern_of
from pytest_quantbench.checkpoints.rope import ropes_of, spelled
from pytest_quantbench.engines.mlx.rope_check import turning_of
from pytest_quantbench.engines.mlx.skeleton import skeleton
from pytest_quantbench.errors import ModelError

LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
LONGROPE = {"type": "longrope", "short_factor": [1.0] * 8, "long_factor": [2.0] * 8, "factor": 4.0}


def ropes(config):
    """How every rotary module of the model turns."""
    modules = dict(skeleton(config, HEADS).named_modules())
    found = [turning_of(modules[path]) for path in sorted(modules)]
    return [turning for turning in found if turning is not None]


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ({"rope_theta": 500.0}, {"rope_type": "default", "rope_theta": 500.0}),
        (
            {"rope_theta": 500.0, "rope_scaling": {"type": "linear", "factor": 4}},
            {"rope_type": "linear", "factor": 4.0, "rope_theta": 500.0},
        ),
        ({"rope_theta": 500.0, "rope_scaling": LLAMA3}, LLAMA3 | {"rope_theta": 500.0}),
    ],
)
@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3"])
def test_both_spellings_are_one_model(architecture, older, newer):
    base = {key: value for key, value in CONFIGS[architecture].items() if key != "rope_theta"}
    first, second = ropes(base | older), ropes(base | {"rope_parameters": newer})
    assert all(one.equals(other) for one, other in zip(first, second, strict=True))
    assert not any(one.equals(other) for one, other in zip(first, ropes(base | {"rope_theta": 77.0}), strict=True))


def test_every_layer_type_has_its_base():
    older = {
        "rope_theta": 5000.0,
        "rope_local_base_freq": 300.0,
        "rope_scaling": {"rope_type": "linear", "factor": 2.0},
    }
    newer = {
        "full_attention": {"rope_type": "linear", "factor": 2.0, "rope_theta": 5000.0},
        "sliding_attention": {"rope_type": "default", "rope_theta": 300.0},
    }
    wanted = [300.0 ** -np.arange(0, 1, 0.125), 300.0 ** -np.arange(0, 1, 0.125), 5000.0 ** -np.arange(0, 1, 0.125) / 2]
    for change in (older, {"rope_parameters": newer}):
        for turning, expected in zip(ropes(CONFIGS["gemma3_text"] | change), wanted * 2, strict=False):
            np.testing.assert_allclose(turning.frequencies, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"rope_scaling": "linear"}, "rope_scaling = 'linear', and it has to be a table"),
        ({"rope_scaling": 2.0}, "rope_scaling = 2.0, and it has to be a table"),
        ({"rope_scaling": []}, r"rope_scaling = \[\], and it has to be a table"),
        ({"rope_parameters": "default"}, "rope_parameters = 'default', and it has to be a table"),
        ({"rope_parameters": {"rope_theta": "5e5"}}, "rope_theta = '5e5' .* has to be a number"),
        ({"rope_parameters": {"full_attention": {"rope_theta": "5e5"}}}, "rope_theta = '5e5' .* has to be a number"),
        ({"rope_theta": "10000"}, "rope_theta = '10000' .* has to be a number"),
        ({"rope_scaling": {"type": "linear", "factor": "2"}}, "factor = '2' .* has to be a number"),
    ],
)
def test_what_is_no_table_and_no_number_is_refused(change, said):
    base = {key: value for key, value in CONFIGS["llama"].items() if key != "rope_theta"}
    with pytest.raises(ModelError, match=said):
        skeleton(base | change, HEADS)


@pytest.mark.parametrize("alpha", [None, 1.0, 50.0])
def test_hunyuans_alpha_widens_the_base(alpha):
    config = FAMILIES["tencent/Hunyuan-1.8B-Instruct"] | {"num_hidden_layers": 1, "vocab_size": 64}
    scaling = {"type": "dynamic", "factor": 1.0, "alpha": alpha}
    if alpha is None:
        scaling = None
    base = 10000.0 * (alpha or 1.0) ** (128 / 126)
    for turning in ropes(config | {"rope_scaling": scaling}):
        np.testing.assert_allclose(turning.frequencies, base ** -(np.arange(64) / 64), rtol=1e-5)


def test_alpha_is_refused_where_a_module_does_not_widen_its_base():
    with pytest.raises(ModelError, match="does not turn positions so"):
        skeleton(CONFIGS["llama"] | {"rope_scaling": {"type": "dynamic", "factor": 1.0, "alpha": 50.0}}, HEADS)


@pytest.mark.parametrize(
    "change",
    [
        {"rope_theta": 500.0, "rope_parameters": {"rope_type": "default", "rope_theta": 600.0}},
        {"rope_scaling": {"type": "linear", "factor": 2.0}, "rope_parameters": {"rope_type": "linear", "factor": 4.0}},
        {"rope_scaling": {"type": "linear", "factor": 2.0}, "rope_parameters": {"rope_type": "yarn", "factor": 2.0}},
        {"rope_theta": 500.0, "rotary_emb_base": 600.0},
        {"partial_rotary_factor": 0.5, "rope_parameters": {"rope_theta": 5.0, "partial_rotary_factor": 0.25}},
    ],
)
def test_a_file_that_says_a_thing_twice_and_differently_is_refused(change):
    with pytest.raises(ModelError, match="contradicts itself"):
        skeleton(CONFIGS["llama"] | change, HEADS)


def test_a_file_that_says_a_thing_twice_and_the_same_is_taken():
    same = {"rope_theta": 500, "rope_parameters": {"rope_type": "default", "rope_theta": 500.0}}
    assert ropes_of(same) == {"": {"rope_theta": 500.0, "rope_type": "default"}}
    skeleton(CONFIGS["llama"] | same, HEADS)


@pytest.mark.parametrize(
    ("architecture", "rope", "key"),
    [
        ("mixtral", {"rope_type": "linear", "factor": 4.0, "rope_theta": 1e6}, "rope_parameters"),
        (
            "llama",
            {"full_attention": {"rope_theta": 5e3}, "sliding_attention": {"rope_theta": 10.0}},
            "rope_parameters",
        ),
        ("llama", LLAMA3 | {"rope_theta": 500.0, "rope_type": "llama4"}, "llama4"),
        ("phi3", LLAMA3 | {"rope_theta": 500.0}, "long_factor"),
    ],
)
def test_what_mlx_lms_module_does_not_do_is_refused(architecture, rope, key):
    config = CONFIGS.get(architecture, CONFIGS["llama"] | {"model_type": architecture, "num_local_experts": 2})
    kinds = {"layer_types": ["full_attention", "sliding_attention", "full_attention"], "sliding_window": 8}
    changes = kinds if "full_attention" in rope else {}
    with pytest.raises(ModelError, match=key):
        skeleton(config | changes | {"rope_parameters": rope}, HEADS)


def test_longrope_is_evaluated_with_its_short_factors_and_written_with_its_long_ones():
    config = CONFIGS["phi3"] | {"rope_scaling": LONGROPE, "original_max_position_embeddings": 64}
    assert spelled(config, short=True)["rope_scaling"]["long_factor"] == [1.0] * 8
    assert for_mlx_lm(config)["rope_scaling"]["long_factor"] == [2.0] * 8
    assert ropes(config)[0].frequencies[0] == pytest.approx(1)


def test_spelling_a_config_twice_changes_nothing():
    for rope in ({"rope_theta": 5.0}, LLAMA3 | {"rope_theta": 5.0}, {"rope_theta": 5.0, **LONGROPE}):
        for config in (CONFIGS["llama"] | {"rope_parameters": rope}, {"text_config": {"rope_parameters": rope}}):
            once = spelled(config, short=True)
            assert spelled(once, short=True) == once


def test_a_config_without_rotary_positions_stays_as_it_is():
    assert spelled({"model_type": "gpt2", "n_positions": 64}, short=True) == {"model_type": "gpt2", "n_positions": 64}


def test_what_turns_and_what_does_not():
    assert turning_of(nn.Linear(4, 4)) is None
    np.testing.assert_allclose(turning_of(nn.RoPE(4, base=100.0, scale=0.5)).frequencies, [0.5, 0.05])


@pytest.mark.parametrize(
    ("kinds", "pattern"),
    [("ssfssf", 3), ("ssf", 3), ("ssfss", 3), ("ss", 3), ("ff", 1), ("fss", None), ("sfsff", None)],
)
def test_layers_of_two_kinds_are_a_pattern_or_none(kinds, pattern):
    named = [{"s": "sliding_attention", "f": "full_attention"}[kind] for kind in kinds]
    assert pattern_of(named) == pattern
    if pattern is not None:
        assert layer_kinds({"sliding_window_pattern": pattern, "num_hidden_layers": len(kinds)}) == named


def test_layer_types_overrule_a_pattern_and_an_irregular_list_is_refused():
    layers = ["sliding_attention", "full_attention"] * 3 + ["sliding_attention"]
    skeleton(CONFIGS["gemma3_text"] | {"layer_types": layers, "_sliding_window_pattern": 6}, HEADS)
    with pytest.raises(ModelError, match="layer_types"):
        skeleton(CONFIGS["gemma3_text"] | {"layer_types": [*layers[::-1][:6], "full_attention"]}, HEADS)


@pytest.mark.parametrize("base", [0, -5.0])
def test_a_base_that_is_none_is_refused(base):
    with pytest.raises(ModelError, match="a base is a positive number"):
        skeleton(CONFIGS["llama"] | {"rope_theta": base}, HEADS)
