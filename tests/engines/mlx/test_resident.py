"""The resident model with products in numpy: the numbers are those of the walk, quantized activations included."""

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from builders import open_model

from pytest_quantbench.bench.damage import DAMAGES
from pytest_quantbench.catalog.recipes import recipe
from pytest_quantbench.compress.artifact import Stored
from pytest_quantbench.compress.pipeline import compress
from pytest_quantbench.engines.mlx import resident
from pytest_quantbench.engines.mlx.engine import MlxEngine
from pytest_quantbench.engines.mlx.host_kernels import host_kernels, replaced
from pytest_quantbench.engines.mlx.host_products import HostEmbedding, HostLinear
from pytest_quantbench.engines.mlx.layers import RuledInputs
from pytest_quantbench.engines.mlx.opened_checkpoint import Opened
from pytest_quantbench.engines.mlx.walk import Walk


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "gemma3", "phi3"])
@pytest.mark.parametrize("recipe_id", ["bf16", "int4-rtn", "int2-rtn", "int8-dynamic"])
def test_on_the_host_it_agrees_with_the_walk(small_model, tmp_path, architecture, recipe_id):
    directory = small_model(architecture, intermediate_size=172)
    artifact = compress(open_model(directory), recipe(recipe_id), 0, tmp_path / "cache")
    loaded = resident.load(artifact, host=True)
    tokens = mx.array(np.random.default_rng(0).integers(0, 2048, (1, 12)))
    walk = Walk(artifact, host=True)
    walk.run([tokens], "")
    with replaced(host_kernels()):  # as answers are generated; rounded activations jump where a sum differs by a bit
        logits = np.array(loaded.model(tokens))
    np.testing.assert_allclose(logits, np.array(walk.head(0, slice(None))), atol=1e-4)
    assert loaded.host
    assert loaded.activations == "float32"
    assert (loaded.dense_layers > 0) == (recipe_id != "bf16")


@pytest.mark.parametrize("backend", ["cpu", "metal"])
def test_answers_are_written_in_the_type_that_walks_compute_in(small_model, tmp_path, monkeypatch, backend):
    artifact, mlx = compress(open_model(small_model()), recipe("int4-rtn"), 0, tmp_path / "cache"), MlxEngine()
    monkeypatch.setattr(resident, "backend", lambda: backend)
    found = [mlx.load(artifact, use).activations for use in ("timed", "answers", "rounded answers")]
    assert found == ["float32" if backend == "cpu" else "bfloat16", "float32", "bfloat16"]


@pytest.mark.parametrize(("recipe_id", "expected"), [("int4-rtn", HostLinear), ("int8-dynamic", RuledInputs)])
def test_on_the_host_no_dense_product_is_left_to_mlx(small_model, tmp_path, recipe_id, expected):
    artifact = compress(open_model(small_model("qwen2")), recipe(recipe_id), 0, tmp_path / "cache")
    leaves = [leaf for _, leaf in resident.load(artifact, host=True).model.named_modules()]
    assert not [leaf for leaf in leaves if isinstance(leaf, (nn.Linear, nn.Embedding, nn.QuantizedLinear))]
    assert any(isinstance(leaf, HostEmbedding) for leaf in leaves)
    assert sum(isinstance(leaf, expected) for leaf in leaves) == 3 * 7


@pytest.mark.parametrize("host", [False, True])
def test_a_reference_is_loaded_from_files_that_are_opened_once(small_model, tmp_path, monkeypatch, host):
    artifact = compress(open_model(small_model()), recipe("bf16"), 0, tmp_path / "cache")
    opened = counted(monkeypatch, Opened, "_read")
    resident.load(artifact, host=host)
    resident.load(artifact, host=host)
    assert len(opened) <= 2


@pytest.mark.parametrize("recipe_id", ["int4-rtn", "int3-kquant"])  # native layers, and decoded ones
def test_what_is_stored_is_read_once(small_model, tmp_path, monkeypatch, recipe_id):
    artifact = compress(open_model(small_model()), recipe(recipe_id), 0, tmp_path / "cache")
    asked = counted(monkeypatch, Stored, "arrays")
    loaded = resident.load(artifact)
    assert (loaded.dense_layers > 0) == (recipe_id == "int3-kquant")
    assert sorted(asked) == sorted(artifact.names)


@pytest.mark.parametrize("host", [False, True])
def test_a_layer_that_is_damaged_to_zeros_is_loaded_as_zeros(small_model, tmp_path, host):
    source = open_model(small_model())
    damaged = DAMAGES["one layer's weights zeroed"](compress(source, recipe("int4-rtn"), 0, tmp_path / "c"), source, 0)
    whole, hurt, _ = resident.load(damaged, host=host).model.layers
    assert mx.abs(outputs(whole.mlp)).max().item() > 0
    assert mx.abs(outputs(hurt.mlp)).max().item() == 0


def outputs(module):
    """What a module makes of ones."""
    return module(mx.ones((1, 1, 64)))


def counted(monkeypatch, owner, name):
    """The arguments of every call of a method, which goes on as it was."""
    calls, original = [], getattr(owner, name)
    monkeypatch.setattr(owner, name, lambda self, *given: calls.extend(given or [None]) or original(self, *given))
    return calls
