import json
import logging
from dataclasses import replace

import mlx.core as mx
import mlx_lm
import numpy as np
import pytest
from builders import Device, open_model
from mlx.utils import tree_flatten
from small_models import CONFIGS, HEADS, shared

from pytest_quantbench.catalog.models import TINY_DIRECTORY
from pytest_quantbench.catalog.recipes import recipe
from pytest_quantbench.compress.artifact import Stored, open_artifact
from pytest_quantbench.compress.manifest import save_manifest
from pytest_quantbench.compress.pipeline import compress, key_of, reference
from pytest_quantbench.engines.mlx.engine import MlxEngine
from pytest_quantbench.engines.mlx.skeleton import skeleton
from pytest_quantbench.engines.mlx.walk import Walk
from pytest_quantbench.errors import DiskError, ModelError, QuantbenchError, WeightError
from pytest_quantbench.quantizers.rtn import Rtn
from pytest_quantbench.record.summary import compression


def make(directory, recipe_id, cache, seed=0):
    return compress(open_model(directory), recipe(recipe_id), seed, cache)


def files_in(cache):
    return sorted(str(path.relative_to(cache)) for path in cache.rglob("*") if path.is_file())


@pytest.mark.parametrize("architecture", CONFIGS)
def test_every_architecture_round_trips_and_mlx_lm_agrees(small_model, tmp_path, architecture):
    """The walk over the artifact and plain `mlx_lm.load` of the same directory give the same logits."""
    artifact = make(small_model(architecture), "int4-rtn", tmp_path / "cache")
    tokens = mx.array(np.random.default_rng(0).integers(0, 2048, (2, 20)))
    walk = Walk(artifact, host=True)
    walk.run([tokens], "")
    model, _ = mlx_lm.load(str(artifact.directory))
    model.set_dtype(mx.float32)
    expected = np.array(model(tokens))
    assert np.abs(np.array(walk.head(0, slice(None))) - expected).max() < 1e-4 * max(1, np.abs(expected).max())


def test_sizes_are_those_of_the_files(small_model, tmp_path):
    artifact = make(small_model(), "int4-rtn", tmp_path)
    on_disk = sum(file.stat().st_size for file in artifact.directory.glob("*.safetensors"))
    assert artifact.manifest.stored_bytes == on_disk
    assert sum(tensor.stored_bytes for tensor in artifact.manifest.tensors) < on_disk
    parameters = sum(array.size for _, array in tree_flatten(open_model(small_model("qwen2")).model.parameters()))
    assert make(tmp_path / "qwen2-0-0", "bf16", tmp_path).manifest.bf16_bytes == 2 * parameters


RULES = {"int4-rtn": False, "int3-kquant": False, "int8-dynamic": True}


@pytest.mark.parametrize(("recipe_id", "has_rules"), RULES.items())
def test_input_rules_are_read_where_the_method_has_some_and_nowhere_else(
    small_model, tmp_path, monkeypatch, recipe_id, has_rules
):
    artifact = make(small_model(), recipe_id, tmp_path / "cache")
    asked, arrays = [], Stored.arrays
    monkeypatch.setattr(Stored, "arrays", lambda self, name: asked.append(name) or arrays(self, name))
    with_rules = [name for name in artifact.names if artifact.inputs(name) is not None]
    assert asked == with_rules
    assert len(with_rules) == (3 * 7 if has_rules else 0)


def test_arrays_of_an_engine_come_to_the_host_by_the_engine(small_model, tmp_path):
    artifact = make(small_model(), "int4-rtn", tmp_path / "cache")
    expected = {name: artifact.float32(name) for name in artifact.names}
    artifact.decoder = Device()
    for name, values in expected.items():
        found = artifact.float32(name)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, values)


def test_an_engine_with_other_names_does_not_tell_mlx_lm_to_open_its_artifacts(small_model, tmp_path, monkeypatch):
    directory = small_model()
    mine = make(directory, "int4-rtn", tmp_path / "cache")
    monkeypatch.setattr(MlxEngine, "paths_are_mlx_lms", False)
    others = make(directory, "int4-rtn", tmp_path / "other")
    assert mine.manifest.opens_in_mlx_lm
    assert not others.manifest.opens_in_mlx_lm
    assert not make(directory, "bf16", tmp_path / "other").manifest.opens_in_mlx_lm
    (of_mine, of_others) = (json.loads((each.directory / "config.json").read_text()) for each in (mine, others))
    assert of_mine.pop("quantization")
    assert of_others == of_mine
    assert others.manifest.tensors == mine.manifest.tensors


