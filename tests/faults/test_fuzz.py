"""Random and mutated headers and configs: the tensors that the safetensors library reads, or a ModelError. No more."""

import contextlib
import json
import struct
import tracemalloc

import numpy as np
import pytest
from builders import open_model
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import save
from small_models import CONFIGS

from pytest_quantbench.checkpoints.safetensors_header import MOST_HEADER_BYTES, read_header
from pytest_quantbench.checkpoints.shards import INDEX, read_index, read_weights
from pytest_quantbench.errors import ModelError

FUZZ = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
VALID = save({"a": np.zeros((2, 3), np.float16), "b.c": np.ones(5, np.float32), "d": np.ones((1, 2, 2), np.int8)})
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 2**70) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
ENTRY = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "BF16", "I8", "F64", "F99"]) | JSON,
        "shape": st.lists(st.integers(0, 4), max_size=3) | JSON,
        "data_offsets": st.lists(st.integers(0, 64), min_size=2, max_size=2) | JSON,
    }
)
HEADER = st.dictionaries(st.text(max_size=4), ENTRY | JSON, max_size=4)


def as_the_library_reads(file):
    with safe_open(file, framework="numpy") as opened:
        slices = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118 (it is no mapping)
        return {name: (part.get_dtype(), tuple(part.get_shape())) for name, part in slices.items()}


def read(file):
    """{name: (type, shape)} or the ModelError."""
    try:
        return {name: (tensor.dtype, tensor.shape) for name, tensor in read_header(file).items()}
    except ModelError as error:
        return error


def check(file, content):
    """Ours reads no more than the library does, and the same; whatever it refuses is a ModelError of few bytes."""
    file.write_bytes(content)
    tracemalloc.start()
    found = read(file)
    most_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most_bytes < 2_000_000
    if isinstance(found, ModelError):
        assert file.name in str(found)
        assert len(str(found)) < 1000
    else:
        assert found == as_the_library_reads(file)


@FUZZ
@given(content=st.binary(max_size=200))
def test_random_bytes(tmp_path, content):
    check(tmp_path / "x.safetensors", content)


@FUZZ
@given(text=st.binary(max_size=60), room=st.integers(0, 20))
def test_random_headers_of_the_right_length(tmp_path, text, room):
    check(tmp_path / "x.safetensors", struct.pack("<Q", len(text)) + text + bytes(room))


@FUZZ
@given(header=HEADER, room=st.integers(0, 64))
def test_headers_of_the_right_form(tmp_path, header, room):
    text = json.dumps(header).encode()
    check(tmp_path / "x.safetensors", struct.pack("<Q", len(text)) + text + bytes(room))


@FUZZ
@given(
    places=st.lists(st.tuples(st.integers(0, len(VALID) - 1), st.integers(0, 255)), min_size=1, max_size=4),
    kept=st.integers(0, len(VALID)) | st.just(len(VALID)),
    more=st.binary(max_size=4),
)
def test_mutated_files(tmp_path, places, kept, more):
    content = bytearray(VALID)
    for place, value in places:
        content[place] = value
    check(tmp_path / "x.safetensors", bytes(content[:kept]) + more)


def test_every_single_byte_of_a_header(tmp_path):
    end = 8 + struct.unpack("<Q", VALID[:8])[0]
    for place in range(end):
        for change in (1, 2, 32, 128):
            check(tmp_path / "x.safetensors", VALID[:place] + bytes([VALID[place] ^ change]) + VALID[place + 1 :])


def test_a_sparse_file_of_a_tebibyte_with_a_header_of_half_of_it(tmp_path):
    file = tmp_path / "x.safetensors"
    with file.open("wb") as opened:
        opened.write(struct.pack("<Q", 2**39))
        opened.truncate(2**40)
    tracemalloc.start()
    with pytest.raises(
        ModelError, match=f"should take 549755813888 bytes, of 1099511627776 and at most {MOST_HEADER_BYTES}"
    ):
        read_header(file)
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


@pytest.mark.parametrize("text", [b"[" * 100_000, b'{"a":' * 100_000, b'{"a":' + b"9" * 10_000 + b"}"])
def test_deep_and_long_json_is_refused(tmp_path, text):
    check(tmp_path / "x.safetensors", struct.pack("<Q", len(text)) + text)


@FUZZ
@given(index=JSON | st.fixed_dictionaries({"weight_map": st.dictionaries(st.text(max_size=4), JSON, max_size=4)}))
def test_indexes_of_any_form(tmp_path, index):
    (tmp_path / INDEX).write_text(json.dumps(index))
    with contextlib.suppress(ModelError):
        assert all(name == name.split("/")[-1] for name in read_index(tmp_path / INDEX).values())
    with pytest.raises(ModelError):
        read_weights(tmp_path)  # none of the files is there


@pytest.fixture(scope="module")
def directories(tmp_path_factory):
    """A place for one model of each architecture, which all examples share."""
    return {architecture: tmp_path_factory.mktemp(architecture) for architecture in CONFIGS}


@pytest.mark.parametrize("architecture", ["llama", "qwen3", "gemma3_text", "phi3"])
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(random=st.data())
def test_configs_with_any_value_changed(small_model, directories, architecture, random):
    """A checkpoint that opens, or a ModelError, and neither takes long."""
    directory = directories[architecture]
    if not any(directory.iterdir()):
        small_model(architecture).rename(directory)
    key = random.draw(st.sampled_from([*sorted(CONFIGS[architecture]), "rope_scaling", "layer_types", "text_config"]))
    value = random.draw(JSON | st.sampled_from([0, -1, 10**9, 2**31, 2**63, 1e9, "9" * 9]))
    (directory / "config.json").write_text(json.dumps(CONFIGS[architecture] | {key: value}))
    with contextlib.suppress(ModelError):
        open_model(directory)
