"""What formats that are folders share: reading, checking and what other files say; and safetensors as they are."""

import json

import ml_dtypes
import numpy as np
import pytest
from candidate_folders import BESIDE, CONFIG, write_candidate, write_folder

from pytest_quantbench.catalog.models import TINY_DIRECTORY
from pytest_quantbench.checkpoints.formats import every, open_candidate
from pytest_quantbench.checkpoints.formats.folder import Folder, base_model_of, is_finite, quantization_of
from pytest_quantbench.checkpoints.formats.plain import Plain
from pytest_quantbench.checkpoints.formats.protocol import bits_per_weight
from pytest_quantbench.errors import ModelError


def test_the_embedded_model_is_plain():
    holding = open_candidate(TINY_DIRECTORY)
    assert (holding.format, holding.naming) == ("plain", "published")
    assert [file.name for file in holding.files] == ["model.safetensors"]
    assert {tensor.kind for tensor in holding.stored()} == {"BF16"}
    assert bits_per_weight(holding.stored()) == 16
    assert holding.claims().config == json.loads((TINY_DIRECTORY / "config.json").read_text())


@pytest.mark.parametrize("dtype", [np.float16, np.float32, ml_dtypes.bfloat16])
def test_a_tensor_is_what_it_was(tmp_path, dtype):
    array = np.arange(12).reshape(3, 4).astype(dtype)
    holding = open_candidate(write_candidate(tmp_path, {"a.weight": array, "b": array[0]}))
    held = holding.tensor("a.weight")
    assert (held.shape, held.stored_bytes, held.codec) == ((3, 4), array.nbytes, None)
    np.testing.assert_array_equal(held.read()["weight"], array, strict=True)
    assert holding.tensor("c") is None
    assert holding.left_over(["a.weight", "c"]) == ["b"]


@pytest.mark.parametrize("dtype", [np.int8, np.uint32, ml_dtypes.float8_e4m3fn, np.bool_])
def test_other_types_are_no_weights_of_a_plain_model(tmp_path, dtype):
    holding = open_candidate(write_candidate(tmp_path, {"a": np.ones(3, dtype)}))
    with pytest.raises(ModelError, match=r"model\.safetensors: 'a' is .* and F16 or BF16 or F32 is needed"):
        holding.tensor("a")


def test_bits_count_what_is_encoded_alone(tmp_path):
    # 4 × 8 words, 4 × 2 scales and as many biases in 16 bits, for 256 weights
    holding = open_candidate(write_folder(tmp_path, "mlx affine"))
    assert bits_per_weight(holding.stored()) == 8 * (128 + 16 + 16) / 256


def test_tensors_of_several_files_are_read_from_where_they_lie(tmp_path):
    write_candidate(tmp_path, {"a": np.full(2, 1, np.float16)})
    (tmp_path / "model.safetensors").rename(tmp_path / "model-1.safetensors")
    write_candidate(tmp_path, {"b": np.full(2, 2, np.float16)})
    (tmp_path / "model.safetensors").rename(tmp_path / "model-2.safetensors")
    folder = Folder(tmp_path)
    assert {name: array.tolist() for name, array in folder.read(["b", "a"]).items()} == {"a": [1, 1], "b": [2, 2]}
    assert folder.file_of("b").name == "model-2.safetensors"
    assert folder.stored_bytes(["a", "b"]) == 8


def test_a_tensor_that_is_missing_or_other_than_expected_is_named(tmp_path):
    folder = Folder(write_candidate(tmp_path, {"a": np.ones((2, 3), np.float16)}))
    assert folder.expect("a", dtypes=("F32", "F16"), shape=(2, 3)).dtype == "F16"
    with pytest.raises(ModelError, match="lacks 'b'"):
        folder.expect("b", dtypes=("F16",))
    with pytest.raises(ModelError, match=r"rs: 'a' is F16 of shape \(2, 3\), and F16 of shape \(3, 2\) is needed"):
        folder.expect("a", dtypes=("F16",), shape=(3, 2))


def cast(values, dtype):
    with np.errstate(all="ignore"):
        return np.array(values, np.float32).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, ml_dtypes.bfloat16, "float8_e5m2", "float8_e4m3fn"])
