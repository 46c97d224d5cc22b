"""Headers of safetensors files, valid and not. Random ones are in tests/faults/test_fuzz.py."""

import json
import struct

import mlx.core as mx
import pytest

from pytest_quantbench.catalog.models import TINY_DIRECTORY
from pytest_quantbench.checkpoints.safetensors_header import DTYPE_BYTES, StoredTensor, read_header
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


def test_places_are_counted_from_the_headers_end(written):
    tensors = {"a": TENSOR, "b": {"dtype": "U8", "shape": [3], "data_offsets": [8, 11]}}
    assert read_header(written(tensors, 11))["b"] == StoredTensor(dtype="U8", shape=(3,), begin=8, end=11)


def test_the_embedded_model_is_read():
    assert len(read_header(TINY_DIRECTORY / "model.safetensors")) > 10


@pytest.mark.parametrize("dtype", DTYPE_BYTES)
def test_every_type_that_we_read_mlx_reads_with_as_many_bytes(written, dtype):
    file = written(
        {"a": {"dtype": dtype, "shape": [4], "data_offsets": [0, 4 * DTYPE_BYTES[dtype]]}}, 4 * DTYPE_BYTES[dtype]
    )
    assert read_header(file)["a"].dtype == dtype
    assert mx.load(str(file))["a"].nbytes == 4 * DTYPE_BYTES[dtype]


HUGE = {"dtype": "BF16", "shape": [2**30, 2**29], "data_offsets": [0, 2**60]}
REFUSED = {
    "no header": (b"", "begins with b''"),
    "a list": (b"[1]", r"begins with b'\[1\]'"),
    "white space first": (b" {}", "begins with"),
    "not UTF-8": (b'{"\xff": 1}', "JSON cannot be read"),
    "half a surrogate pair": (b'{"\\ud800": 1}', "JSON cannot be read"),
    "cut JSON": (b'{"a": {', "JSON cannot be read"),
    "a name twice": (b'{"a": 1, "a": 2}', "'a' is there twice"),
    "a key twice": (b'{"a": {"dtype": "F32", "dtype": "F16"}}', "'dtype' is there twice"),
    "a negative dimension": ({"a": TENSOR | {"shape": [-2]}}, "-2 cannot be a size"),
    "negative zero": (json.dumps({"a": TENSOR}).replace("[0", "[-0").encode(), "-0 cannot be a size"),
    "a thousand digits": (b'{"a": ' + b"9" * 1000 + b"}", "9{40} cannot be a size"),
    "two to the sixty bytes": ({"a": HUGE}, r"its tensors take 1152921504606846976 bytes, and \d+ follow"),
    "more than 32 bits": ({"a": HUGE | {"shape": [2**31]}}, r"'a' has shape \[2147483648\]"),
    "dimensions": ({"a": TENSOR | {"shape": [1] * 9}}, r"'a' has shape \[1, 1"),
    "more than 64 bits": ({"a": HUGE | {"shape": [2**30] * 3, "data_offsets": [0, 0]}}, "'a' of shape .* takes"),
    "nothing of too many": (
        {"a": HUGE | {"shape": [2**30] * 3 + [0], "data_offsets": [0, 0]}},
        "'a' of shape .* takes 0",
    ),
    "shape and bytes": ({"a": TENSOR | {"shape": [3]}}, "takes 12 bytes as F32, and lies at"),
    "backwards": ({"a": TENSOR | {"data_offsets": [8, 0]}}, "lies at"),
    "beyond the file": ({"a": TENSOR | {"shape": [4], "data_offsets": [0, 16]}}, "take 16 bytes, and 8 follow"),
    "a gap before": ({"a": TENSOR | {"data_offsets": [8, 16]}}, "'a' begins at byte 8, and .* at 0"),
    "the same place": ({"a": TENSOR, "b": TENSOR}, "'b' begins at byte 0, and .* at 8"),
    "overlap": ({"a": TENSOR, "b": TENSOR | {"data_offsets": [4, 12]}}, "'b' begins at byte 4, and .* at 8"),
    "trailing bytes": ({"a": TENSOR | {"shape": [1], "data_offsets": [0, 4]}}, "take 4 bytes, and 8 follow"),
    "a fraction": ({"a": TENSOR | {"shape": [2.0]}}, r"'a' has shape \[2.0\]"),
    "true": ({"a": TENSOR | {"shape": [True]}}, r"'a' has shape \[True\]"),
    "one offset": ({"a": TENSOR | {"data_offsets": [8]}}, r"'a' lies at \[8\]"),
    "no shape": ({"a": {"dtype": "F32", "data_offsets": [0, 8]}}, "is not described by"),
    "a key more": ({"a": TENSOR | {"device": "cuda"}}, "is not described by"),
    "no table": ({"a": [1]}, "is not described by"),
    "metadata of numbers": ({"a": TENSOR, "__metadata__": {"x": 1}}, "__metadata__ is no table of strings"),
    "an unknown type": ({"a": TENSOR | {"dtype": "F99"}}, "holds 'a' as 'F99'. Types that are read: BOOL"),
    "a type of eight bits": ({"a": TENSOR | {"dtype": "F8_E4M3", "shape": [8]}}, "holds 'a' as 'F8_E4M3'"),
    "a list as a type": ({"a": TENSOR | {"dtype": ["F32"]}}, r"holds 'a' as \['F32'\]"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_header_that_cannot_be_true_is_refused_by_name(written, name):
    header, message = REFUSED[name]
    with pytest.raises(ModelError, match=rf"model\.safetensors .*{message}"):
        read_header(written(header, 8))


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