def test_a_rule_that_a_walk_would_leave_out_is_refused(small_model, tmp_path):
    with pytest.raises(QuantbenchError, match="give it has_input_rule = True"):
        make(small_model(), "int4-bad_quantizers:QuietRule", tmp_path / "cache")


def test_every_tensor_is_encoded_or_kept_with_a_reason(small_model, tmp_path):
    manifest = make(small_model("qwen2"), "int3-rtn", tmp_path).manifest
    for tensor in manifest.tensors:
        assert (tensor.quantizer == "rtn") == (len(tensor.shape) == 2)
        assert tensor.quantizer or tensor.note
    kept = {tensor.name.rpartition(".")[2] for tensor in manifest.tensors if tensor.part == "kept"}
    assert kept == {"weight", "bias"}  # of norms, and of Qwen2's attention


def test_embeddings_and_head_have_their_own_part(small_model, tmp_path):
    artifact = make(small_model("llama"), "int2-rtn", tmp_path)
    parts = {tensor.name: tensor.part for tensor in artifact.manifest.tensors}
    assert parts["model.embed_tokens.weight"] == parts["lm_head.weight"] == "outer"
    assert artifact.quantizer("lm_head.weight") == Rtn(bits=4, group_size=64)
    assert artifact.quantizer("model.layers.0.mlp.up_proj.weight") == Rtn(bits=2)


def test_the_reference_is_the_checkpoint_itself(small_model, tmp_path):
    directory = small_model()
    artifact = make(directory, "bf16", tmp_path / "cache")
    assert artifact.directory is None
    assert files_in(tmp_path / "cache") == []
    for name in artifact.names:
        assert mx.array_equal(artifact.dense(name), open_model(directory).tensor(name))


def test_what_is_kept_of_deleted_weights_is_of_the_engine_that_kept_it(small_model, tmp_path, monkeypatch):
    """Another engine has other names: it looks at the weights itself."""
    source = open_model(small_model())
    mine = reference(source, recipe("bf16"), tmp_path).manifest
    theirs = replace(mine, seconds=1.0, versions={"python": "3", "jax": "1"})
    monkeypatch.setattr(type(source.checkpoint), "is_here", False)
    for kept, found in ((replace(mine, seconds=1.0), 1.0), (theirs, 0.0)):
        save_manifest(tmp_path, kept)
        assert reference(source, recipe("bf16"), tmp_path).manifest.seconds == found


def test_an_artifact_is_found_again_and_not_made_twice(small_model, tmp_path):
    first = make(small_model(), "int4-rtn", tmp_path / "cache")
    stamp = (first.directory / "manifest.json").stat().st_mtime_ns
    again = make(tmp_path / "llama-0-0", "int4-rtn", tmp_path / "cache")
    assert (again.directory / "manifest.json").stat().st_mtime_ns == stamp
    assert again.manifest == first.manifest


def test_the_key_depends_on_all_that_matters(small_model, monkeypatch):
    one, other = open_model(small_model()), open_model(small_model(seed=1))
    keys = {key_of(one, recipe(name), seed, None) for name in ("int4-rtn", "int3-rtn", "int2-rtn") for seed in (0, 1)}
    assert len(keys | {key_of(other, recipe("int4-rtn"), 0, None)}) == 7
    monkeypatch.setattr(type(one.engine), "version", "another engine's")
    assert key_of(one, recipe("int4-rtn"), 0, None) not in keys
    assert key_of(one, recipe("bf16"), 0, None) == one.checkpoint.sha256


def test_a_damaged_artifact_is_put_aside_and_made_again(small_model, tmp_path, caplog):
    artifact = make(small_model(), "int4-rtn", tmp_path / "cache")
    file = sorted(artifact.directory.glob("*.safetensors"))[1]
    good = file.read_bytes()
    file.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    with caplog.at_level(logging.WARNING):
        again = make(tmp_path / "llama-0-0", "int4-rtn", tmp_path / "cache")
    assert "was damaged" in caplog.text
    assert (again.directory / file.name).read_bytes() == good
    assert any(path.name.startswith("damaged-") for path in (tmp_path / "cache" / "artifacts").iterdir())


@pytest.mark.parametrize("content", ["", "{", "{}"])
def test_a_broken_manifest_is_put_aside(tmp_path, content):
    (tmp_path / "key").mkdir()
    (tmp_path / "key" / "manifest.json").write_text(content)
    assert open_artifact(tmp_path / "key") is None
    assert not (tmp_path / "key").exists()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_named(small_model, tmp_path, value):
    directory = small_model()
    weights = mx.load(str(directory / "model.safetensors"))
    weights["model.layers.1.self_attn.v_proj.weight"][3, 5] = value
    mx.save_safetensors(str(directory / "changed.safetensors"), weights)
    (directory / "changed.safetensors").rename(directory / "model.safetensors")
    with pytest.raises(WeightError, match=r"model\.layers\.1\.self_attn\.v_proj\.weight"):
        make(directory, "int4-rtn", tmp_path / "cache")


