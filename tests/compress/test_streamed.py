"""An artifact that is encoded as it is needed holds what one on disk holds, in whatever order it is asked."""

import json

import mlx.core as mx
import numpy as np
import pytest
from builders import open_model

from pytest_quantbench.catalog.models import TINY_DIRECTORY
from pytest_quantbench.catalog.recipes import recipe
from pytest_quantbench.compress.calibration import CalibrationSet
from pytest_quantbench.compress.encoder import Encoder
from pytest_quantbench.compress.manifest import load_manifest
from pytest_quantbench.compress.pipeline import compress
from pytest_quantbench.compress.streamed import Streamed
from pytest_quantbench.engines.mlx import resident
from pytest_quantbench.engines.mlx.walk import Walk
from pytest_quantbench.errors import WeightError
from pytest_quantbench.fetch.texts import Text

TEXT = Text(name="text", content=(TINY_DIRECTORY / "heldout.txt").read_text())
FITTED = [pytest.param(each, marks=pytest.mark.slow) for each in ("int4", "int4-static", "int2")]
RECIPES = ["int4-rtn", "int4-gptq", *FITTED]
GROUPS = 4  # of a model with three layers: what is outside of them, and each


def make(directory, recipe_id, cache, *, stored):
    def calibration():
        return CalibrationSet(text=TEXT, sequences=4)

    chosen = recipe(recipe_id)
    return compress(open_model(directory), chosen, 0, cache, calibration, stored=stored)


@pytest.fixture
def both(small_model, tmp_path):
    """A function that gives the artifact on disk and the one that is not."""
    directory = small_model(hidden_size=64)

    def opened(recipe_id):
        written = make(directory, recipe_id, tmp_path / "disk", stored=True)
        return written, make(directory, recipe_id, tmp_path / "none", stored=False)

    return opened


@pytest.fixture
def encoded(monkeypatch):
    """The groups that were encoded, in order."""
    seen = []
    original = Encoder.encode

    def counted(self, group):
        seen.append(group[0].group)
        return original(self, group)

    monkeypatch.setattr(Encoder, "encode", counted)
    return seen


def same_arrays(written, streamed, names):
    for name in names:
        mine, other = streamed.arrays(name), written.arrays(name)
        assert mine.keys() == other.keys()
        for array in other:
            assert mine[array].dtype == other[array].dtype
            assert np.array_equal(mine[array], other[array]), name
        assert streamed.tensor(name) == written.tensor(name)


@pytest.mark.parametrize("recipe_id", RECIPES)
def test_every_array_is_the_one_on_disk(both, recipe_id):
    written, streamed = both(recipe_id)
    assert isinstance(streamed, Streamed)
    assert streamed.names == written.names
    same_arrays(written, streamed, written.names)


@pytest.mark.parametrize("recipe_id", ["int4-rtn", "int4-gptq"])
def test_in_any_order(both, recipe_id):
    written, streamed = both(recipe_id)
    same_arrays(written, streamed, np.random.default_rng(0).permutation(written.names)[:12])


@pytest.mark.parametrize("recipe_id", RECIPES)
def test_walks_are_the_same_to_the_last_bit_and_encode_every_group_once(both, recipe_id, encoded):
    written, streamed = both(recipe_id)
    tokens = mx.array(np.random.default_rng(0).integers(0, 2048, (2, 20)))
    encoded.clear()
    logits = []
    for artifact in (written, streamed, streamed):
        walk = Walk(artifact, host=True)
        walk.run([tokens], "")
        logits.append((np.array(walk.head(0, slice(None))), walk.weights_sha256()))
    assert encoded == [-1, 0, 1, 2, 0, 1, 2]  # what is outside is kept
    for mine, digest in logits[1:]:
        np.testing.assert_array_equal(mine, logits[0][0])
        assert digest == logits[0][1]


def test_the_model_in_memory_is_the_same(both):
    written, streamed = both("int4-gptq")
    tokens = mx.array([[1, 2, 3]])
    answers = [np.array(resident.load(artifact).model(tokens)) for artifact in (written, streamed)]
    np.testing.assert_array_equal(*answers)


def test_the_manifest_says_the_same_but_for_headers_and_is_known_after_a_walk(both, encoded, tmp_path):
    written, streamed = both("int4-gptq")
    walk = Walk(streamed, host=True)
    walk.run([mx.array([[1, 2, 3]])], "")
    encoded.clear()
    mine, other = streamed.manifest, written.manifest
    assert encoded == []
    assert mine.tensors == other.tensors
    assert (mine.key, mine.bf16_bytes, mine.calibration) == (other.key, other.bf16_bytes, other.calibration)
    assert 0 < other.stored_bytes - mine.stored_bytes < 16_000
    assert mine.seconds > 0


def test_the_manifest_is_kept_and_a_damaged_one_made_again(small_model, tmp_path, encoded, caplog):
    directory = small_model()
    first = make(directory, "int4-rtn", tmp_path, stored=False).manifest
    assert len(encoded) == GROUPS
    assert make(directory, "int4-rtn", tmp_path, stored=False).manifest == first
    assert len(encoded) == GROUPS
    (path,) = (tmp_path / "manifests").iterdir()
    path.write_text(json.dumps(json.loads(path.read_text()) | {"stored_bytes": 1}))
    assert make(directory, "int4-rtn", tmp_path, stored=False).manifest.stored_bytes == first.stored_bytes
    assert len(encoded) == 2 * GROUPS
    assert "was damaged" in caplog.text


def test_a_manifest_under_another_key_is_none(small_model, tmp_path):
    directory = small_model()
    _ = make(directory, "int4-rtn", tmp_path, stored=False).manifest
    (path,) = (tmp_path / "manifests").iterdir()
    path.rename(path.with_name("other.json"))
    assert load_manifest(tmp_path, "other") is None
    assert load_manifest(tmp_path, path.stem) is None


def test_one_that_is_on_disk_is_used(small_model, tmp_path, encoded):
    directory = small_model()
    written = make(directory, "int4-rtn", tmp_path, stored=True)
    encoded.clear()
    assert make(directory, "int4-rtn", tmp_path, stored=False).directory == written.directory
    assert encoded == []


def test_nothing_is_written_but_locks_and_the_manifest(small_model, tmp_path):
    streamed = make(small_model(), "int4-gptq", tmp_path / "cache", stored=False)
    walk = Walk(streamed, host=True)
    walk.run([mx.array([[1, 2, 3]])], "")
    _ = streamed.manifest
    assert {path.name for path in (tmp_path / "cache").iterdir()} == {"locks", "manifests"}


def test_weights_that_are_no_numbers_are_named(small_model, tmp_path):
    directory = small_model()
    weights = mx.load(str(directory / "model.safetensors"))
    weights["model.layers.1.self_attn.v_proj.weight"][3, 5] = float("nan")
    mx.save_safetensors(str(directory / "changed.safetensors"), weights)
    (directory / "changed.safetensors").rename(directory / "model.safetensors")
    streamed = make(directory, "int4-rtn", tmp_path, stored=False)
    walk = Walk(streamed, host=True)
    with pytest.raises(WeightError, match=r"model\.layers\.1\.self_attn\.v_proj\.weight"):
        walk.run([mx.array([[1, 2, 3]])], "")
