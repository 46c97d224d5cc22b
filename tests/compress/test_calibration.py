"""Calibration: batches of the text, statistics against a slow computation, layers fitted to encoded predecessors."""

import mlx.core as mx
import numpy as np
import pytest
from builders import capacity, open_model
from hypothesis import given
from hypothesis import strategies as st
from small_models import CONFIGS

from pytest_quantbench.bench.inputs import Inputs
from pytest_quantbench.bench.subject import Subject
from pytest_quantbench.catalog.models import MODELS, TINY_DIRECTORY
from pytest_quantbench.catalog.recipes import recipe
from pytest_quantbench.catalog.settings import Settings
from pytest_quantbench.checkpoints.tokenizer import load_tokenizer
from pytest_quantbench.compress.calibration import CalibrationSet, LayerInputs
from pytest_quantbench.compress.pipeline import compress
from pytest_quantbench.engines.mlx.observer import Observer
from pytest_quantbench.engines.mlx.walk import Walk
from pytest_quantbench.errors import CorpusError, QuantbenchError
from pytest_quantbench.fetch.texts import Text
from pytest_quantbench.measures.perplexity.contamination import is_fitted_to, shared_run

TEXT = Text(name="some text", content="The town of Ara is northern. 3 plus 4 is 7. " * 600)


def calibration(sequences=4, text=TEXT):
    return CalibrationSet(text=text, sequences=sequences)


def test_batches_are_seeded_windows_of_the_text_with_bos():
    tokenizer = load_tokenizer(TINY_DIRECTORY)
    config = {"max_position_embeddings": 64}
    ids = tokenizer.encode(TEXT.content, add_special_tokens=False)
    batches = calibration(70).batches(tokenizer, capacity(config), seed=3)
    windows = np.concatenate([np.array(batch) for batch in batches])
    assert windows.shape == (70, 64)
    assert (windows[:, 0] == tokenizer.bos_token_id).all()
    joined = " ".join(map(str, ids)) + " "
    assert all(" ".join(map(str, window[1:])) + " " in joined for window in windows)
    again = np.concatenate([np.array(batch) for batch in calibration(70).batches(tokenizer, capacity(config), seed=3)])
    np.testing.assert_array_equal(again, windows)


def test_a_text_shorter_than_a_sequence_is_refused():
    short = calibration(text=Text(name="short", content="Ara."))
    with pytest.raises(CorpusError, match=r"short has .* tokens, and 4 sequences of 63 were asked for"):
        short.batches(load_tokenizer(TINY_DIRECTORY), capacity({"max_position_embeddings": 64}), seed=0)


def rows_of(path, x, indices=None, sorted_indices=None):
    """The inputs of a call, one by one: those of a layer's matrix, or of each of its experts'."""
    if indices is None:
        return [(path, np.array(x).reshape(-1, x.shape[-1]))]
    shape = np.broadcast_shapes(x.shape[:-2], indices.shape)
    inputs = np.broadcast_to(np.array(x), (*shape, *x.shape[-2:]))
    chosen = np.broadcast_to(np.array(indices), shape)
    return [(f"{path}[{chosen[place]}]", inputs[place]) for place in np.ndindex(shape)]


@pytest.mark.parametrize("architecture", CONFIGS)
@pytest.mark.parametrize("host", [True, False])
def test_statistics_are_those_of_the_inputs(small_model, architecture, host):
    """Every linear layer is observed; its Hessian is the mean of x xᵀ, computed here from a spy's inputs."""
    source = compress(open_model(small_model(architecture)), recipe("bf16"), 0, TINY_DIRECTORY)
    batches = [mx.array(np.random.default_rng(k).integers(0, 2048, (2, 24))) for k in range(3)]
    walk = Walk(source, host=host)
    walk.begin(batches)
    spied = {}

    def spy(path, layer):
        wrapped = observer.wrap(path, layer)

        def call(x, *routing, **sorting):
            for name, rows in rows_of(path, x, *routing):
                spied.setdefault(name, []).append(rows)
            return wrapped(x, *routing, **sorting)

        return type("Spy", (type(wrapped),), {"__call__": lambda self, *a, **k: call(*a, **k)})(observer, path, layer)

    seen = LayerInputs(len(batches), 0)
    observer = Observer(seen, host=host)
    walk.wrapped(0, spy)
    found = seen.statistics()
    assert len(found) == len(spied) >= 4
    for path, inputs in spied.items():
        inputs = np.concatenate(inputs).astype(np.float64)
        statistics = found[path]
        assert statistics.tokens == len(inputs) <= 144
        assert "[" in path or len(inputs) == 144
        np.testing.assert_allclose(statistics.hessian, inputs.T @ inputs / len(inputs), rtol=1e-4, atol=1e-5)
        largest = inputs[np.argsort(-np.abs(inputs).max(1), kind="stable")[:16]]
        np.testing.assert_allclose(statistics.peaks, largest, rtol=1e-6)
        rows = {row.tobytes() for row in inputs.astype(np.float32)}
        assert all(row.tobytes() in rows for row in statistics.sample)


