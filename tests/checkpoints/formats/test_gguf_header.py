"""Headers: as the `gguf` package reads them, and what is wrong with those that cannot be true."""

import struct
import time
import tracemalloc

import gguf
import numpy as np
import pytest
from gguf_models import header, padded, text, value, write

from pytest_quantbench.checkpoints.formats.gguf_cursor import MOST_DEPTH, MOST_HEADER_BYTES
from pytest_quantbench.checkpoints.formats.gguf_header import MOST_KEYS, MOST_TENSORS, read_header
from pytest_quantbench.errors import ModelError

EVERY = [
    ("a.u8", "u8", 255),
    ("a.i8", "i8", -128),
    ("a.u16", "u16", 65535),
    ("a.i16", "i16", -3),
    ("a.u32", "u32", 2**32 - 1),
    ("a.i32", "i32", -(2**31)),
    ("a.f32", "f32", 0.5),
    ("a.bool", "bool", 1),
    ("a.text", "text", "ÿ 猫\0"),
    ("a.u64", "u64", 2**64 - 1),
    ("a.i64", "i64", -(2**63)),
    ("a.f64", "f64", 0.1),
    ("a.texts", "[text]", ["", "b", "猫"]),
    ("a.numbers", "[i32]", [1, -2, 3]),
    ("a.bools", "[bool]", [0, 1]),
    ("a.none", "[f32]", []),
    ("a.nested", "[[u8]]", [[1, 2], [], [3]]),
]


def of(values):
    return {key: each.tolist() if isinstance(each, np.ndarray) else each for key, each in values.items()}


def test_every_type_of_value(tmp_path):
    (tmp_path / "x.gguf").write_bytes(padded(header(EVERY)))
    found = read_header(tmp_path / "x.gguf")
    wanted = {key: content for key, kind, content in EVERY} | {"a.bool": True, "a.bools": [False, True]}
    assert {
        key: list(map(of_array, each)) if key == "a.nested" else each for key, each in of(found.values).items()
    } == wanted
    assert found.tensors == {}


def of_array(array):
    return array.tolist()


def same_as_the_package(file):
    reader, found = gguf.GGUFReader(file), read_header(file)
    theirs = {key: field.contents() for key, field in reader.fields.items() if not key.startswith("GGUF.")}
    assert of(found.values) == theirs
    tensors = {
        each.name: (each.tensor_type.name, tuple(map(int, each.shape[::-1])), each.data_offset, each.n_bytes)
        for each in reader.tensors
    }
    assert {n: (t.kind, t.shape, t.offset, t.stored_bytes) for n, t in found.tensors.items()} == tensors


def test_as_the_package_reads_what_it_writes(tmp_path):
    writer = gguf.GGUFWriter(tmp_path / "x.gguf", "llama")
    writer.add_block_count(3)
    writer.add_token_list(["a", "b", "ĉ"])
    writer.add_token_scores([0.5, -1.0, 3.25])
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_add_bos_token(True)
    for name, kind in (("token_embd.weight", "Q4_0"), ("output.weight", "Q8_0"), ("output_norm.weight", "F32")):
        number = gguf.GGMLQuantizationType[kind]
        content = np.ones((3, 64), np.float32)
        writer.add_tensor(name, gguf.quantize(content, number), raw_dtype=number)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    same_as_the_package(tmp_path / "x.gguf")


def test_as_the_package_reads_a_published_file(smollm2):
    same_as_the_package(smollm2)


def test_a_vocabulary_of_150_000_texts_takes_little_time(tmp_path):
    texts = [f"token {number}" for number in range(150_000)]
    (tmp_path / "x.gguf").write_bytes(padded(header([("tokenizer.ggml.tokens", "[text]", texts)])))
    start = time.perf_counter()
    assert read_header(tmp_path / "x.gguf").values["tokenizer.ggml.tokens"] == texts
    assert time.perf_counter() - start < 1