def test_what_is_finite(dtype):
    dtype = np.dtype(dtype if not isinstance(dtype, str) else getattr(ml_dtypes, dtype))
    codes = np.arange(2 ** (8 * min(dtype.itemsize, 2)), dtype=np.uint8 if dtype.itemsize == 1 else np.uint16)
    values = codes.view(dtype) if dtype.itemsize < 4 else cast([0, 1, np.nan, np.inf, -np.inf, 3e38, 1e-45], dtype)
    for value in values:
        with np.errstate(invalid="ignore"):
            assert is_finite(value.reshape(1)) == bool(np.isfinite(np.float32(value)))


def test_powers_of_two_end_with_one_that_is_no_number():
    powers = np.arange(256, dtype=np.uint8).view(ml_dtypes.float8_e8m0fnu)
    assert is_finite(powers[:255])
    assert not is_finite(powers[255:])
    assert is_finite(np.array([255], np.uint8))  # whole numbers are what they are


@pytest.mark.parametrize(
    ("config", "found"),
    [
        ({}, {}),
        ({"quantization": {}, "quantization_config": {"a": 1}}, {"a": 1}),
        ({"quantization": {"b": 1}, "quantization_config": {"a": 1}}, {"b": 1}),
        ({"quantization": 4, "compression_config": {"c": 1}}, {"c": 1}),
        ({"quantization_config": ["gptq"]}, {}),
    ],
)
def test_where_quantization_is_spoken_of(tmp_path, config, found):
    assert quantization_of(write_candidate(tmp_path, BESIDE, config=config)) == found
    assert quantization_of(tmp_path / "model.safetensors") == {}
    assert Plain().recognizes(tmp_path) == (not found)


@pytest.mark.parametrize(
    ("card", "base"),
    [
        ("---\nbase_model: a/b\n---\n# b\n", "a/b"),
        ("---\nlicense: mit\nbase_model:\n- a/b\n- c/d\n---\n", "a/b"),
        ("---\nbase_model: [1]\n---\n", None),
        ("---\nbase_model: {a: b}\n---\n", None),
        ("---\n- a\n---\n", None),
        ("---\nbase_model: [\n---\n", None),
        ("---\nbase_model: a/b\n", None),
        ("# b\nbase_model: a/b\n", None),
        ("---\na: !!python/object/apply:os.system ['exit 1']\n---\n", None),
        ("", None),
    ],
)
def test_the_original_that_a_card_names(tmp_path, card, base):
    (tmp_path / "README.md").write_text(card)
    assert base_model_of(tmp_path) == base
    (tmp_path / "README.md").write_bytes(b"\xff" + card.encode())
    assert base_model_of(tmp_path) is None
    (tmp_path / "README.md").unlink()
    assert base_model_of(tmp_path) is None


def test_what_the_other_files_say(tmp_path):
    write_folder(tmp_path, "fp8")
    assert (open_candidate(tmp_path).claims().config, open_candidate(tmp_path).claims().generation) == (CONFIG, {})
    (tmp_path / "generation_config.json").write_text('{"temperature": 0.6}')
    (tmp_path / "README.md").write_text("---\nbase_model: a/b\n---\n")
    claims = open_candidate(tmp_path).claims()
    assert (claims.base_model, claims.generation) == ("a/b", {"temperature": 0.6})
    (tmp_path / "generation_config.json").write_text("[]")
    with pytest.raises(ModelError, match=r"generation_config\.json holds no table"):
        open_candidate(tmp_path).claims()


def test_nothing_there_and_nothing_known(tmp_path):
    with pytest.raises(ModelError, match="there is no such file or directory"):
        open_candidate(tmp_path / "nowhere")
    with pytest.raises(ModelError, match=r"is in no format that is read here\. These are: .*safetensors in BF16"):
        open_candidate(tmp_path)
    (tmp_path / "config.json").mkdir()
    with pytest.raises(ModelError, match="is in no format that is read here"):
        open_candidate(tmp_path)


def test_formats_have_names_of_their_own():
    names = [each.name for each in every()]
    assert len(set(names)) == len(names)
    assert {"plain", "mlx", "compressed-tensors", "fp8"} <= set(names)
    assert all(each.what for each in every())
