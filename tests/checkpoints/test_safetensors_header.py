"""Headers of safetensors files, valid and not. Random ones are in tests/faults/test_fuzz.py."""

import json
import struct

import mlx.core as mx
import pytest

from pytest_quantbench.catalog.models import TINY_DIRECTORY
from pytest_quantbench.checkpoints.safetensors_header import (
    ALL_BYTES,
    DTYPE_BYTES,
    FLOAT8_BYTES,
    StoredTensor,
    read_header,
)
from pytest_quantbench.errors import ModelError

TENSOR = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.fixture
def written(tmp_path):
    """A file of this header (JSON, or text as it is) with so many bytes after it."""

    def write(header, room=0):
        text = header if isinstance(header, bytes) else json.dumps(header).encode()
        (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + bytes(room))
        return tmp_path / "model.safetensors"

    return write


def test_what_mlx_writes_is_read(tmp_path):
    arrays = {"a": mx.zeros((2, 3), mx.bfloat16), "b": mx.array(1.0), "c": mx.zeros((0, 4))}
    mx.save_safetensors(str(tmp_path / "x.safetensors"), arrays, metadata={"format": "mlx"})
    found = read_header(tmp_path / "x.safetensors")
    assert {name: (tensor.dtype, tensor.shape) for name, tensor in found.items()} == {
        "a": ("BF16", (2, 3)),
        "b": ("F32", ()),
        "c": ("F32", (0, 4)),
    }


def test_a_tensor_takes_as_many_bytes_as_its_type_and_shape_say(written):
    tensors = {"a": TENSOR, "b": {"dtype": "U8", "shape": [3, 1], "data_offsets": [8, 11]}}
    found = read_header(written(tensors, 11))
    assert found["b"] == StoredTensor(dtype="U8", shape=(3, 1))
    assert {name: tensor.stored_bytes for name, tensor in found.items()} == {"a": 8, "b": 3}


def test_the_embedded_model_is_read():
    assert len(read_header(TINY_DIRECTORY / "model.safetensors")) > 10


@pytest.mark.parametrize("dtype", DTYPE_BYTES)
def test_every_type_that_we_read_mlx_reads_with_as_many_bytes(written, dtype):
    file = written(
        {"a": {"dtype": dtype, "shape": [4], "data_offsets": [0, 4 * DTYPE_BYTES[dtype]]}}, 4 * DTYPE_BYTES[dtype]
    )
    assert read_header(file)["a"].dtype == dtype
    assert mx.load(str(file))["a"].nbytes == 4 * DTYPE_BYTES[dtype]


@pytest.mark.parametrize("dtype", FLOAT8_BYTES)
def test_numbers_of_eight_bits_are_read_by_who_takes_them(written, dtype):
    file = written({"a": {"dtype": dtype, "shape": [2, 3], "data_offsets": [0, 6]}}, 6)
    found = read_header(file, ALL_BYTES)["a"]
    assert (found, found.stored_bytes) == (StoredTensor(dtype=dtype, shape=(2, 3)), 6)
    with pytest.raises(ModelError, match=f"holds 'a' as '{dtype}'. Types that are read: BOOL"):
        read_header(file)


