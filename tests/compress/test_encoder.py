"""Encoding a mixture: every expert by itself, on its own tokens; the same bytes however it is done; and measured."""

import json

import mlx.core as mx
import numpy as np
import pytest
from builders import capacity, open_model
from small_models import MIXTURES

from pytest_quantbench import quantizers
from pytest_quantbench.catalog.models import TINY_DIRECTORY
from pytest_quantbench.catalog.recipes import Part, recipe
from pytest_quantbench.checkpoints.tokenizer import load_tokenizer
from pytest_quantbench.compress.calibration import CalibrationSet, needed_tokens
from pytest_quantbench.compress.encoder import Encoder, Job
from pytest_quantbench.compress.pipeline import compress
from pytest_quantbench.engines.batches import Batch
from pytest_quantbench.engines.mlx import resident
from pytest_quantbench.engines.mlx.walk import Walk
from pytest_quantbench.fetch.texts import Text
from pytest_quantbench.measures import weights
from pytest_quantbench.quantizers import Statistics
from pytest_quantbench.quantizers.encoding import Encoding
from pytest_quantbench.record.summary import compression

TEXT = Text(name="text", content=(TINY_DIRECTORY / "heldout.txt").read_text())
WITH_EXPERTS = ("mixtral", "qwen3_moe", *MIXTURES)
METHODS = [name for name in quantizers.names() if name != "identity"]
WIDTH = {"int8": 8, "mxfp8": 8}  # of the others, 4 is one
STACK = "model.layers.1.block_sparse_moe.switch_mlp"  # in the small Mixtral


SEARCHED = [pytest.param(each, marks=pytest.mark.slow) for each in ("int4", "int8-static")]


def calibration(sequences=4):
    return CalibrationSet(text=TEXT, sequences=sequences)


def chosen(recipe_id):
    return recipe(recipe_id)


def made(directory, recipe_id, cache, **options):
    return compress(open_model(directory), chosen(recipe_id), 0, cache, calibration, **options)


def arrays_of(artifact):
    return {name: {key: np.array(a) for key, a in artifact.arrays(name).items()} for name in artifact.names}


def assert_same(first, second):
    assert first.manifest.tensors == second.manifest.tensors
    mine, others = arrays_of(first), arrays_of(second)
    for name, arrays in mine.items():
        for key, array in arrays.items():
            np.testing.assert_array_equal(array.view(np.uint8), others[name][key].view(np.uint8), err_msg=name)


def rewrite(directory, change):
    """Give a model other weights."""
    file = directory / "model.safetensors"
    weights = mx.load(str(file))
    changed = change(weights)
    mx.eval(changed)
    file.unlink()
    mx.save_safetensors(str(file), changed)


def drawn(name, array):
    """Biases are zero in a model that was just made, and would not be missed."""
    return 0.1 * mx.random.normal(array.shape).astype(array.dtype) if name.endswith(".bias") else array


@pytest.fixture
def bf16(small_model, tmp_path):
    """A function that gives a small model's directory and its reference."""

    def opened(architecture, **changes):
        directory = small_model(architecture, dtype=mx.float16, **changes)
        rewrite(directory, lambda weights: {name: drawn(name, array) for name, array in weights.items()})
        return directory, compress(open_model(directory), chosen("bf16"), 0, tmp_path / "reference")

    return opened


@pytest.mark.parametrize("method", METHODS)
def test_every_method_takes_a_mixture(bf16, tmp_path, method):
    """Stored bytes are counted, the stack is what each expert's own matrix is encoded to, and it can be walked."""
    directory, reference = bf16("qwen3_moe", num_hidden_layers=2)
    artifact = made(directory, f"int{WIDTH.get(method, 4)}-{method}", tmp_path / "cache")
    name = "model.layers.0.mlp.switch_mlp.down_proj.weight"
    tensor = artifact.tensor(name)
    assert (tensor.quantizer, tensor.shape) == (method, (4, 64, 32))
    assert tensor.stored_bytes == sum(array.nbytes for array in artifact.arrays(name).values())
    dense, original = artifact.float32(name), reference.float32(name)
    codec = artifact.quantizer(name)
    for expert in range(4):
        error = dense[expert] - original[expert]
        assert np.square(error).mean() < 0.05 * np.square(original[expert]).mean()
        if codec.calibration == "none":
            stored = reference.arrays(name)["weight"][expert]
            assert np.array_equal(dense[expert], codec.decode(codec.encode(stored, None, 0)))
    walk = Walk(artifact, host=True)
    tokens = mx.array(np.random.default_rng(0).integers(0, 2048, (2, 9)))
    walk.run([tokens], "")
    logits = np.array(walk.head(0, slice(None)))
    if method not in ("dynamic", "static"):  # where a last bit may move an activation to the next level
        np.testing.assert_allclose(np.array(resident.load(artifact).model(tokens)), logits, atol=1e-4)
    np.testing.assert_allclose(np.array(resident.load(artifact, host=True).model(tokens)), logits, atol=1e-4)


