import json

import mlx.core as mx
import pytest

from pytest_quantbench.checkpoint import Checkpoint, file_sha256
from pytest_quantbench.errors import ModelError


def test_names_types_and_tensors(small_model):
    checkpoint = Checkpoint(small_model())
    assert checkpoint.dtype == "bfloat16"
    assert "model.layers.2.mlp.down_proj.weight" in checkpoint.names
    assert checkpoint.tensor("model.layers.0.self_attn.q_proj.weight").shape == (64, 64)


def test_a_tensor_can_be_read_again_and_again(small_model):
    checkpoint = Checkpoint(small_model())
    first, second = (checkpoint.tensor("model.norm.weight") for _ in range(2))
    assert mx.array_equal(first, second)


def test_the_hash_changes_with_one_weight_and_not_with_the_folder(small_model, tmp_path):
    directory = small_model()
    before = Checkpoint(directory).sha256
    directory.rename(tmp_path / "moved")
    assert Checkpoint(tmp_path / "moved").sha256 == before
    file = tmp_path / "moved" / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert Checkpoint(tmp_path / "moved").sha256 != before


def test_a_file_of_the_hubs_cache_carries_its_hash(tmp_path):
    blob = tmp_path / ("ab" * 32)
    blob.write_bytes(b"x")
    (tmp_path / "model.safetensors").symlink_to(blob)
    assert file_sha256(tmp_path / "model.safetensors") == "ab" * 32


def truncate(directory):
    file = directory / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def scramble_header(directory):
    file = directory / "model.safetensors"
    file.write_bytes(b"\xff" * 64 + file.read_bytes()[64:])


def drop_config(directory):
    (directory / "config.json").unlink()


def drop_weights(directory):
    (directory / "model.safetensors").rename(directory / "pytorch_model.bin")


def break_config(directory):
    (directory / "config.json").write_text("{")


def no_model_type(directory):
    (directory / "config.json").write_text("{}")


def widen(directory):
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(config | {"intermediate_size": 256}))


def deepen(directory):
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 4}))


def flatten(directory):
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 2}))


def already_quantized(directory):
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(config | {"quantization": {"bits": 4, "group_size": 64}}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (truncate, "truncated or corrupt"),
        (scramble_header, "truncated or corrupt"),
        (drop_config, "has no config.json"),
        (drop_weights, "pytorch_model.bin, which is not read"),
        (break_config, "not valid JSON"),
        (no_model_type, "names no model_type"),
        (widen, "config.json says"),
        (deepen, "lacks model.layers.3"),
        (flatten, "has model.layers.2"),
        (already_quantized, "already quantized"),
    ],
)
def test_a_directory_that_cannot_be_trusted_is_refused_by_name(small_model, damage, message):
    directory = small_model()
    damage(directory)
    with pytest.raises(ModelError, match=message):
        Checkpoint(directory)


def test_a_directory_that_is_not_there(tmp_path):
    with pytest.raises(ModelError, match="is not a directory"):
        Checkpoint(tmp_path / "nowhere")