def test_what_cannot_be_encoded_leaves_nothing(small_model, tmp_path):
    test_weights_that_are_no_numbers_are_named(small_model, tmp_path, float("nan"))
    assert [file for file in files_in(tmp_path / "cache") if not file.startswith("locks/")] == []


def test_an_unwritable_cache_is_named(small_model, tmp_path):
    (tmp_path / "cache").write_text("a file, not a folder")
    with pytest.raises(DiskError, match="QUANTBENCH_CACHE"):
        make(small_model(), "int4-rtn", tmp_path / "cache")


def test_rows_that_no_group_divides_are_padded_and_the_manifest_says_so(small_model, tmp_path):
    artifact = make(small_model(intermediate_size=172), "int4-rtn", tmp_path / "cache")
    notes = {t.name: t.note for t in artifact.manifest.tensors if t.part == "inner" and t.note}
    assert set(notes) == {f"model.layers.{layer}.mlp.down_proj.weight" for layer in range(3)}
    assert set(notes.values()) == {"rows padded from 172 to 192"}
    assert not artifact.manifest.opens_in_mlx_lm
    assert "quantization" not in json.loads((artifact.directory / "config.json").read_text())


def test_experts_are_refused_and_not_passed_over(small_model, tmp_path):
    source = open_model(small_model())
    block = source.model.model.layers[0].mlp
    block.experts = mx.zeros((4, 128, 64))
    with pytest.raises(ModelError, match="no quantizer here takes"):
        compress(source, recipe("int4-rtn"), 0, tmp_path)


def test_calibrated_methods_are_refused_until_there_is_calibration(small_model, tmp_path):
    with pytest.raises(QuantbenchError, match="needs calibration"):
        make(small_model(), "int4-bad_quantizers:Uncalibrated", tmp_path)


def test_real_trained_weights_that_are_awkward_on_purpose(tmp_path):
    """stories260k: float32, rows of 64 and 172, head size 8."""
    directory = shared("stories260k")
    artifact = make(directory, "int4-rtn", tmp_path)
    assert artifact.manifest.source_dtype == "float32"
    assert {t.note for t in artifact.manifest.tensors if t.part == "inner"} == {"", "rows padded from 172 to 192"}
    walk = Walk(artifact, host=True)
    walk.run([mx.array([[1, 2, 3]])], "")
    assert np.isfinite(np.array(walk.head(0, slice(None)))).all()


def test_tiny_at_every_level(tmp_path):
    sizes = [
        make(TINY_DIRECTORY, level, tmp_path).manifest.stored_bytes
        for level in ("bf16", "int8-rtn", "int4-rtn", "int3-rtn")
    ]
    assert sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize("dtype", [mx.float32, mx.float16, mx.bfloat16])
def test_the_reference_has_the_size_of_bf16_whatever_the_source_stores(small_model, tmp_path, dtype):
    """A float32 source is no model twice as large: nothing is saved, and nothing added."""
    found = reference(open_model(small_model(dtype=dtype)), recipe("bf16"), tmp_path).manifest
    part = compression(found)
    assert (part.ratio, part.bits_per_weight, part.inner_bits_per_weight) == (1, 16, 16)
    assert found.stored_bytes == found.bf16_bytes == sum(tensor.stored_bytes for tensor in found.tensors)
    assert found.source_dtype == str(dtype).removeprefix("mlx.core.")


def test_parameters_that_are_one_number_are_kept(small_model, tmp_path):
    """Apertus has scalars of shape () in its activation."""
    config = CONFIGS["llama"] | {"model_type": "apertus", "qk_norm": True, "post_norm": False, "mlp_bias": False}
    config |= {"attention_bias": False, "rope_theta": 1e4}
    directory = tmp_path / "apertus"
    directory.mkdir()
    weights = dict(tree_flatten(skeleton(config, HEADS).parameters()))
    scalars = [name for name, array in weights.items() if array.shape == ()]
    assert scalars
    mx.save_safetensors(str(directory / "model.safetensors"), weights)
    (directory / "config.json").write_text(json.dumps(config))
    artifact = make(directory, "int4-rtn", tmp_path)
    assert {artifact.tensor(name).part for name in scalars} == {"kept"}
    assert all(artifact.dense(name).shape == () for name in scalars)
