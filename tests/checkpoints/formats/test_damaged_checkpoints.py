"""Packed checkpoints with something about them changed at random: they are read, or refused in a sentence."""

import contextlib
import copy
import json
import math

import numpy as np
import pytest
from checkpoints.formats import pack_awq, pack_bitsandbytes, pack_gptq, pack_hqq
from checkpoints.formats.hub_checkpoints import PATH, under, write
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_quantbench.checkpoints.formats import open_candidate
from pytest_quantbench.errors import ModelError, QuantbenchError

SOUND = {
    "gptq": (pack_gptq.pack(*pack_gptq.drawn(), 4), {**pack_gptq.CONFIG, "dynamic": {"+:x": {"bits": 8}}, "meta": {}}),
    "awq": (pack_awq.gemm(*pack_awq.drawn()), pack_awq.CONFIG),
    "awq, gemv": (pack_awq.gemv(*pack_awq.drawn()), {**pack_awq.CONFIG, "version": "gemv"}),
    "bitsandbytes": (pack_bitsandbytes.drawn(nested=32), pack_bitsandbytes.FOUR),
    "bitsandbytes, 8 bits": (
        {"weight": np.ones((6, 10), np.int8), "SCB": np.ones(6, np.float32), "weight_format": np.array(0, np.uint8)},
        pack_bitsandbytes.EIGHT,
    ),
    "hqq": (pack_hqq.pack(pack_hqq.drawn(), "4bit_u8", (16, 64), 32, 1), pack_hqq.config()),
}
TYPES = [np.uint8, np.int8, np.int32, np.int64, np.float16, np.float32, np.bool_]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def read_everything(directory):
    """Every tensor, decoded, and as a layer; by name."""
    found = {}
    for tensor in open_candidate(directory).stored():
        arrays = tensor.read()
        found[tensor.name] = arrays["weight"] if tensor.codec is None else tensor.codec.decode(arrays)
        assert found[tensor.name].shape == tensor.shape
        if tensor.codec is not None:
            tensor.codec.layer(arrays)
            tensor.codec.note(tensor.shape, arrays)
    return found


def read_or_refused(directory):
    """Nothing but our own errors is raised, and none at all where it can be read."""
    with np.errstate(all="ignore"), contextlib.suppress(QuantbenchError):
        read_everything(directory)


@pytest.mark.parametrize("case", SOUND)
def test_sound_ones_are_read(tmp_path, case):
    parts, config = SOUND[case]
    assert f"{PATH}.weight" in read_everything(write(tmp_path, under(PATH, parts), config))


@pytest.mark.parametrize("case", SOUND)
@given(data=st.data())
@settings(max_examples=60)
def test_any_part_changed(tmp_path_factory, case, data):
    """Missing, of another type or shape, or with other bytes."""
    parts, config = copy.deepcopy(SOUND[case])
    name = data.draw(st.sampled_from(sorted(parts)))
    how = data.draw(st.sampled_from(["missing", "shape", "bytes"]))
    if how == "missing":
        del parts[name]
    elif how == "shape":
        shape = tuple(data.draw(st.lists(st.integers(0, 40), max_size=3)))
        parts[name] = np.ones(shape, data.draw(st.sampled_from(TYPES)))
    else:
        size = parts[name].nbytes
        rest = np.frombuffer(np.ascontiguousarray(parts[name]).tobytes(), np.uint8).copy()
        for place in data.draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=4)):
            rest[place] = data.draw(st.integers(0, 255))
        parts[name] = rest.view(parts[name].dtype).reshape(parts[name].shape)
    read_or_refused(write(tmp_path_factory.mktemp("part"), under(PATH, parts), config))


@pytest.mark.parametrize("case", SOUND)
@given(data=st.data())
@settings(max_examples=60)
def test_any_setting_changed(tmp_path_factory, case, data):
    """To whatever JSON can hold, or gone."""
    parts, config = copy.deepcopy(SOUND[case])
    inside = config
    while True:
        key = data.draw(st.sampled_from(sorted(inside)))
        deeper = isinstance(inside[key], dict) and inside[key] and data.draw(st.booleans())
        if not deeper:
            break
        inside = inside[key]
    inside[key] = data.draw(JSON)
    if data.draw(st.booleans()):
        del inside[key]
    read_or_refused(write(tmp_path_factory.mktemp("setting"), under(PATH, parts), config))


@given(state=st.dictionaries(st.sampled_from(["quant_type", "shape", "blocksize", "nested_offset"]), JSON, min_size=1))
@settings(max_examples=60)
def test_any_state_of_bitsandbytes(tmp_path_factory, state):
    parts = pack_bitsandbytes.drawn(nested=32) | pack_bitsandbytes.changed_state(**state)
    directory = tmp_path_factory.mktemp("state")
    read_or_refused(write(directory, pack_bitsandbytes.under(parts), pack_bitsandbytes.FOUR))


@pytest.mark.parametrize("case", SOUND)
def test_a_cut_file(tmp_path, case):
    parts, config = SOUND[case]
    write(tmp_path, under(PATH, parts), config)
    file = tmp_path / "model.safetensors"
    for share in (0.0, 0.3, 0.6, 0.99):
        file.write_bytes(file.read_bytes()[: math.floor(share * file.stat().st_size)])
        with pytest.raises(ModelError, match=r"model\.safetensors"):
            open_candidate(tmp_path)
        write(tmp_path, under(PATH, parts), config)


def test_one_file_of_several_missing(tmp_path):
    parts, config = SOUND["gptq"]
    write(tmp_path, under(PATH, parts), config)
    names = dict.fromkeys(under(PATH, parts), "model-00001-of-00002.safetensors")
    index = {"weight_map": names | {f"{PATH}.scales": "model-00002-of-00002.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    (tmp_path / "model.safetensors").rename(tmp_path / "model-00001-of-00002.safetensors")
    with pytest.raises(ModelError, match=r"names model-00002-of-00002\.safetensors, which is not there"):
        open_candidate(tmp_path)
