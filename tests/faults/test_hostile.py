"""Repositories that want something else than to be measured: refused, by name, before they can do any harm."""

import json
import struct

import pytest
from builders import open_model
from faults.conftest import TINY

from pytest_quantbench.checkpoints.checkpoint import Checkpoint
from pytest_quantbench.checkpoints.shards import INDEX
from pytest_quantbench.errors import ModelError
from pytest_quantbench.fetch import download


def changed(files, name, **changes):
    """The files with keys of a JSON file changed."""
    return files | {name: json.dumps(json.loads(files[name]) | changes).encode()}


def header_file(header, room):
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(room)


def refused(hub, files, message):
    """Fetching and opening this repository ends with that ModelError."""
    hub.publish("someone/tiny", files)
    with pytest.raises(ModelError, match=message):
        open_model(*download.fetch(TINY, offline=False))


@pytest.mark.parametrize(
    "name",
    [
        "../../x.safetensors",
        "/etc/x.safetensors",
        "a/b.safetensors",
        "..\\x.safetensors",
        ".hidden.safetensors",
        "x.bin",
    ],
)
def test_an_index_that_names_a_path_is_refused_before_any_weights_are_fetched(hub, sharded_files, name):
    weight_map = json.loads(sharded_files[INDEX])["weight_map"] | {"model.norm.weight": name}
    files = changed(sharded_files, INDEX, weight_map=weight_map)
    refused(hub, files, rf"{INDEX} puts 'model\.norm\.weight' into '.*', which is not the plain name")
    assert hub.asked("^cdn") == []


def test_an_index_that_names_a_file_that_is_not_there(hub, sharded_files):
    weight_map = json.loads(sharded_files[INDEX])["weight_map"] | {"model.norm.weight": "model-3.safetensors"}
    refused(
        hub, changed(sharded_files, INDEX, weight_map=weight_map), r"names model-3\.safetensors, which is not on the"
    )
    assert hub.asked("^cdn") == []


def test_an_index_that_puts_a_tensor_into_the_wrong_file(hub, sharded_files):
    weight_map = json.loads(sharded_files[INDEX])["weight_map"]
    other = next(file for file in weight_map.values() if file != weight_map["model.norm.weight"])
    files = changed(sharded_files, INDEX, weight_map=weight_map | {"model.norm.weight": other})
    refused(hub, files, rf"'model\.norm\.weight' is in {other}, and it is in model-0000\d")


@pytest.mark.parametrize("dimensions", [[2**59], [2**30, 2**29], [2**20] * 3])
def test_a_tensor_of_two_to_the_sixty_bytes(hub, tiny_files, dimensions):
    header = {"model.norm.weight": {"dtype": "BF16", "shape": dimensions, "data_offsets": [0, 2**60]}}
    refused(
        hub,
        tiny_files | {"model.safetensors": header_file(header, 16)},
        "overflow computing buffer size|file not fully covered",
    )


def test_a_header_longer_than_its_file(hub, tiny_files):
    content = struct.pack("<Q", 2**63) + b"{}"
    refused(hub, tiny_files | {"model.safetensors": content}, "its header should take 9223372036854775808 bytes, of 10")


@pytest.mark.parametrize(
    ("key", "value", "held"),
    [("num_hidden_layers", 10**9, "tensors"), ("num_experts", 10**9, "elements"), ("hidden_size", 10**12, "elements")],
)
def test_a_config_that_its_weights_cannot_back(hub, tiny_files, key, value, held):
    refused(
        hub,
        changed(tiny_files, "config.json", **{key: value}),
        rf"says {key} = {value}, and the weights hold \d+ {held}",
    )


def test_a_config_of_one_more_than_memory_holds(hub, tiny_files):
    deep = json.loads(tiny_files["config.json"]) | {"text_config": {"num_hidden_layers": 10**9}}
    refused(hub, tiny_files | {"config.json": json.dumps(deep).encode()}, "num_hidden_layers = 1000000000")


def test_pickles_alone_are_refused_by_name_and_not_fetched(hub, tiny_files):
    files = {name: content for name, content in tiny_files.items() if name != "model.safetensors"}
    pickles = {"pytorch_model.bin": b"\x80\x04.", "pytorch_model.bin.index.json": b"{}"}
    refused(hub, files | pickles, r"no model\*\.safetensors on the Hub\. It has pytorch_model\.bin, which is not read")
    assert hub.asked("resolve") == []


def test_pickles_code_and_folders_beside_the_weights_are_not_fetched(hub, tiny_files):
    others = (
        "pytorch_model.bin",
        "modeling_tiny.py",
        "tokenizer.py",
        "setup.sh",
        "onnx/model.safetensors",
        "a/../x.json",
    )
    hub.publish("someone/tiny", tiny_files | dict.fromkeys(others, b"\x80\x04."))
    directory, _ = download.fetch(TINY, offline=False)
    assert {path.name for path in directory.iterdir()} == set(tiny_files)


def test_weights_twice_are_fetched_once(hub, tiny_files):
    hub.publish("someone/tiny", tiny_files | {"model.fp16.safetensors": b"x", "consolidated.safetensors": b"x"})
    assert [file.name for file in Checkpoint(*download.fetch(TINY, offline=False)).files] == ["model.safetensors"]


def test_code_that_mlx_lm_does_not_need_is_ignored_with_a_sentence(hub, tiny_files):
    auto_map = {"AutoModelForCausalLM": "modeling_tiny.TinyForCausalLM"}
    files = changed(tiny_files, "config.json", auto_map=auto_map) | {"modeling_tiny.py": b"raise SystemExit"}
    hub.publish("someone/tiny", files)
    with pytest.warns(UserWarning, match=r"brings code of its own \(modeling_tiny\.\w+\), which is not run"):
        model = open_model(*download.fetch(TINY, offline=False))
    assert model.dtype == "bfloat16"
    assert hub.asked(r"\.py") == []


def test_code_that_would_be_needed_is_refused(hub, tiny_files):
    auto_map = {"AutoModelForCausalLM": "modeling_tiny.TinyForCausalLM"}
    files = changed(tiny_files, "config.json", auto_map=auto_map, model_type="tiny_of_its_own")
    refused(
        hub,
        files,
        r"'tiny_of_its_own' is not one that mlx-lm has\. The model's own code \(modeling_tiny\.\w+\) is never",
    )


@pytest.mark.parametrize("model_type", ["../../x", "os.path", "llama\0", "", "base", "a b", "__init__", "x" * 1000])
def test_a_model_type_that_is_no_model(hub, tiny_files, model_type):
    refused(hub, changed(tiny_files, "config.json", model_type=model_type), "Unsupported architecture|cannot build")


def test_a_model_that_is_already_quantized_is_refused_before_its_weights_are_fetched(hub, tiny_files):
    refused(hub, changed(tiny_files, "config.json", quantization={"bits": 4}), "already quantized")
    assert hub.asked("^cdn") == []


def test_a_repository_without_a_config(hub, tiny_files):
    files = {name: content for name, content in tiny_files.items() if name != "config.json"}
    refused(hub, files, r"someone/tiny has no config\.json on the Hub")


def test_a_tokenizer_of_a_gigabyte_is_not_fetched(hub, tiny_files, monkeypatch):
    monkeypatch.setattr(download, "MOST_SMALL_BYTES", 200_000)
    hub.publish("someone/tiny", tiny_files | {"dump.json": b" " * 200_001})
    download.fetch(TINY, offline=False)
    assert hub.asked("dump") == []
