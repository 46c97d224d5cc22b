"""Which format opens what, and what none does."""

import json
from dataclasses import replace

import numpy as np
import pytest
from checkpoints.formats.hub_checkpoints import write

from pytest_quantbench.checkpoints.formats import open_candidate
from pytest_quantbench.checkpoints.formats.protocol import HeldTensor, bits_per_weight, layer_bits
from pytest_quantbench.errors import ModelError

WEIGHT = {"model.embed_tokens.weight": np.ones((4, 8), np.float16)}


@pytest.mark.parametrize("quantization", [None, {"quant_method": "gptq", "bits": 4, "group_size": 32}])
def test_an_adapter_is_no_model(tmp_path, quantization):
    write(tmp_path, WEIGHT, quantization)
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA"}))
    with pytest.raises(ModelError, match=r"is an adapter .* merge it into its base model"):
        open_candidate(tmp_path)


def test_a_method_that_no_format_reads(tmp_path):
    write(tmp_path, WEIGHT, {"quant_method": "aqlm"})
    with pytest.raises(ModelError, match=r"in no format that is read here.*GPTQ.*safetensors in BF16"):
        open_candidate(tmp_path)


def test_gguf_files_beside_safetensors_are_told_of(tmp_path, recwarn):
    """llama.cpp's conversion writes its file into the directory that it converts."""
    write(tmp_path, WEIGHT, None)
    open_candidate(tmp_path)
    assert not recwarn.list
    for name in ("b-Q8_0.gguf", "a-Q4_0.gguf"):
        (tmp_path / name).touch()
    with pytest.warns(UserWarning, match=r"GGUF files beside them \(a-Q4_0\.gguf, b-Q8_0\.gguf\), which are not"):
        assert open_candidate(tmp_path).format == "plain"


CODEC = object()


def tensor(name, shape, stored_bytes, codec=CODEC):
    return HeldTensor(
        name=name, shape=shape, stored_bytes=stored_bytes, kind="some", codec=codec, read=dict, parameters={}
    )


def test_the_width_of_layers_counts_what_is_not_encoded_too():
    """A file of which half the layers are in 16 bits is no 4-bit file, whatever its embeddings and norms take."""
    four, sixteen = (tensor(f"model.layers.{n}.up.weight", (8, 32), size) for n, size in ((0, 128), (1, 512)))
    beside = [tensor("model.embed_tokens.weight", (64, 32), 4096), tensor("model.layers.0.norm.weight", (32,), 64)]
    assert layer_bits([four, *beside]) == 4
    assert layer_bits([four, replace(sixteen, codec=None), *beside]) == 10


def test_where_names_tell_of_no_layers_all_that_is_encoded_counts():
    known = [tensor("a", (8, 32), 128), tensor("b", (8, 32), 512, codec=None)]
    assert layer_bits(known) == bits_per_weight(known) == 4
    assert bits_per_weight(known[1:]) == 16
    assert bits_per_weight([]) == 16