@pytest.mark.parametrize("architecture", WITH_EXPERTS)
@pytest.mark.parametrize("recipe_id", ["bf16", "int4-rtn"])
def test_text_and_questions_see_the_model_that_mlx_lm_runs(bf16, tmp_path, architecture, recipe_id):
    """Losses of whole windows, and of choices that go on from a shared context, against the plain forward pass."""
    directory, _ = bf16(architecture)
    artifact = made(directory, recipe_id, tmp_path / "cache")
    plain = resident.load(artifact).model
    rng = np.random.default_rng(1)
    context, choices = rng.integers(0, 2048, (2, 40)), rng.integers(0, 2048, (3, 6))
    batches = [Batch(tokens=mx.array(context)), Batch(tokens=mx.array(choices), parent=0, rows=(1, 0, 1))]
    for host in (True, False):
        walk = Walk(artifact, host=host)
        walk.run(batches, "")
        assert_close(walk.head(0, slice(None)), plain(mx.array(context)))
        for row, (parent, choice) in enumerate(zip((1, 0, 1), choices, strict=True)):
            whole = plain(mx.array(np.concatenate([context[parent], choice])[None]))
            assert_close(walk.head(1, slice(None))[row], whole[0, 40:])


def assert_close(found, expected):
    losses = (logits - mx.logsumexp(logits, axis=-1, keepdims=True) for logits in (found, expected))
    np.testing.assert_allclose(*map(np.array, losses), atol=1e-4)


@pytest.mark.parametrize("recipe_id", ["int4-gptq", *SEARCHED])
def test_the_bytes_are_the_same_in_portions_streamed_and_after_an_interruption(bf16, tmp_path, monkeypatch, recipe_id):
    directory, _ = bf16("mixtral")
    whole = made(directory, recipe_id, tmp_path / "whole")
    seen = []
    original = Encoder._observe

    def observed(self, group, experts):
        seen.append((group, experts))
        return original(self, group, experts)

    monkeypatch.setattr(Encoder, "_observe", observed)
    little = made(directory, recipe_id, tmp_path / "little", memory_bytes=1)  # one expert at a time
    assert [experts for group, experts in seen if group == 1] == [range(k, k + 1) for k in range(4)]
    assert_same(whole, little)
    assert_same(whole, made(directory, recipe_id, tmp_path / "none", stored=False))
    encode, done = Encoder.encode, []

    def stops(self, group):
        done.append(group[0].group)
        if len(done) == 3:
            raise KeyboardInterrupt
        return encode(self, group)

    monkeypatch.setattr(Encoder, "encode", stops)
    with pytest.raises(KeyboardInterrupt):
        made(directory, recipe_id, tmp_path / "stopped")
    again = made(directory, recipe_id, tmp_path / "stopped")
    assert done == [-1, 0, 1, 1, 2]
    assert_same(whole, again)


def routed_by_hand(reference, batches):
    """(tokens, in) of the inputs to each expert's gate_proj in the first layer, by a plain loop."""
    model = resident.load(reference).model
    layer = model.model.layers[0]
    rows = {expert: [] for expert in range(4)}
    for tokens in batches:
        hidden = model.model.embed_tokens(mx.array(tokens))
        hidden = hidden + layer.self_attn(layer.input_layernorm(hidden), "causal", None)
        inputs = np.array(layer.post_attention_layernorm(hidden)).reshape(-1, 64)
        scores = inputs @ np.array(layer.block_sparse_moe.gate.weight).T
        for row, best in zip(inputs, np.argsort(-scores, axis=1)[:, :2], strict=True):
            for expert in best:
                rows[int(expert)].append(row)
    return {expert: np.array(held) for expert, held in rows.items()}


def test_an_expert_is_fitted_to_the_tokens_that_were_sent_to_it(bf16, tmp_path):
    """GPTQ on Hessians that are computed here, from inputs routed by hand, gives the codes in the artifact.

    The first layer, whose inputs no encoded layer has changed, of a recipe that keeps the embeddings.
    """
    directory, reference = bf16("mixtral")
    source = open_model(directory)
    text = calibration()
    batches = text.batches(load_tokenizer(directory), capacity(source.config), 0)
    kept = Part(quantizer="identity")
    gptq = recipe("int4-gptq")
    job = Job(
        source=source,
        recipe=type(gptq)(id="x", level="int4", method="gptq", inner=gptq.inner, outer=kept),
        seed=0,
        calibration=text,
        memory_bytes=10**9,
    )
    encoder = Encoder(job)
    encoder.encode(encoder.groups[0])
    encoder.carry_on(encoder.groups[0])
    encoded = encoder.encode(encoder.groups[1])
    path = "model.layers.0.block_sparse_moe.switch_mlp.gate_proj"
    tensor = next(tensor for tensor in encoded.tensors if tensor.name == f"{path}.weight")
    codec = quantizers.make(gptq.inner)
    arrays = {name.rpartition(".")[2]: encoded.arrays[name] for name in tensor.arrays}
    found = Encoding(codec=codec, arrays=arrays, shape=tensor.shape).dense()
    for expert, rows in routed_by_hand(reference, batches).items():
        assert len(rows) >= needed_tokens(64)
        seen = Statistics(hessian=rows.T @ rows / len(rows), tokens=len(rows), sample=rows, peaks=rows)
        weight = reference.arrays(f"{path}.weight")["weight"][expert]
        expected = codec.decode(codec.encode(weight, seen, 0))
        # a last bit of the Hessian may turn a code that lies between two levels
        assert np.mean(found[expert] != expected) < 0.01


