"""Random and mutated GGUF files: what the `gguf` package reads too, or a ModelError. No more, and of few bytes."""

import contextlib
import tracemalloc

import gguf
import numpy as np
import pytest
from gguf_models import header, padded, quantized, write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_quantbench.checkpoints.formats import open_candidate
from pytest_quantbench.checkpoints.formats.gguf_header import read_header
from pytest_quantbench.errors import ModelError, WeightError

FUZZ = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
MOST_BYTES = 8_000_000  # a chunk of the file, twice, and what is made of it
KEYS = [
    ("general.architecture", "text", "llama"),
    ("llama.block_count", "u32", 1),
    ("llama.attention.head_count", "u32", 2),
    ("llama.rope.freq_base", "f32", 500.0),
    ("tokenizer.ggml.tokens", "[text]", ["a", "bc", "", "d"]),
    ("tokenizer.ggml.scores", "[f32]", [0.5, 1.5, 0, 2]),
    ("nested", "[[u8]]", [[1], [2, 3]]),
]
NAMES = ("model.embed_tokens.weight", "model.layers.0.self_attn.q_proj.weight", "model.norm.weight")
NUMBER = st.sampled_from([0, 1, 2, 8, 9, 31, 2**16, 2**31, 2**32 - 1]) | st.integers(0, 2**32 - 1)
TENSOR = st.tuples(
    st.text(max_size=4),
    st.lists(st.sampled_from([0, 1, 2, 32, 64, 256, 2**60]), max_size=5),
    st.integers(0, 45),
    NUMBER,
)
KEY = st.tuples(st.text(max_size=4), st.sampled_from(["u8", "bool"]), st.integers(0, 1)) | st.tuples(
    st.text(max_size=4), st.just("[text]"), st.lists(st.text(max_size=3), max_size=3)
)


@pytest.fixture(scope="module")
def valid(tmp_path_factory):
    file = tmp_path_factory.mktemp("valid") / "x.gguf"
    matrix = np.arange(6 * 32, dtype=np.float32).reshape(6, 32)
    tensors = {"token_embd.weight": quantized(matrix, "Q8_0"), "blk.0.attn_q.weight": quantized(matrix[:4], "Q4_0")}
    write(file, KEYS, tensors | {"output_norm.weight": ("F32", np.ones(4, np.float32))})
    return file.read_bytes()


def as_the_package_reads(file):
    return {
        each.name: (each.tensor_type.name, tuple(map(int, each.shape[::-1])), each.data_offset, each.n_bytes)
        for each in gguf.GGUFReader(file).tensors
    }


def read(file):
    """{name: (type, shape, place, bytes)} or the ModelError."""
    try:
        return {
            each.name: (each.kind, each.shape, each.offset, each.stored_bytes)
            for each in read_header(file).tensors.values()
        }
    except ModelError as error:
        return error


def check(file, content):
    """Ours reads no more than the package does, and the same; whatever it refuses is a ModelError of few bytes."""
    file.write_bytes(content)
    tracemalloc.start()
    found = read(file)
    most_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most_bytes < MOST_BYTES
    if isinstance(found, ModelError):
        assert file.name in str(found)
        assert len(str(found)) < 1000
        return
    if all(shape for _, shape, _, _ in found.values()):  # the package knows no single numbers
        assert found == as_the_package_reads(file)
    use(file)


def use(file):
    """Everything that a file that opens is asked for: an answer, or an error that says what is wrong."""
    with contextlib.suppress(ModelError, WeightError):
        holding = open_candidate(file)
        holding.left_over(NAMES)
        for held in (*map(holding.tensor, NAMES), *holding.stored()):
            with contextlib.suppress(ModelError, WeightError):
                if held is not None:
                    arrays = held.read()
                    values = arrays["weight"] if held.codec is None else held.codec.decode(arrays)
                    assert np.isfinite(values.astype(np.float32)).all()
        holding.claims()


@FUZZ
@given(content=st.binary(max_size=200))
def test_random_bytes(tmp_path, content):
    check(tmp_path / "x.gguf", content)


@FUZZ
@given(content=st.binary(max_size=200), tensors=st.integers(0, 3), keys=st.integers(0, 3))
def test_random_bytes_behind_a_beginning(tmp_path, content, tensors, keys):
    check(tmp_path / "x.gguf", header(counts=(tensors, keys)) + content)


@FUZZ
@given(keys=st.lists(KEY, max_size=3), tensors=st.lists(TENSOR, max_size=3), room=st.integers(0, 4096))
def test_headers_of_the_right_form(tmp_path, keys, tensors, room):
    check(tmp_path / "x.gguf", padded(header(keys, tensors)) + bytes(room))


@FUZZ
@given(random=st.data())
def test_mutated_files(tmp_path, valid, random):
    """Bytes flipped, ends cut off, pieces of the file put elsewhere in it."""
    content = bytearray(valid)
    place = st.integers(0, len(valid))
    for _ in range(random.draw(st.integers(1, 4))):
        start, end = sorted((random.draw(place), random.draw(place)))
        if random.draw(st.booleans()):
            content[start % len(valid) : start % len(valid) + 1] = bytes([random.draw(st.integers(0, 255))])
        else:
            content[random.draw(place) : random.draw(place)] = valid[start : min(end, start + 64)]
    check(tmp_path / "x.gguf", bytes(content[: random.draw(st.integers(0, len(content)) | st.just(len(content)))]))


def test_every_single_byte_of_a_header(tmp_path, valid):
    end = valid.index(b"output_norm.weight") + 50
    for place in range(end):
        for change in (1, 2, 32, 128):
            check(tmp_path / "x.gguf", valid[:place] + bytes([valid[place] ^ change]) + valid[place + 1 :])


def test_every_length(tmp_path, valid):
    for kept in range(0, len(valid), 3):
        check(tmp_path / "x.gguf", valid[:kept])
