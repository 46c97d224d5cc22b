import json

import mlx.core as mx
import mlx_lm
import numpy as np
import pytest
from builders import engine

from pytest_quantbench.catalog.recipes import Part, recipe
from pytest_quantbench.compress.exports.mlx import Mlx, trial
from pytest_quantbench.errors import QuantbenchError

EXACT = ("int4-rtn", "int4-hqq", "int8", "int4", "int4-mxfp4", "int8-mxfp8", "int4-kquant", "bf16")


@pytest.mark.parametrize("recipe_id", EXACT)
def test_what_mlx_can_hold_is_read_again_to_the_last_bit(job, exported, read_again, differing, recipe_id):
    made = job(recipe_id)
    directory, written = exported(made, "mlx")
    assert differing(made.artifact, read_again(directory, made)) == []
    assert written.differences == written.details == ()
    assert written.stored_bytes == (directory / "model.safetensors").stat().st_size


@pytest.mark.parametrize("recipe_id", ["int4-rtn", "int8", "int4", "int4-mxfp4", "int4-kquant"])
def test_mlx_lm_opens_it_and_computes_what_a_walk_of_the_artifact_does(job, exported, recipe_id):
    made = job(recipe_id)
    directory, _ = exported(made, "mlx")
    model, tokenizer = mlx_lm.load(str(directory))
    assert mlx_lm.generate(model, tokenizer, "Tom lives in", max_tokens=3)
    tokens = mx.array(np.random.default_rng(0).integers(0, 2048, (2, 20)))
    model.set_dtype(mx.float32)
    expected, walk = np.array(model(tokens)), engine(host=True).walk([made.artifact])
    walk.run([tokens], "")
    assert np.abs(np.array(walk.head(0, slice(None))) - expected).max() < 1e-4 * np.abs(expected).max()


def test_every_layer_has_an_entry_as_its_own_codec_has_it(job, exported):
    directory, _ = exported(job("int8"), "mlx")
    table = json.loads((directory / "config.json").read_bytes())["quantization"]
    assert table["model.layers.0.mlp.down_proj"] == {"group_size": 128, "bits": 8}
    assert table["model.embed_tokens"] == {"group_size": 64, "bits": 8}
    assert {"group_size", "bits"} <= table.keys()


@pytest.mark.parametrize(
    ("recipe_id", "reason"),
    [
        ("int2", "aqlm's layer is no grid of codes and scales"),
        ("int4-awq", "awq's layer multiplies its inputs by scales"),
        ("int3", "milo's layer adds a low-rank product"),
        ("int4-nvfp4", "nvfp4's layer multiplies its outputs by a scale"),
        ("int4-q4_k_m", "kquant's layer is no grid of codes and scales"),
        ("int4-quip", "quip's layer"),
        ("int3-vptq", "vptq's layer is no grid of codes and scales"),
    ],
)
def test_what_it_cannot_hold_is_refused_before_anything_is_compressed(small_model, recipe_id, reason):
    from builders import open_model

    with pytest.raises(QuantbenchError, match=f"^{recipe_id} cannot be written as MLX: {reason}.*--to hf"):
        Mlx().check(recipe(recipe_id), open_model(small_model()))


@pytest.mark.parametrize("bits", [4, 8])
def test_methods_that_round_activations_are_refused(small_model, bits):
    from builders import open_model

    with pytest.raises(QuantbenchError, match="dynamic's layer"):
        Mlx().check(recipe(f"int{bits}-dynamic"), open_model(small_model()))


def test_rows_that_no_group_divides_are_refused_with_their_tensor(small_model, job, exported):
    made = job("int4-rtn", small_model(hidden_size=80))
    with pytest.raises(QuantbenchError, match=r"embed_tokens.weight cannot be written as MLX: .* rows of 80"):
        exported(made, "mlx")


def test_padding_behind_whole_groups_is_cut_off(small_model, job, exported, read_again, differing):
    """K-quants pad rows of 64 to 256."""
    made = job("int4-kquant", small_model())
    directory, _ = exported(made, "mlx")
    assert differing(made.artifact, read_again(directory, made)) == []


@pytest.mark.parametrize("recipe_id", ["int4-rtn", "int4"])
def test_stacks_of_experts_too(small_model, job, exported, read_again, differing, recipe_id):
    made = job(recipe_id, small_model("mixtral"))
    directory, _ = exported(made, "mlx")
    assert differing(made.artifact, read_again(directory, made)) == []
    model, _ = mlx_lm.load(str(directory))
    assert np.isfinite(np.array(model(mx.array([[1, 2, 3]])).astype(mx.float32))).all()


def test_a_trial_is_of_the_method_with_its_parameters():
    assert trial(Part(quantizer="rtn", parameters={"bits": 3, "group_size": 32})).grid.group == 32
    assert trial(Part(quantizer="kquant", parameters={"bits": 6})) is None


def test_single_weights_beside_the_grid_are_counted_and_measured(job, exported, read_again, monkeypatch):
    """Of int4's default, which keeps them where calibration shows any."""
    made, name = job("int4"), "model.layers.1.mlp.down_proj.weight"
    plain = made.artifact.arrays
    places = np.array([[3, 7], [250, 700]], np.int32)
    beside = {"super_places": places, "super_values": np.array([9.0, 0.01], np.float32)}
    monkeypatch.setattr(made.artifact, "arrays", lambda path: plain(path) | (beside if path == name else {}))
    directory, written = exported(made, "mlx")
    judged, held = made.artifact.float32(name), read_again(directory, made).float32(name)
    assert judged[3, 7] == 9
    changed = np.argwhere(judged != held)
    assert {tuple(place) for place in changed} <= {tuple(place) for place in places}
    assert 0 < held[3, 7] < 9
    (sentence,), (line,) = written.differences, written.details
    assert sentence.startswith("Single weights that lie beside the grid are the grid's nearest level in 1 tensor: ")
    assert line.startswith(f"{name} (2 weights): largest change {9 - held[3, 7]:.3g}, SNR ")
