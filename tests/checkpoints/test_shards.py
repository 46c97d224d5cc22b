import json

import mlx.core as mx
import pytest

from pytest_quantbench.checkpoints.shards import INDEX, chosen_names, read_index, read_weights, weight_files
from pytest_quantbench.errors import ModelError


@pytest.fixture
def shards(tmp_path):
    """A directory of these files, {name: tensors in it}, with an index if there is one."""

    def make(files, index=None):
        for file, names in files.items():
            mx.save_safetensors(str(tmp_path / file), {name: mx.zeros((2, 3)) for name in names})
        if index is not None:
            (tmp_path / INDEX).write_text(json.dumps({"metadata": {"total_size": 1.5}, "weight_map": index}))
        return tmp_path

    return make


TWO = {"model-1.safetensors": ["a"], "model-2.safetensors": ["b", "c"]}
MAP = {"a": "model-1.safetensors", "b": "model-2.safetensors", "c": "model-2.safetensors"}


def test_files_and_tensors_of_a_sharded_model(shards):
    weights = read_weights(shards(TWO, MAP))
    assert [file.name for file in weights.files] == list(TWO)
    assert set(weights.tensors) == {"a", "b", "c"}
    assert weights.elements == 18


def test_an_index_may_leave_tensors_and_files_out(shards):
    weights = read_weights(shards(TWO | {"model-3.safetensors": ["a"]}, {"a": "model-1.safetensors"}))
    assert set(weights.tensors) == {"a"}


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (["model.safetensors", "model.fp16.safetensors", "consolidated.safetensors"], ["model.safetensors"]),
        (["model-2.safetensors", "model-1.safetensors"], ["model-1.safetensors", "model-2.safetensors"]),
        (["consolidated.safetensors", "x/model.safetensors", "model/../model.safetensors", "model.bin"], []),
    ],
)
def test_weights_without_an_index_are_chosen_by_name(names, chosen):
    assert chosen_names(names) == chosen


def test_a_directory_of_other_names_is_read_too(shards):
    assert [file.name for file in weight_files(shards({"weights.safetensors": ["a"]}))] == ["weights.safetensors"]


@pytest.mark.parametrize(
    ("files", "index", "message"),
    [
        (TWO, MAP | {"c": "model-1.safetensors"}, r"says that 'c' is in model-1\.safetensors, and it is in model-2"),
        (TWO, MAP | {"d": "model-1.safetensors"}, r"says that 'd' is in model-1\.safetensors, and no file holds it"),
        (TWO, MAP | {"d": "model-3.safetensors"}, r"names model-3\.safetensors, which is not there"),
        (
            TWO | {"model-1.safetensors": ["a", "b"]},
            MAP,
            r"model-1\.safetensors and model-2\.safetensors both hold 'b'",
        ),
        (TWO | {"model-1.safetensors": ["a", "b"]}, None, r"both hold 'b'\. Remove one"),
        (TWO, {}, "has no weight_map"),
        (TWO, [1], "has no weight_map"),
        (TWO, MAP | {"a": 3}, r"puts 'a' into 3, which is not the plain name"),
        (TWO, MAP | {"a": "../model-1.safetensors"}, r"puts 'a' into '\.\./model-1\.safetensors', which is not"),
        (TWO, MAP | {"a": "model-1.safetensors\n"}, "which is not the plain name"),
        ({}, None, r"has no \*\.safetensors file"),
    ],
)
def test_an_index_and_files_that_do_not_belong_together(shards, files, index, message):
    with pytest.raises(ModelError, match=message):
        read_weights(shards(files, index))


def test_an_index_that_is_no_index(tmp_path):
    (tmp_path / INDEX).write_text("{")
    with pytest.raises(ModelError, match=rf"{INDEX} is truncated or corrupt"):
        read_index(tmp_path / INDEX)
    with pytest.raises(ModelError, match="cannot be read: No such file"):
        read_index(tmp_path / "nowhere")


def test_an_index_of_more_than_any_model_needs_is_not_read(shards, monkeypatch):
    monkeypatch.setattr("pytest_quantbench.checkpoints.shards.MOST_HEADER_BYTES", 10)
    with pytest.raises(ModelError, match=r"takes \d+ bytes, and an index at most 10"):
        read_weights(shards(TWO, MAP))


def test_what_is_there_instead_is_named(tmp_path):
    (tmp_path / "model.gguf").write_text("")
    with pytest.raises(ModelError, match=r"It has model\.gguf, which is not read: convert it"):
        read_weights(tmp_path)