HUGE = {"dtype": "BF16", "shape": [2**30, 2**29], "data_offsets": [0, 2**60]}
UNLIKE = "invalid shape, data type, or offset for tensor"
NOT_COVERED = "file not fully covered"
# By what is wrong: the header, and what the sentence says of it, most of it in the safetensors library's words.
REFUSED = {
    "no header": (b"", "invalid JSON in header"),
    "a list": (b"[1]", "invalid JSON in header"),
    "not UTF-8": (b'{"\xff": 1}', "invalid UTF-8 in header"),
    "half a surrogate pair": (b'{"\\ud800": 1}', "invalid JSON in header"),
    "cut JSON": (b'{"a": {', "invalid JSON in header"),
    "a key twice": (b'{"a": {"dtype": "F32", "dtype": "F16"}}', "duplicate field `dtype`"),
    "a negative dimension": ({"a": TENSOR | {"shape": [-2]}}, "integer `-2`, expected usize"),
    "negative zero": (json.dumps({"a": TENSOR}).replace("[0", "[-0").encode(), "`-0.0`, expected usize"),
    "a thousand digits": (b'{"a": ' + b"9" * 1000 + b"}", "number out of range"),
    "two to the sixty bytes": ({"a": HUGE}, NOT_COVERED),
    "more than 32 bits": (
        {"a": TENSOR | {"shape": [2**31, 0], "data_offsets": [0, 0]}, "b": TENSOR},
        r"'a' has shape \[2147483648, 0\]",
    ),
    "dimensions": ({"a": TENSOR | {"shape": [1] * 8 + [2]}}, r"'a' has shape \[1, 1"),
    "more than 64 bits": (
        {"a": HUGE | {"shape": [2**30] * 3, "data_offsets": [0, 0]}},
        "overflow computing buffer size",
    ),
    "nothing of too many": ({"a": HUGE | {"shape": [2**30] * 3 + [0], "data_offsets": [0, 0]}}, "overflow computing"),
    "shape and bytes": ({"a": TENSOR | {"shape": [3]}}, UNLIKE),
    "backwards": ({"a": TENSOR | {"data_offsets": [8, 0]}}, "invalid offset for tensor `a`"),
    "beyond the file": ({"a": TENSOR | {"shape": [4], "data_offsets": [0, 16]}}, NOT_COVERED),
    "a gap before": ({"a": TENSOR | {"data_offsets": [8, 16]}}, "invalid offset for tensor `a`"),
    "the same place": ({"a": TENSOR, "b": TENSOR}, "invalid offset for tensor `[ab]`"),
    "overlap": ({"a": TENSOR, "b": TENSOR | {"data_offsets": [4, 12]}}, "invalid offset for tensor `b`"),
    "trailing bytes": ({"a": TENSOR | {"shape": [1], "data_offsets": [0, 4]}}, NOT_COVERED),
    "a fraction": ({"a": TENSOR | {"shape": [2.0]}}, "`2.0`, expected usize"),
    "true": ({"a": TENSOR | {"shape": [True]}}, "boolean `true`, expected usize"),
    "one offset": ({"a": TENSOR | {"data_offsets": [8]}}, "expected a tuple of size 2"),
    "no shape": ({"a": {"dtype": "F32", "data_offsets": [0, 8]}}, "missing field `shape`"),
    "no table": ({"a": [1]}, "invalid JSON in header"),
    "metadata of numbers": ({"a": TENSOR, "__metadata__": {"x": 1}}, "integer `1`, expected a string"),
    "an unknown type": ({"a": TENSOR | {"dtype": "F99"}}, "unknown variant `F99`"),
    "a type of eight bits": (
        {"a": TENSOR | {"dtype": "F8_E4M3", "shape": [8]}},
        "holds 'a' as 'F8_E4M3'. Types that are read: BOOL",
    ),
    "a list as a type": ({"a": TENSOR | {"dtype": ["F32"]}}, "invalid JSON in header"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_header_that_cannot_be_true_is_refused_by_name(written, name):
    header, message = REFUSED[name]
    with pytest.raises(ModelError, match=rf"model\.safetensors .*{message}"):
        read_header(written(header, 8))


TEXT = json.dumps(TENSOR)
OTHER = json.dumps(TENSOR | {"dtype": "I32", "shape": [2, 1]})


@pytest.mark.parametrize(
    "header",
    [
        f'{{"a": {OTHER}, "a": {TEXT}}}',
        f'{{"a": {TEXT}, "\\u0061": {OTHER}}}',
        f' {{"a": {TEXT}}}  ',
        f'{{"a": {TEXT[:-1]}, "device": "cuda"}}}}',
        f'{{"a": {TEXT}, "__metadata__": null}}',
    ],
)
def test_what_two_readers_could_take_for_different_things_mlx_takes_for_what_we_do(written, header):
    file = written(header.encode(), 8)
    read, loaded = read_header(file)["a"], mx.load(str(file))["a"]
    assert (loaded.shape, loaded.dtype) == (read.shape, {"F32": mx.float32, "I32": mx.int32}[read.dtype])


@pytest.mark.parametrize(
    "content", [b"", b"1234567", struct.pack("<Q", 3) + b"{}", struct.pack("<Q", 2**64 - 1) + b"{}"]
)
def test_a_length_that_cannot_be_true_is_refused(tmp_path, content):
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(ModelError, match=rf"x\.safetensors is truncated or corrupt: its header .* of {len(content)} "):
        read_header(tmp_path / "x.safetensors")


def test_a_header_of_more_than_the_hub_takes_is_not_read(written, monkeypatch):
    monkeypatch.setattr("pytest_quantbench.checkpoints.safetensors_header.MOST_HEADER_BYTES", 100)
    with pytest.raises(ModelError, match="at most 100"):
        read_header(written(b"{" + b" " * 100 + b"}"))


def test_what_is_said_fits_a_sentence(written):
    with pytest.raises(ModelError) as caught:
        read_header(written({"a" * 10_000: 1}))
    assert len(str(caught.value)) < 400


def test_a_folder_or_nothing_is_no_file(tmp_path):
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(ModelError, match="is not a file"):
            read_header(path)
