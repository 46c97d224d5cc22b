"""The encodings of a stack of matrices as one: what goes in comes out, and every method's experts decode alike."""

from dataclasses import dataclass

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_quantbench import quantizers
from pytest_quantbench.catalog.recipes import Part
from pytest_quantbench.errors import QuantbenchError
from pytest_quantbench.quantizers import PerToken, Statistics
from pytest_quantbench.quantizers.encoding import Encoding, join, split

METHODS = [name for name in quantizers.names() if name != "identity"]
DTYPES = (np.uint8, np.int32, np.float16)
arrays_of_one = st.dictionaries(
    st.sampled_from(["weight", "scales", "places"]),
    st.tuples(st.sampled_from(DTYPES), st.lists(st.integers(1, 3), min_size=1, max_size=2)),
    min_size=1,
)


@given(st.lists(arrays_of_one, min_size=1, max_size=4))
def test_what_is_joined_can_be_split(described):
    """Whatever the matrices' arrays have in common: names, shapes and types may all differ."""
    encodings = [
        {name: np.full(shape, number + 1, dtype) for name, (dtype, shape) in one.items()}
        for number, one in enumerate(described)
    ]
    joined = join(encodings)
    assert sum(array.nbytes for array in joined.values()) == sum(a.nbytes for one in encodings for a in one.values())
    for found, given_arrays in zip(split(joined, len(encodings)), encodings, strict=True):
        assert found.keys() == given_arrays.keys()
        for name, array in given_arrays.items():
            assert found[name].dtype == array.dtype
            np.testing.assert_array_equal(found[name], array)


def test_equal_arrays_are_one_array_and_others_carry_their_experts_number():
    joined = join([{"weight": np.zeros((2, 3)), "places": np.array([1])}, {"weight": np.ones((2, 3))}])
    assert {name: array.shape for name, array in joined.items()} == {"weight": (2, 2, 3), "places[0]": (1,)}


def statistics(seed, columns):
    inputs = np.random.default_rng(seed).normal(size=(4 * columns, columns)).astype(np.float32)
    return Statistics(hessian=inputs.T @ inputs / len(inputs), tokens=len(inputs), sample=inputs, peaks=inputs[:16])


def possible(method, bits):
    try:
        return quantizers.make(Part(quantizer=method, parameters={"bits": bits}))
    except QuantbenchError:
        return None


@pytest.mark.parametrize("method", METHODS)
def test_every_method_takes_experts_at_all_its_widths(method):
    """Decoding the stack gives each expert what decoding its own encoding gives, bit for bit; so do input rules."""
    codecs = [codec for bits in (8, 4, 3, 2) if (codec := possible(method, bits)) is not None]
    assert codecs
    stack = np.random.default_rng(0).standard_normal((3, 32, 64)).astype(ml_dtypes.bfloat16)
    stack[1, 3, 5] = 40.0  # an outlier, which some methods store apart
    for codec in codecs:
        each = [codec.encode(stack[k], statistics(k, 64) if codec.calibration != "none" else None, 0) for k in range(3)]
        encoding = Encoding(codec=codec, arrays=join(each), shape=(3, 32, 64))
        np.testing.assert_array_equal(encoding.dense(), np.stack([codec.decode(arrays) for arrays in each]))
        rules = encoding.inputs()
        assert (rules is not None) == (method in ("dynamic", "static"))
        if rules is not None:
            assert rules == tuple(codec.layer(arrays).input_rule for arrays in each)


def test_a_matrix_is_what_it_always_was():
    codec = quantizers.make(Part(quantizer="dynamic", parameters={"bits": 8}))
    arrays = codec.encode(np.random.default_rng(0).standard_normal((8, 64), np.float32), None, 0)
    encoding = Encoding(codec=codec, arrays=arrays, shape=(8, 64))
    assert encoding.matrices == [arrays]
    np.testing.assert_array_equal(encoding.dense(), codec.decode(arrays))
    assert encoding.inputs() == PerToken(bits=8)


@dataclass(frozen=True)
class Noted:
    """A method whose notes are told by an array."""

    name = "noted"
    calibration = "none"

    def note(self, weight_shape, arrays):
        assert weight_shape == (4, 8)
        return "odd" if arrays["mark"].item() % 2 else ""


def marked(*marks):
    arrays = join([{"mark": np.array([mark])} for mark in marks])
    return Encoding(codec=Noted(), arrays=arrays, shape=(len(marks), 4, 8))


def test_a_note_names_the_experts_that_it_is_of():
    assert marked(1, 1, 3).note() == "odd"
    assert marked(2, 4).note() == ""
    assert marked(2, 1, 4, 5).note() == "experts 1, 3: odd"
