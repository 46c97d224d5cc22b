import json

import pytest

from pytest_quantbench.catalog.models import TINY_DIRECTORY
from pytest_quantbench.checkpoints.config import check_sizes, read_config, remote_code
from pytest_quantbench.errors import ModelError


def test_the_embedded_models_config_is_read():
    assert read_config(TINY_DIRECTORY)["model_type"] == "llama"


@pytest.mark.parametrize(
    "text", ["", "[", "[]", "3", "{" * 10_000, '{"a": ' * 100_000, "\ud800", '{"a": 1}', "9" * 5000]
)
def test_what_is_no_config_is_refused(tmp_path, text):
    (tmp_path / "config.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(ModelError, match=r"config\.json (is not valid JSON|names no model_type|holds no table)"):
        read_config(tmp_path)


def test_a_config_of_more_than_any_model_needs_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr("pytest_quantbench.checkpoints.config.MOST_CONFIG_BYTES", 10)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    with pytest.raises(ModelError, match="takes 23 bytes, and a config at most 10"):
        read_config(tmp_path)


@pytest.mark.parametrize(
    ("config", "code"),
    [
        ({}, ()),
        ({"auto_map": {}}, ()),
        ({"auto_map": None, "model_file": None}, ()),
        (
            {"auto_map": {"AutoConfig": "c.C", "AutoModel": "m.M", "AutoTokenizer": ["t.T", None]}},
            ("['t.T', None]", "c.C", "m.M"),
        ),
        ({"auto_map": "m.M"}, ("m.M",)),
        ({"model_file": "m.py"}, ("m.py",)),
    ],
)
def test_code_of_the_repository_is_named(config, code):
    assert remote_code(config) == code


@pytest.mark.parametrize(
    "config",
    [
        {"num_hidden_layers": 30, "vocab_size": 1000, "num_attention_heads": 8, "max_window_layers": 28},
        {"rope_theta": 1e6, "max_position_embeddings": 10**6, "eos_token_id": [10**6], "layer_norm_eps": 1e-5},
        {"text_config": {"num_hidden_layers": 10}, "layer_types": ["full"] * 10, "num_experts": None, "head_dim": True},
    ],
)
def test_what_the_weights_can_back_is_fine(tmp_path, config):
    check_sizes(tmp_path, config, tensors=30, elements=1000)


@pytest.mark.parametrize(
    ("config", "key"),
    [
        ({"num_hidden_layers": 31}, "num_hidden_layers = 31, and the weights hold 30 tensors"),
        ({"n_layer": 1e9}, "n_layer = 1000000000.0, and"),
        ({"num_layers": 10**30}, "num_layers = 1000000000000000000000000000000, and"),
        ({"text_config": {"n_routed_experts": 1001}}, "n_routed_experts = 1001, and"),
        ({"parts": [{"moe_num_experts": [1, 1001]}]}, "moe_num_experts = 1001, and"),
        ({"vocab_size": 1001}, "vocab_size = 1001, and the weights hold 1000 elements"),
        ({"head_dim": 1001}, "head_dim = 1001, and"),
        ({"num_key_value_heads": 1001}, "num_key_value_heads = 1001, and"),
        ({"vision_config": {"depth": 31}}, "depth = 31, and"),
    ],
)
def test_what_the_weights_cannot_back_is_refused(tmp_path, config, key):
    with pytest.raises(ModelError, match=f"config.json says {key}"):
        check_sizes(tmp_path, config, tensors=30, elements=1000)
