import json

import ml_dtypes
import numpy as np
import pytest

from pytest_quantbench.checkpoints.shards import INDEX, read_index, read_weights
from pytest_quantbench.checkpoints.tensor_file import load
from pytest_quantbench.compress.exports.safetensors_files import SafetensorsFiles


def arrays(count):
    generator = np.random.default_rng(0)
    kinds = (np.float32, np.float16, ml_dtypes.bfloat16, np.uint32, np.uint8)
    return {
        f"layer.{number}.weight": (100 * generator.random((number + 1, 3))).astype(kinds[number % len(kinds)])
        for number in range(count)
    }


def test_one_file_holds_what_was_added(tmp_path):
    held = arrays(7)
    files = SafetensorsFiles(tmp_path, list(held), "pt")
    for name, array in held.items():
        files.add(name, array)
    assert files.finish() == (tmp_path / "model.safetensors").stat().st_size
    assert [file.name for file in tmp_path.iterdir()] == ["model.safetensors"]
    found = load(tmp_path / "model.safetensors")
    assert found.keys() == held.keys()
    assert all(found[name].dtype == array.dtype and np.array_equal(found[name], array) for name, array in held.items())


def test_files_are_no_longer_than_they_may_be_and_the_index_names_them(tmp_path):
    held = {f"{place}": np.full(10, place, np.float32) for place in range(5)}
    held["large"] = np.zeros(40, np.float32)  # larger than a file may be: it has one of its own
    files = SafetensorsFiles(tmp_path, list(held), "mlx", most_bytes=100)
    for name, array in held.items():
        files.add(name, array)
    total = files.finish()
    weights = read_weights(tmp_path)  # which compares the index with the files
    assert [file.name for file in weights.files] == [f"model-0000{part}-of-00004.safetensors" for part in (1, 2, 3, 4)]
    assert set(read_index(tmp_path / INDEX)) == set(held)
    assert json.loads((tmp_path / INDEX).read_bytes())["metadata"]["total_size"] == 5 * 40 + 160
    assert total == sum(file.stat().st_size for file in weights.files)
    found = {name: array for file in weights.files for name, array in load(file).items()}
    assert all(np.array_equal(found[name], array) for name, array in held.items())


def test_rows_that_are_not_in_one_piece_are_written_as_they_are_seen(tmp_path):
    whole = np.arange(24, dtype=np.float32).reshape(4, 6)
    files = SafetensorsFiles(tmp_path, ["a", "b"], "pt")
    files.add("a", whole[:, ::2])
    files.add("b", whole.T)
    files.finish()
    found = load(tmp_path / "model.safetensors")
    assert np.array_equal(found["a"], whole[:, ::2])
    assert np.array_equal(found["b"], whole.T)


def test_a_tensor_that_was_not_announced_is_noticed(tmp_path):
    with SafetensorsFiles(tmp_path, [], "pt") as files:
        files.add("x" * 200, np.zeros(3, np.float32))
        with pytest.raises(AssertionError, match="not announced"):
            files.finish()