def starve(directory, expert):
    """Make the routers of a small Mixtral with five experts send nothing to one of them.

    The others' scores are s, −s, t, −t: of those two are always above its zero.
    """

    def starved(weights):
        for name in [name for name in weights if name.endswith(".gate.weight")]:
            rows = np.array(weights[name].astype(mx.float32))
            first, second, third, fourth = (k for k in range(5) if k != expert)
            rows[second], rows[fourth], rows[expert] = -rows[first], -rows[third], 0
            weights[name] = mx.array(rows).astype(mx.float16)
        return weights

    rewrite(directory, starved)


@pytest.mark.parametrize(("recipe_id", "named"), [("int4-gptq", True), ("int4", True), ("int4-rtn", False)])
def test_a_starved_expert_is_rounded_without_data_and_named(bf16, tmp_path, recipe_id, named):
    directory, _ = bf16("mixtral", num_local_experts=5)
    starve(directory, 2)
    artifact = made(directory, recipe_id, tmp_path / "cache")
    notes = compression(artifact.manifest).notes
    told = {name: note for name, note in notes.items() if "rounded without data" in note}
    assert bool(told) == named
    if not named:
        return
    note = told[f"{STACK}.up_proj.weight"]
    assert note == "experts rounded without data because they saw fewer than 128 tokens: 2 (0)"
    assert notes[f"{STACK}.gate_proj.weight"] == note  # the same tokens
    name = f"{STACK}.up_proj.weight"
    codec, weight = artifact.quantizer(name), open_model(directory).array(name)[2]
    neutral = Statistics(
        hessian=np.eye(64, dtype=np.float32), tokens=0, sample=np.zeros((1, 64)), peaks=np.zeros((1, 64))
    )
    without = codec.encode(weight, neutral if codec.calibration == "hessian" else None, 0)
    np.testing.assert_array_equal(artifact.float32(name)[2], codec.decode(without))


def test_a_starved_experts_inputs_lie_where_those_of_all_do(bf16, tmp_path):
    """Quantized activations need a range even where an expert was never called."""
    directory, _ = bf16("mixtral", num_local_experts=5)
    starve(directory, 1)
    artifact = made(directory, "int8-static", tmp_path / "cache")
    steps = np.array(artifact.arrays(f"{STACK}.up_proj.weight")["input_range"])[:, 0]
    assert steps.shape == (5,)
    assert 0.5 < steps[1] / np.delete(steps, 1).mean() < 2


@pytest.mark.parametrize("recipe_id", ["int4-rtn", "int4-gptq", "int4-mxfp4"])
@pytest.mark.parametrize("architecture", ["qwen3_moe", "gpt_oss"])
def test_mlx_lm_opens_what_mlx_can_read(bf16, tmp_path, architecture, recipe_id):
    from mlx_lm import load

    directory, _ = bf16(architecture)
    artifact = made(directory, recipe_id, tmp_path / "cache")
    assert artifact.manifest.opens_in_mlx_lm
    assert "switch_mlp" in json.dumps((artifact.directory / "config.json").read_text()) or architecture == "gpt_oss"
    model, _ = load(str(artifact.directory))
    model.set_dtype(mx.float32)
    tokens = mx.array(np.random.default_rng(2).integers(0, 2048, (2, 40)))
    loaded = resident.load(artifact)
    assert loaded.dense_layers == 0
    np.testing.assert_allclose(np.array(model(tokens)), np.array(loaded.model(tokens)), atol=1e-4)


def test_no_method_claims_more_than_mlx_can_read(bf16, tmp_path):
    directory, _ = bf16("mixtral")
    assert not made(directory, "int4", tmp_path / "cache").manifest.opens_in_mlx_lm


def test_every_expert_is_compared_with_its_original(bf16, tmp_path):
    directory, reference = bf16("mixtral")
    artifact = made(directory, "int4-rtn", tmp_path / "cache")
    found = {error.name: error for error in weights.measure(artifact, reference).tensors}
    name = f"{STACK}.up_proj.weight"
    of_stack = [found[f"{name}[{expert}]"] for expert in range(4)]
    assert name not in found
    assert {error.weights for error in of_stack} == {64 * 128}
    assert {error.bits_per_weight for error in of_stack} == {8 * artifact.tensor(name).stored_bytes / (4 * 64 * 128)}
    for expert, error in enumerate(of_stack):
        difference = artifact.float32(name)[expert] - reference.float32(name)[expert]
        assert error.largest_error == pytest.approx(float(np.abs(difference).max()))
