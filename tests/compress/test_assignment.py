"""Which parameters get what: parts of a recipe, and the mixes of GGUF files."""

import pytest
from builders import open_model

from pytest_quantbench.catalog.recipes import gets_more_bits, recipe
from pytest_quantbench.compress.assignment import OUTSIDE, plan


def planned(directory, recipe_id):
    return {item.name: item for item in plan(open_model(directory), recipe(recipe_id))}


def test_groups_are_the_decoder_layers_and_the_rest_comes_first(small_model):
    items = plan(open_model(small_model()), recipe("int4"))
    groups = [item.group for item in items]
    assert groups == sorted(groups)
    assert set(groups) == {OUTSIDE, 0, 1, 2}
    assert {item.part for item in items if item.group == OUTSIDE} == {"outer", "kept"}


def test_more_bits_go_to_both_ends_and_every_third_layer_between():
    """The layers that GGUF files of 32-layer models name with the wider type."""
    found = [layer for layer in range(32) if gets_more_bits(layer, 32)]
    assert found == [0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 28, 29, 30, 31]


@pytest.mark.parametrize(("architecture", "head"), [("llama", "lm_head"), ("qwen2", "model.embed_tokens")])
def test_a_mix_gives_the_head_more_even_where_it_is_the_embedding(small_model, architecture, head):
    items = planned(small_model(architecture), "int4-q4_k_m")
    bits = {name: item.codec.parameters["bits"] for name, item in items.items() if item.codec}
    assert bits[f"{head}.weight"] == 6
    assert bits["model.layers.2.self_attn.v_proj.weight"] == bits["model.layers.2.mlp.down_proj.weight"] == 6
    assert bits["model.layers.0.self_attn.v_proj.weight"] == 4
    assert bits["model.layers.2.self_attn.q_proj.weight"] == 4
    assert architecture != "llama" or bits["model.embed_tokens.weight"] == 4


def test_a_fused_projection_lies_between_its_parts_in_every_layer(small_model):
    items = planned(small_model("phi3"), "int4-q4_k_m")
    for layer in range(3):
        assert items[f"model.layers.{layer}.self_attn.qkv_proj.weight"].codec.parameters["bits"] == 5
    assert items["model.layers.2.mlp.gate_up_proj.weight"].codec.parameters["bits"] == 4


def test_a_narrow_mix_is_narrow_everywhere_but_at_the_head(small_model):
    items = planned(small_model(), "int3-q3_k_s")
    assert {name: item.codec.parameters["bits"] for name, item in items.items() if item.codec} == {
        name: 6 if name == "lm_head.weight" else 3 for name, item in items.items() if item.codec
    }
