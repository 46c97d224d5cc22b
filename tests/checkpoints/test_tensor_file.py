"""Arrays of every type out of a file, as MLX wrote them; and what is said of a file that has changed."""

import numpy as np
import pytest
from safetensors.numpy import save_file

from pytest_quantbench.checkpoints.safetensors_header import DTYPE_BYTES, FLOAT8_BYTES
from pytest_quantbench.checkpoints.tensor_file import FLOAT8, NUMPY, STORABLE, load, read
from pytest_quantbench.engines.mlx.arrays import save
from pytest_quantbench.errors import ModelError


def of_every_type():
    return {kind.name: np.arange(6).reshape(2, 3).astype(kind) for kind in STORABLE}


def test_every_type_that_headers_may_have_is_known():
    assert NUMPY.keys() == DTYPE_BYTES.keys()
    assert {name: np.dtype(kind).itemsize for name, kind in NUMPY.items()} == dict(DTYPE_BYTES)
    assert {name: np.dtype(kind).itemsize for name, kind in FLOAT8.items()} == dict(FLOAT8_BYTES)
    assert not STORABLE.intersection(map(np.dtype, FLOAT8.values()))


def test_what_is_saved_is_loaded(tmp_path):
    arrays = of_every_type()
    save(tmp_path / "a.safetensors", arrays)
    loaded = load(tmp_path / "a.safetensors")
    assert loaded.keys() == arrays.keys()
    for name, array in arrays.items():
        assert loaded[name].dtype == array.dtype
        np.testing.assert_array_equal(loaded[name], array)


def test_some_tensors_are_read_and_belong_to_who_asked(tmp_path):
    save(tmp_path / "a.safetensors", of_every_type())
    (found,) = read(tmp_path / "a.safetensors", ["float16"]).values()
    (tmp_path / "a.safetensors").write_bytes(b"")
    found += 1
    assert found.tolist() == [[1, 2, 3], [4, 5, 6]]


def test_a_file_that_is_cut_or_gone_is_said_by_name(tmp_path):
    file = tmp_path / "a.safetensors"
    save(file, of_every_type())
    file.write_bytes(file.read_bytes()[:-7])
    for names in (["float16"], ["nothing"]):
        with pytest.raises(ModelError, match=r"a\.safetensors cannot be read"):
            read(file, names)
    file.unlink()
    with pytest.raises(ModelError, match=r"a\.safetensors cannot be read"):
        read(file, ["float16"])


def test_numbers_of_eight_bits_are_read_from_between_others(tmp_path):
    file = tmp_path / "a.safetensors"
    arrays = {
        "z": np.arange(5, dtype=np.int16),
        "empty": np.zeros((0, 3), FLOAT8["F8_E5M2"]),
        "m": np.arange(1, 7).reshape(2, 3).astype(FLOAT8["F8_E4M3"]),
        "k": np.array(4, FLOAT8["F8_E8M0"]),
        "a": np.arange(3, dtype=np.float32),
    }
    save_file(arrays, file, metadata={"format": "pt"})
    found = read(file, ["a", "k", "m", "empty"])
    for name in ("a", "k", "m", "empty"):
        assert (found[name].dtype, found[name].shape) == (arrays[name].dtype, arrays[name].shape)
        np.testing.assert_array_equal(found[name].astype(np.float32), arrays[name].astype(np.float32))
    found["m"] += 1  # it is the caller's own


def test_a_file_that_is_cut_between_its_header_and_its_numbers(tmp_path, monkeypatch):
    file = tmp_path / "a.safetensors"
    save_file({"m": np.ones(9, FLOAT8["F8_E4M3"])}, file)
    monkeypatch.setattr("pytest_quantbench.checkpoints.tensor_file.data_start", lambda file: file.stat().st_size - 3)
    with pytest.raises(ModelError, match=r"a\.safetensors cannot be read: it was cut while it was read"):
        read(file, ["m"])
