"""Arrays go between numpy and PyTorch without a copy, of every type that weights are stored in."""

import ml_dtypes
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from pytest_quantbench.checkpoints.tensor_file import STORABLE, load
from pytest_quantbench.engines.torch.arrays import as_torch, save, to_numpy, to_torch
from pytest_quantbench.errors import QuantbenchError

PAIRS = {
    torch.float32: np.float32,
    torch.float16: np.float16,
    torch.bfloat16: ml_dtypes.bfloat16,
    torch.float8_e4m3fn: ml_dtypes.float8_e4m3fn,
    torch.float8_e5m2: ml_dtypes.float8_e5m2,
    torch.uint8: np.uint8,
    torch.int32: np.int32,
    torch.bool: np.bool_,
}
VALUES = [[0.0, 1.0, -2.5], [3.0, 0.125, 96.0]]


@pytest.mark.parametrize("dtype", PAIRS)
def test_values_and_types_are_the_same_on_both_sides_and_the_memory_too(dtype):
    tensor = torch.tensor(VALUES).abs().to(dtype)
    array = to_numpy(tensor)
    assert array.dtype == PAIRS[dtype]
    np.testing.assert_array_equal(array.astype(np.float32), tensor.float().numpy())
    assert array.ctypes.data == tensor.data_ptr()
    back = to_torch(array)
    assert back.dtype == dtype
    assert back.data_ptr() == tensor.data_ptr()
    assert as_torch(tensor) is tensor


def test_nobody_writes_into_what_pytorch_holds():
    with pytest.raises(ValueError, match="read-only"):
        to_numpy(torch.zeros(3))[0] = 1


@pytest.mark.parametrize("made", [lambda a: a[::-1], lambda a: a.T, lambda a: a[:, ::2], lambda a: a[0, 0]])
def test_views_and_single_numbers_arrive_as_they_are(made):
    array = made(np.array(VALUES, ml_dtypes.bfloat16))
    found = to_torch(np.asarray(array))
    assert tuple(found.shape) == array.shape
    np.testing.assert_array_equal(found.float().numpy(), np.asarray(array, np.float32))


def test_a_type_that_pytorch_does_not_have_is_refused():
    with pytest.raises(QuantbenchError, match="PyTorch has no type for an array of int4"):
        to_torch(np.zeros(3, ml_dtypes.int4))


def test_a_file_holds_what_it_was_given(tmp_path):
    arrays = {dtype.name: np.array(VALUES).astype(dtype) for dtype in STORABLE}
    arrays["again"] = arrays["float32"]  # the same memory under two names
    save(tmp_path / "x.safetensors", arrays)
    found = load(tmp_path / "x.safetensors")
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


def test_what_cannot_be_written_is_said(tmp_path):
    with pytest.raises(QuantbenchError, match="An array of float64 cannot be stored"):
        save(tmp_path / "x.safetensors", {"x": np.zeros(3)})
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="MB are free"):
        save(tmp_path / "file" / "x.safetensors", {"x": np.zeros(3, np.float32)})