ONE = ("a", (32, 2), 8, 0)  # Q8_0: 68 bytes
NESTED = struct.pack("<IQ", 9, 1) * MOST_DEPTH + struct.pack("<IQ", 0, 0)
FALSE = {
    "empty": (b"", "does not begin as a GGUF file does"),
    "magic": (header(magic=b"FUGG"), "does not begin as a GGUF file does"),
    "cut at once": (b"GGUF", "the version should take 4 bytes"),
    "version 1": (header(version=1), r"of version 1 of GGUF. Versions that are read: \(2, 3\)"),
    "big-endian": (b"GGUF" + struct.pack(">I", 3) + bytes(16), "is a big-endian GGUF file"),
    "keys": (header(counts=(0, 2**60)), f"says that it has {2**60} keys, and {MOST_KEYS} are the most"),
    "tensors": (header(counts=(2**40, 0)), f"says that it has {2**40} tensors, and {MOST_TENSORS} are the most"),
    "keys that are not there": (header(counts=(0, 100)), "a list of 100 keys should take 1300 bytes"),
    "a text without end": (header([text("k") + struct.pack("<IQ", 8, 2**62)]), "the value of 'k' should take"),
    "a name without end": (header([struct.pack("<Q", 2**17) + bytes(99)]), "the name of key 0 should take 131072"),
    "an array without end": (header([text("k") + struct.pack("<IIQ", 9, 10, 2**61)]), "the value of 'k' should take"),
    "texts without end": (header([text("k") + struct.pack("<IIQ", 9, 8, 2**61)]), "the value of 'k' should take"),
    "not UTF-8": (header([("k", "text", b"ab\xff")]), "the value of 'k' is not UTF-8 .* at its byte 2"),
    "a name that is not UTF-8": (header([(b"\xfe", "u8", 1)]), "the name of key 0 is not UTF-8"),
    "a type that is none": (header([text("k") + struct.pack("<I", 13)]), "of type 13, which GGUF does not have"),
    "deep": (header([text("k") + struct.pack("<I", 9) + NESTED]), "an array in arrays that are 4 deep"),
    "a key twice": (header([("k", "u8", 1), ("k", "u8", 2)]), "has the key 'k' twice"),
    "alignment": (header([("general.alignment", "u32", 12)]), "general.alignment is 12, which is no power of two"),
    "alignment of nothing": (header([("general.alignment", "u32", 0)]), "general.alignment is 0"),
    "alignment in words": (header([("general.alignment", "text", "x")]), "general.alignment is 'x'"),
    "a tensor twice": (padded(header(tensors=[ONE, ONE])) + bytes(96), "has the tensor 'a' twice"),
    "dimensions": (header(tensors=[("a", (2, 2, 2, 2, 2), 0, 0)]), "'a' has 5 dimensions, and 4 are the most"),
    "no elements": (header(tensors=[("a", (0, 2), 0, 0)]), r"'a' has shape \[2, 0\]"),
    "2^60 elements": (header(tensors=[("a", (2**30, 2**30), 0, 0)]), f"takes {2**62} bytes"),
    "2^124 elements": (header(tensors=[("a", (2**62, 2**62), 0, 0)]), r"'a' has shape \["),
    "a type": (header(tensors=[("a", (32, 2), 77, 0)]), "holds 'a' in type 77, which is not known here: F32, F16"),
    "a type that is gone": (header(tensors=[("a", (32, 2), 4, 0)]), "in type 4"),
    "rows of half blocks": (header(tensors=[("a", (48, 2), 8, 0)]), r"shape \(2, 48\), and Q8_0 has .* blocks of 32"),
    "not aligned": (padded(header(tensors=[("a", (32, 2), 8, 8)])) + bytes(99), "which has to be a multiple of 32"),
    "behind the end": (padded(header(tensors=[("a", (32, 2), 8, 64)])) + bytes(99), "from 64 on.* the file has 99"),
    "an offset without end": (padded(header(tensors=[("a", (32, 2), 8, 2**64 - 32)])) + bytes(99), "the file has 99"),
    "cut": (padded(header(tensors=[ONE])) + bytes(67), "takes 68 bytes .* the file has 67"),
    "overlap": (padded(header(tensors=[ONE, ("b", (32, 2), 8, 32)])) + bytes(128), "'a' and 'b' overlap"),
    "the same place": (padded(header(tensors=[ONE, ("b", (32, 2), 8, 0)])) + bytes(128), "overlap"),
}


@pytest.mark.parametrize(("content", "told"), FALSE.values(), ids=FALSE)
def test_what_cannot_be_true_is_refused(tmp_path, content, told):
    (tmp_path / "x.gguf").write_bytes(content)
    tracemalloc.start()
    with pytest.raises(ModelError, match=rf"(?s)x\.gguf.*{told}"):
        read_header(tmp_path / "x.gguf")
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()


def test_a_sparse_file_of_a_tebibyte_with_an_array_of_half_of_it(tmp_path):
    with (tmp_path / "x.gguf").open("wb") as opened:
        opened.write(header([text("k") + struct.pack("<IIQ", 9, 10, 2**36)]))
        opened.truncate(2**40)
    tracemalloc.start()
    with pytest.raises(ModelError, match=rf"should take {2**39} bytes .* at most {MOST_HEADER_BYTES}"):
        read_header(tmp_path / "x.gguf")
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()


def test_no_file(tmp_path):
    with pytest.raises(ModelError, match=r"is not a file"):
        read_header(tmp_path)
    with pytest.raises(ModelError, match=r"is not a file"):
        read_header(tmp_path / "nothing")


def test_tensors_may_have_gaps_and_any_order(tmp_path):
    places = [("b", (32, 2), 8, 192), ONE]
    (tmp_path / "x.gguf").write_bytes(padded(header(tensors=places)) + bytes(300))
    found = read_header(tmp_path / "x.gguf").tensors
    assert {name: each.offset - found["a"].offset for name, each in found.items()} == {"b": 192, "a": 0}
    assert found["b"].shape == (2, 32)


def test_places_are_those_of_the_bytes(tmp_path):
    content = np.arange(12, dtype=np.float32).reshape(3, 4)
    places = write(tmp_path / "x.gguf", [], {"a": ("F32", content), "b": ("F32", -content)})
    assert {name: each.offset for name, each in read_header(tmp_path / "x.gguf").tensors.items()} == places
    assert value("u8", 7) == struct.pack("<IB", 0, 7)
