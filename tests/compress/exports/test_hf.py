import json

import ml_dtypes
import numpy as np
import pytest

from pytest_quantbench.checkpoints.shards import read_weights
from pytest_quantbench.checkpoints.tensor_file import load
from pytest_quantbench.compress.exports.hf import with_dtype
from pytest_quantbench.errors import ModelError


@pytest.mark.parametrize("recipe_id", ["int4", "int8", "int3-kquant", "bf16"])
def test_in_float32_it_is_read_again_to_the_last_bit(job, exported, read_again, differing, recipe_id):
    made = job(recipe_id, dtype="float32")
    directory, written = exported(made, "hf")
    assert differing(made.artifact, read_again(directory, made)) == []
    assert written.differences == ()


def test_bfloat16_rounds_to_nearest_and_says_by_how_much(job, exported):
    made = job("int4")
    directory, written = exported(made, "hf")
    held = load(directory / "model.safetensors")
    name = "model.layers.1.mlp.up_proj.weight"
    exact = made.artifact.float32(name)
    assert np.array_equal(held[name], exact.astype(ml_dtypes.bfloat16))
    largest = max(np.abs(array.astype(np.float32) - made.artifact.float32(path)).max() for path, array in held.items())
    assert written.differences[0].startswith("Rounding to bfloat16 changes decoded weights in 29 tensors: ")
    assert f"largest change {largest:.3g}," in written.differences[0]
    assert any(line.startswith(name) for line in written.details)


def test_of_the_reference_nothing_changes(job, exported):
    directory, written = exported(job("bf16"), "hf")
    assert written.differences == ()
    assert {str(array.dtype) for array in load(directory / "model.safetensors").values()} == {"bfloat16"}


def test_names_are_those_of_the_hub_and_experts_lie_apart(small_model, job, exported, read_again, differing):
    source = small_model("gemma3_text")
    made = job("int4-rtn", source, dtype="float32")
    directory, _ = exported(made, "hf")
    assert read_weights(directory).tensors.keys() == read_weights(source).tensors.keys()
    assert differing(made.artifact, read_again(directory, made)) == []


def test_what_is_published_turned_is_written_turned(tmp_path, job, exported, read_again, differing):
    models = pytest.importorskip("transformers_models")
    models.save(tmp_path / "gpt2", models.SMALL["gpt2"], [[1, 2, 3]])
    made = job("int4-rtn", tmp_path / "gpt2", dtype="float32")
    assert "turned" in {made.source.origin(path).form for path in made.source.names}
    directory, _ = exported(made, "hf")
    shapes = {name: tensor.shape for name, tensor in read_weights(directory).tensors.items()}
    assert shapes == {name: tensor.shape for name, tensor in read_weights(tmp_path / "gpt2").tensors.items()}
    assert differing(made.artifact, read_again(directory, made)) == []


def test_a_parameter_that_is_put_together_is_refused(small_model, job, monkeypatch, exported):
    from pytest_quantbench.engines.parameters import Origin

    made = job("int4-rtn", small_model())
    monkeypatch.setattr(type(made.source), "origin", lambda self, path: Origin(form="made", sources=("a", "b")))
    with pytest.raises(ModelError, match="is put together of a, b"):
        exported(made, "hf")


def test_transformers_computes_what_a_walk_of_the_artifact_does(job, exported):
    torch = pytest.importorskip("torch")
    import mlx.core as mx
    from builders import engine
    from transformers import AutoModelForCausalLM

    made = job("int4", dtype="float32")
    directory, _ = exported(made, "hf")
    model = AutoModelForCausalLM.from_pretrained(directory)
    assert model.dtype == torch.float32
    tokens = np.random.default_rng(0).integers(0, 2048, (2, 20))
    with torch.no_grad():
        expected = model(torch.tensor(tokens)).logits.numpy()
    walk = engine(host=True).walk([made.artifact])
    walk.run([mx.array(tokens)], "")
    assert np.abs(np.array(walk.head(0, slice(None))) - expected).max() < 1e-4 * np.abs(expected).max()


def test_what_a_method_does_to_activations_is_said_to_be_lost(job, exported):
    _, written = exported(job("int8-dynamic", dtype="float32"), "hf")
    assert written.differences == (
        "dynamic also rounds activations while the model runs, which decoded weights cannot hold: it is lost.",
    )


def test_the_config_says_the_type_where_it_said_one_before(job, exported):
    assert with_dtype({"dtype": "bfloat16"}, "float32") == {"dtype": "float32"}
    assert with_dtype({"a": 1}, "float32") == {"a": 1, "torch_dtype": "float32"}
    inner = {"text_config": {"torch_dtype": "float16", "b": 2}, "torch_dtype": "float16"}
    assert with_dtype(inner, "bfloat16") == {
        "text_config": {"torch_dtype": "bfloat16", "b": 2},
        "torch_dtype": "bfloat16",
    }
    directory, _ = exported(job("int4-rtn", dtype="float32"), "hf")
    assert json.loads((directory / "config.json").read_bytes())["dtype"] == "float32"
