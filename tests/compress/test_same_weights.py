"""Weights that are the reference's, quantized, folded, tuned or damaged, and weights that are not."""

import re
from types import SimpleNamespace

import numpy as np
import pytest
from builders import open_model

from pytest_quantbench import quantizers
from pytest_quantbench.catalog.models import TINY_DIRECTORY
from pytest_quantbench.catalog.recipes import Part
from pytest_quantbench.compress import same_weights
from pytest_quantbench.compress.same_weights import SAME, cosines, sampled
from pytest_quantbench.engines.parameters import Parameter
from pytest_quantbench.errors import ModelError


@pytest.fixture(scope="module")
def tiny():
    return open_model(TINY_DIRECTORY)


def changed(tiny, change, names="."):
    """The reference's matrices of these names, changed; all else as it is."""

    def dense(path):
        weight = tiny.array(path).astype(np.float32)
        return change(weight) if re.search(names, path) else weight

    return dense


@pytest.mark.parametrize(
    ("method", "bits", "least"),
    [("rtn", 4, 0.99), ("rtn", 3, 0.97), ("rtn", 2, 0.87), ("hqq", 2, 0.92), ("kquant", 2, 0.95)],
)
def test_rounding_is_far_from_the_limit_at_any_width(tiny, method, bits, least):
    """The figures of the docstring."""
    quantizer = quantizers.make(Part(quantizer=method, parameters={"bits": bits}))
    found = cosines(tiny, changed(tiny, lambda weight: quantizer.decode(quantizer.encode(weight, None, 0)), "layers"))
    assert min(found.values()) > least


@pytest.mark.parametrize(("spread", "least"), [(0.3, 0.94), (0.5, 0.87), (0.8, 0.7)])
def test_columns_scaled_as_awq_folds_them_are_the_references(tiny, spread, least):
    rng = np.random.default_rng(0)

    def folded(weight):
        return weight * np.exp(rng.normal(0, spread, weight.shape[1]))

    found = cosines(tiny, changed(tiny, folded, "layers"))
    assert least < min(found.values()) < 0.97


def test_a_fine_tune_is(tiny):
    rng = np.random.default_rng(0)
    found = cosines(tiny, changed(tiny, lambda weight: weight + 0.2 * weight.std() * rng.normal(size=weight.shape)))
    assert 0.95 < min(found.values()) < 0.99


@pytest.mark.parametrize("kind", ["random", "rotated", "other layers"])
def test_strangers_are_refused_with_their_cosines(tiny, kind):
    rng = np.random.default_rng(0)

    def dense(path):
        weight = tiny.array(path).astype(np.float32)
        if kind == "random":
            return rng.normal(size=weight.shape)
        if kind == "rotated":
            return weight @ np.linalg.qr(np.random.default_rng(1).normal(size=(weight.shape[1],) * 2))[0]
        return tiny.array(re.sub(r"layers\.(\d)", lambda found: f"layers.{3 - int(found[1])}", path))

    with pytest.raises(ModelError, match=r"not the reference's: the cosine of 10 sampled matrices .* is -?0\.0\d\d in"):
        cosines(tiny, dense)


@pytest.mark.parametrize("names", ["q_proj|k_proj", "q_proj", "k_proj"])
def test_queries_and_keys_in_the_other_order_are_named(tiny, names):
    """llama.cpp pairs neighbours where Transformers pairs halves: heads × 2 × half becomes heads × half × 2."""

    def other_order(weight):
        return weight.reshape(-1, 2, 32, weight.shape[1]).swapaxes(1, 2).reshape(weight.shape)

    with pytest.raises(ModelError, match=r"rows of queries and keys stand in another order .*rotary positions"):
        cosines(tiny, changed(tiny, other_order, names))


def test_a_file_with_damage_is_the_references_all_the_same(tiny):
    """Judging finds out how bad it is."""
    found = cosines(tiny, changed(tiny, np.zeros_like, "down_proj|q_proj"))
    assert min(found.values()) == 0.0
    assert np.median(list(found.values())) > SAME


def test_values_that_are_no_numbers_count_as_unlike(tiny):
    found = cosines(tiny, changed(tiny, lambda weight: np.full_like(weight, np.nan), "down_proj"))
    assert min(found.values()) == 0.0


def test_matrices_of_every_name_are_sampled_in_different_layers(tiny):
    paths = [each.path for each in sampled(tiny.parameters)]
    assert "model.embed_tokens.weight" in paths
    owners = {path.removesuffix(".weight").rpartition(".")[2] for path in paths} - {"embed_tokens"}
    assert owners == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert len({each.layer for each in sampled(tiny.parameters)}) > 3
    assert cosines(tiny, tiny.array) == dict.fromkeys(paths, pytest.approx(1.0))


def test_what_is_too_large_to_be_cheap_is_left_out():
    large = Parameter(path="e.weight", shape=(2**18, 2**11), kind="embedding", owner="Embedding", layer=None)
    experts = Parameter(path="e.weight", shape=(2**6, 2**12, 2**11), kind="linear", owner="SwitchLinear", layer=0)
    assert sampled([large, experts]) == []
    with pytest.raises(ModelError, match="no matrix that a candidate could be compared by"):
        cosines(SimpleNamespace(parameters=[large]), np.zeros)


def test_the_same_rows_are_drawn_every_time(tiny):
    rng = np.random.default_rng(0)
    noise = {each.path: rng.normal(size=each.shape) for each in sampled(tiny.parameters)}

    def dense(path):
        return tiny.array(path).astype(np.float32) + 0.01 * noise[path]

    assert cosines(tiny, dense) == cosines(tiny, dense) != cosines(tiny, dense, seed=1)
    assert tiny.parameters[0].shape[0] > same_weights.ROWS