def test_matrices_with_one_input_share_their_statistics(small_model):
    source = open_model(small_model())
    walk = Walk(compress(source, recipe("bf16"), 0, TINY_DIRECTORY), host=True)
    batches = [mx.array([[1, 2, 3]])]
    walk.begin(batches)
    seen = LayerInputs(len(batches), 0)
    walk.observe(1, seen)
    found = seen.statistics()
    prefix = "model.layers.1."
    assert found[prefix + "self_attn.q_proj"] is found[prefix + "self_attn.v_proj"]
    assert found[prefix + "mlp.gate_proj"] is found[prefix + "mlp.up_proj"]
    assert found[prefix + "mlp.down_proj"] is not found[prefix + "mlp.up_proj"]


def test_observing_changes_nothing(small_model):
    source = compress(open_model(small_model()), recipe("bf16"), 0, TINY_DIRECTORY)
    batches = [mx.array([[5, 6, 7, 8]])]
    plain, observed = Walk(source, host=True), Walk(source, host=True)
    plain.run(batches, "")
    observed.begin(batches)
    for layer in range(len(observed)):
        observed.observe(layer, LayerInputs(len(batches), 0))
        observed.advance(layer)
    assert mx.array_equal(plain.head(0, slice(None)), observed.head(0, slice(None)))


def test_a_layer_sees_its_encoded_predecessors(small_model, tmp_path, monkeypatch):
    """The statistics of the last layer are those of a walk whose earlier layers come from the artifact."""
    seen = {}
    original = LayerInputs.statistics
    monkeypatch.setattr(LayerInputs, "statistics", lambda self: seen.setdefault(len(seen), original(self)))
    source = open_model(small_model())
    artifact = compress(source, recipe("int4-static"), 0, tmp_path / "c", calibration)
    batches = calibration().batches(load_tokenizer(source.checkpoint.directory), capacity(source.config), 0)
    walk = Walk(artifact, host=True)
    walk.begin(batches)
    last = len(walk) - 1
    for layer in range(last):
        walk.advance(layer)
    own = LayerInputs(len(batches), 0)
    walk.observe(last, own)
    name = f"model.layers.{last}.self_attn.q_proj"
    np.testing.assert_allclose(original(own)[name].hessian, seen[last][name].hessian, rtol=1e-5, atol=1e-7)
    assert artifact.manifest.calibration == calibration().describe()


def test_a_method_that_needs_calibration_is_refused_without(small_model, tmp_path):
    with pytest.raises(QuantbenchError, match="int8-static needs calibration: give a text with --calibration FILE"):
        compress(open_model(small_model()), recipe("int8-static"), 0, tmp_path)


@pytest.mark.slow
def test_calibration_and_evaluation_may_not_share_text(tmp_path):
    held_out = TINY_DIRECTORY / "heldout.txt"
    shared, apart = tmp_path / "shared.txt", tmp_path / "apart.txt"
    shared.write_text(TEXT.content + held_out.read_text()[:2000])
    apart.write_text(TEXT.content)
    for file, expected in ((shared, True), (apart, False), (held_out, True)):
        assert is_fitted_to(Inputs(MODELS["Tiny"], Settings(calibration=file))) is expected
    cell = Subject(MODELS["Tiny"], Settings(calibration=held_out, cache=tmp_path, calibration_sequences=2)).cell(
        recipe("int8-static")
    )
    with pytest.raises(CorpusError, match=r"heldout\.txt and the T2 text tiny-heldout share 50 tokens in a row"):
        cell.samples("perplexity")


def slow_shared(first, second, length):
    runs = [first[k : k + length] for k in range(len(first) - length + 1)]
    return any(second[k : k + length] in runs for k in range(len(second) - length + 1))


@given(st.lists(st.integers(0, 2), max_size=20), st.lists(st.integers(0, 2), max_size=20), st.integers(1, 6))
def test_shared_runs_are_found(first, second, length):
    assert shared_run(first, second, length) == slow_shared(first, second, length)
