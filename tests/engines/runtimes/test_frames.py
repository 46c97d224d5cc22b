import struct
from contextlib import suppress

import hypothesis.extra.numpy as arrays
import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_quantbench.engines.runtimes import frames
from pytest_quantbench.engines.runtimes.frames import HEAD, Garbled, Message, lengths, packed, unpacked

VALUES = st.dictionaries(st.text(max_size=5).filter("arrays".__ne__), st.integers(-9, 9) | st.text() | st.booleans())
ARRAYS = st.dictionaries(
    st.text(max_size=5),
    st.sampled_from(frames.DTYPES).flatmap(
        lambda dtype: arrays.arrays(dtype, arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
    ),
    max_size=3,
)


def cut(frame):
    told, content = lengths(frame[: HEAD.size])
    assert len(frame) == HEAD.size + told + content
    return frame[HEAD.size : HEAD.size + told], frame[HEAD.size + told :]


@given(VALUES, ARRAYS)
def test_a_message_arrives_as_it_was_sent(values, held):
    found = unpacked(*cut(packed(Message(values=values, arrays=held))))
    assert found.values == values
    assert found.arrays.keys() == held.keys()
    for name, array in held.items():
        assert found.arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(found.arrays[name], array)


def test_arrays_in_any_order_of_memory_are_sent_in_rows():
    turned = np.arange(6, dtype=np.float32).reshape(2, 3).T
    found = unpacked(*cut(packed(Message(values={}, arrays={"turned": turned}))))
    np.testing.assert_array_equal(found.arrays["turned"], turned)


def test_only_plain_numbers_are_sent():
    with pytest.raises(ValueError, match="things is of type object"):
        packed(Message(values={}, arrays={"things": np.array([{}], object)}))


@pytest.mark.parametrize(
    ("head", "why"),
    [
        (b"llama_model_load"[: HEAD.size].ljust(HEAD.size), "it begins with"),
        (struct.pack("<4sIQ", frames.MAGIC, frames.MOST_TOLD + 1, 0), "it claims"),
        (struct.pack("<4sIQ", frames.MAGIC, 0, frames.MOST_ARRAYS + 1), "it claims"),
    ],
)
def test_what_is_no_frame_is_known_by_its_head(head, why):
    with pytest.raises(Garbled, match=why):
        lengths(head)


@pytest.mark.parametrize(
    ("listed", "content", "why"),
    [
        ([{"name": "a", "dtype": "object", "shape": [1]}], bytes(8), "object array"),
        ([{"name": "a", "dtype": "float32", "shape": [-1]}], bytes(4), r"shape \[-1\]"),
        ([{"name": "a", "dtype": "float32", "shape": [2]}], bytes(4), "longer than what follows"),
        ([{"name": "a", "dtype": "float32", "shape": [2**62, 2**62]}], bytes(4), "longer than what follows"),
        ([{"name": "a", "dtype": "float32", "shape": [1]}], bytes(5), "1 bytes belong to no array"),
        ([{"name": "a", "dtype": "float32"}], b"", "shape"),
        ("none", b"", "Expected `array`"),
    ],
)
def test_arrays_that_cannot_be_are_refused(listed, content, why):
    with pytest.raises(Garbled, match=why):
        unpacked(msgspec.json.encode({"arrays": listed}), content)


@given(st.binary(max_size=60), st.binary(max_size=20))
def test_any_bytes_are_a_message_or_garbled(told, content):
    with suppress(Garbled):
        assert isinstance(unpacked(told, content), Message)
