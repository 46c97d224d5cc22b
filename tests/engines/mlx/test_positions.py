"""Limits on a text's length, in every spelling, and those of the engine."""

import json

import mlx.core as mx
import pytest
from builders import capacity, open_model
from mlx.utils import tree_flatten
from published_configs import CATALOGUE, FAMILIES
from small_models import CONFIGS

from pytest_quantbench import engines
from pytest_quantbench.catalog.models import TINY_DIRECTORY
from pytest_quantbench.catalog.recipes import recipe
from pytest_quantbench.compress.pipeline import reference
from pytest_quantbench.engines.mlx.positions import limits
from pytest_quantbench.engines.mlx.skeleton import skeleton
from pytest_quantbench.errors import ModelError
from pytest_quantbench.measures import throughput_session
from pytest_quantbench.measures.throughput_runs import learned_positions

GPT2 = {
    "model_type": "gpt2",
    "n_ctx": 64,
    "n_positions": 64,
    "n_embd": 64,
    "n_head": 4,
    "n_layer": 2,
    "layer_norm_epsilon": 1e-5,
    "vocab_size": 2048,
}
LAYERS = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 16}


def longest_input(config, otherwise):
    return capacity(config).longest_input(otherwise)


@pytest.mark.parametrize(
    "key",
    "n_positions n_ctx max_position_embeddings max_seq_len max_sequence_length max_seq_length seq_length seq_len "
    "model_max_length max_context_length context_length block_size".split(),
)
def test_every_spelling_of_a_limit_is_read(key):
    assert longest_input({key: 100}, 2048) == 100
    assert longest_input({"text_config": {key: 100}}, 2048) == 100
    assert longest_input({key: 10**30}, 2048) == longest_input({key: None}, 2048) == longest_input({}, 2048) == 2048


def test_the_least_of_several_limits_counts():
    assert longest_input({"max_position_embeddings": 8192, "model_max_length": 512}, 2048) == 512
    assert longest_input({"max_length": 20, "n_positions": 1024}, 2048) == 1024  # a setting of generation


@pytest.mark.parametrize(
    ("config", "limit"),
    [
        ({"model_type": "mistral", "sliding_window": 16}, 16),
        ({"model_type": "mistral", "sliding_window": None}, 2048),
        ({"model_type": "llama", **LAYERS}, 2048),  # applied
        ({"model_type": "qwen2", **LAYERS}, 16),
        ({"model_type": "qwen2", "sliding_window": 16, "use_sliding_window": False}, 2048),
        ({"model_type": "qwen2", "sliding_window": 16, "layer_types": ["full_attention"]}, 2048),
        ({"model_type": "gemma2", "sliding_window": 16}, 16),
        ({"model_type": "gemma3_text", "sliding_window": 16}, 2048),
        ({"model_type": "phi3", "sliding_window": 16}, 16),
        ({"model_type": "llama4_text", "attention_chunk_size": 16}, 16),
        ({"model_type": "phi3", "original_max_position_embeddings": 16, "rope_scaling": {"type": "longrope"}}, 16),
    ],
)
def test_texts_stay_where_the_engine_computes_what_the_model_does(config, limit):
    assert longest_input(config, 2048) == limit


def test_the_limit_of_every_published_model_is_known():
    found = {name: longest_input(config, 2048) for name, config in (CATALOGUE | FAMILIES).items()}
    assert found["openai-community/gpt2"] == 1024
    assert found["microsoft/Phi-3-mini-128k-instruct"] == found["google/gemma-2-2b"] == 4096
    assert min(found.values()) == 1024  # no window of 2,048 is cut but GPT-2's


def test_a_limit_is_named_with_its_key():
    config = FAMILIES["bigcode/starcoder2-3b"]
    assert limits(config) == {
        "max_position_embeddings": 16384,
        "sliding_window, which mlx-lm's 'starcoder2' does not apply": 4096,
    }


@pytest.mark.parametrize("key", ["max_position_embeddings", "seq_length", "sliding_window"])
def test_a_limit_that_is_no_number_is_refused(key):
    for config in ({key: "256"}, {"text_config": {key: "256"}}):
        with pytest.raises(ModelError, match=f"{key} = '256', and it has to be a number of tokens, or null"):
            limits(config)


def test_learned_positions_are_known_by_their_table():
    assert learned_positions({"model.wpe.weight": (64, 8), "model.wte.weight": (9, 8)}) == 64
    assert learned_positions({"embed_positions.weight": (32, 8)}) == 32
    assert learned_positions({"model.embed_tokens.weight": (9, 8), "q_proj.weight": (8, 8)}) is None


def test_throughput_beyond_a_table_of_positions_is_refused(tmp_path):
    directory = tmp_path / "gpt2"
    directory.mkdir()
    weights = {name: array.astype(mx.bfloat16) for name, array in tree_flatten(skeleton(GPT2, []).parameters())}
    mx.save_safetensors(str(directory / "model.safetensors"), weights)
    (directory / "config.json").write_text(json.dumps(GPT2))
    for file in TINY_DIRECTORY.glob("tokenizer*"):
        (directory / file.name).write_bytes(file.read_bytes())
    artifact = reference(open_model(directory), recipe("bf16"), tmp_path)
    both = {"engine": engines.get(), "artifact": artifact, "tokenizer_directory": directory, "runs": 1}
    session = throughput_session.Session(**both, new_tokens=256)
    with pytest.raises(ModelError, match=r"T1 needs \d+ positions, 256 of them for new tokens, .* learned 64"):
        session.start()
    short = throughput_session.Session(**both, new_tokens=2)
    assert len(short.finish().runs) == 5


def test_rotary_positions_are_no_table():
    names = {name: array.shape for name, array in tree_flatten(skeleton(CONFIGS["llama"], []).parameters())}
    assert learned_positions(names) is None
