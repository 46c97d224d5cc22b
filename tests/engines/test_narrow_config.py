"""A config made small: every size fits every other one, and each kind of layer is still there."""

import pytest

from pytest_quantbench.engines.narrow_config import Measures, small, smaller

BASE = {
    "hidden_size": 4096,
    "intermediate_size": 16384,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "rms_norm_eps": 1e-5,
    "sliding_window": 4096,
}
TO = Measures(layers=4, words=128, head=16)


def test_sizes_follow_heads_and_their_width():
    made = small(BASE, 32, TO)
    assert made["num_hidden_layers"] == 4
    assert made["num_attention_heads"] % made["num_key_value_heads"] == 0
    assert made["num_key_value_heads"] < made["num_attention_heads"]
    assert made["hidden_size"] == 16 * made["num_attention_heads"]
    assert made["intermediate_size"] == 4 * made["hidden_size"]
    assert (made["vocab_size"], made["sliding_window"], made["rms_norm_eps"]) == (128, 8, 1e-5)


def test_lists_and_tables_by_layer_are_cut():
    kinds = ["sliding_attention", "full_attention"] * 16
    by_layer = {"02": {"head_dim": 128}, "03": {"head_dim": 64}, "31": {"head_dim": 64}}
    made = small(BASE | {"layer_types": kinds, "per_layer_config": by_layer, "mlp_only_layers": [1, 30]}, 32, TO)
    assert made["layer_types"] == kinds[:4]
    assert made["per_layer_config"].keys() == {"02", "03"}
    assert made["mlp_only_layers"] == [1]


def test_what_is_turned_of_a_head_is_half_of_it_or_all_where_the_head_is_called_so():
    assert small(BASE | {"head_dim": 128, "qk_rope_head_dim": 64}, 32, TO)["qk_rope_head_dim"] == 8
    deepseek = small(BASE | {"head_dim": 64, "qk_rope_head_dim": 64}, 32, TO)
    assert deepseek["qk_rope_head_dim"] == deepseek["head_dim"] == 16


@pytest.mark.parametrize("key", ["num_experts_per_tok", "moe_topk", "top_k", "moe_k"])
def test_no_more_experts_are_chosen_than_there_are(key):
    made = small(BASE | {"num_experts": 64, key: 6}, 32, TO)
    assert made[key] <= made["num_experts"] == 4


def test_ways_to_make_it_small_begin_with_the_smallest_and_end_with_none():
    kinds = ["a", "a", "a", "a", "a", "b"] + ["a"] * 26  # a kind of its own in the sixth layer
    ways = list(smaller(BASE, kinds, 128))
    assert ways[0]["num_hidden_layers"] == 6
    assert ways[-1] == BASE
    assert ways[-2]["hidden_size"] == BASE["hidden_size"]
