import json

import pytest

from pytest_quantbench.checkpoints.checkpoint import Checkpoint
from pytest_quantbench.errors import ModelError


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


def test_a_file_of_the_hubs_cache_carries_its_hash_and_a_link_of_the_users_own_does_not(small_model, tmp_path):
    directory = small_model()
    file, blob = directory / "model.safetensors", tmp_path / ("ab" * 32)
    file.rename(blob)
    file.symlink_to(blob)
    fetched, own = Checkpoint(directory, "commit").sha256, Checkpoint(directory).sha256
    content = blob.read_bytes()
    blob.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert Checkpoint(directory, "commit").sha256 == fetched != own  # what was fetched was compared then
    assert Checkpoint(directory).sha256 not in (own, fetched)


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json", "generation_config.json", "vocab.txt"])
def test_another_tokenizer_makes_another_model(small_model, name):
    """It reads another text, answers other questions, and is calibrated with others."""
    directory = small_model()
    before = Checkpoint(directory).sha256
    with (directory / name).open("a") as file:
        file.write(" ")
    assert Checkpoint(directory).sha256 != before


def test_files_that_no_model_is_read_from_change_nothing(small_model):
    directory = small_model()
    before = Checkpoint(directory).sha256
    (directory / "README.md").write_text("read me")
    (directory / "tokenizers").mkdir()
    assert Checkpoint(directory).sha256 == before


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
