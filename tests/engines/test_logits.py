"""Losses from logits: numpy's form against float64, MLX's form against numpy's, at the vocabularies of real models."""

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from small_models import CONFIGS, InMemory

from pytest_quantbench.engines.logits import HostLogits, log_sum_exp
from pytest_quantbench.engines.mlx import logits
from pytest_quantbench.engines.mlx.logits import DeviceLogits, logits_of
from pytest_quantbench.engines.mlx.walk import Walk

VOCABULARIES = [2048, 32_000, 151_936, 262_144]


def exact(rows):
    """log Σ exp in float64, smallest first."""
    rows = np.sort(np.asarray(rows, np.float64), axis=-1)
    largest = rows[:, -1:]
    return (largest + np.log(np.exp(rows - largest).sum(-1, keepdims=True)))[:, 0]


def drawn(vocabulary, spread=2.0, positions=12):
    rng = np.random.default_rng(vocabulary)
    return (spread * rng.standard_normal((positions, vocabulary))).astype(np.float32), rng


@pytest.mark.parametrize("spread", [0.01, 2.0, 8.0])
@pytest.mark.parametrize("vocabulary", VOCABULARIES)
def test_losses_are_right_to_a_millionth(vocabulary, spread):
    rows, rng = drawn(vocabulary, spread)
    tokens = rng.integers(0, vocabulary, len(rows))
    truth = exact(rows) - rows[np.arange(len(rows)), tokens]
    np.testing.assert_allclose(HostLogits(rows).nll(tokens), truth, atol=1e-6)
    np.testing.assert_allclose(DeviceLogits(mx.array(rows)).nll(tokens), truth, atol=1e-5)


@pytest.mark.parametrize("vocabulary", VOCABULARIES)
def test_they_are_not_biased(vocabulary):
    rows, _ = drawn(vocabulary, positions=24)
    assert abs(np.mean(log_sum_exp(rows) - exact(rows))) < 1e-7


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(np.float32, st.tuples(st.integers(1, 4), st.integers(1, 3000)), elements=st.floats(-1e4, 1e4, width=32))
)
def test_any_logits(rows):
    np.testing.assert_allclose(log_sum_exp(rows), exact(rows), atol=1e-6, rtol=1e-7)


@pytest.mark.parametrize("vocabulary", [100, 5000, 32_000])
def test_the_device_form_is_the_host_form(vocabulary):
    first, rng = drawn(vocabulary)
    second = first + rng.normal(0, 0.2, first.shape).astype(np.float32)
    host, device = HostLogits(second), DeviceLogits(mx.array(second))
    kept = HostLogits(first).compact(5)
    for name, array in ((name, getattr(kept, name)) for name in type(kept).__dataclass_fields__):
        np.testing.assert_array_equal(getattr(DeviceLogits(mx.array(first)).compact(5), name), array)
    np.testing.assert_array_equal(device.likeliest(), host.likeliest())
    mine, theirs = host.against(kept), device.against(kept)
    np.testing.assert_allclose(theirs.kl_nats, mine.kl_nats, atol=1e-5)
    np.testing.assert_allclose(theirs.error_nats, mine.error_nats, atol=1e-5)
    np.testing.assert_array_equal(theirs.same_top, mine.same_top)
    np.testing.assert_array_equal(theirs.likeliest, mine.likeliest)


@pytest.mark.parametrize("form", [HostLogits, lambda rows: DeviceLogits(mx.array(rows))])
def test_of_equally_likely_tokens_the_first(form):
    assert form(np.array([[0, 2, 2], [1, 1, 1]], np.float32)).likeliest().tolist() == [1, 0]


def test_the_form_follows_from_where_mlx_computes(monkeypatch):
    rows = mx.zeros((2, 8))
    for backend, form in (("cpu", HostLogits), ("metal", DeviceLogits), ("cuda", DeviceLogits)):
        monkeypatch.setattr(logits, "backend", lambda backend=backend: backend)
        assert type(logits_of(rows)) is form
        np.testing.assert_allclose(logits_of(rows).nll(np.array([3, 4])), np.log(8), atol=1e-6)


@pytest.mark.parametrize("vocabulary", [151_936, 262_144])
@pytest.mark.parametrize("host", [True, False])
def test_a_model_with_a_large_vocabulary(monkeypatch, vocabulary, host):
    """Its walk's losses against the head's product and its sums in float64."""
    monkeypatch.setitem(CONFIGS, "large", CONFIGS["llama"] | {"vocab_size": vocabulary})
    weights = InMemory("large")
    tokens = np.random.default_rng(0).integers(0, vocabulary, 9)
    walk = Walk(weights, host=host)
    walk.run([mx.array(tokens[None, :-1])], "")
    states = weights.model.model(mx.array(tokens[None, :-1]))
    head = np.array(weights.model.lm_head.weight.astype(mx.float32), np.float64)
    rows = np.array(states.astype(mx.float32), np.float64)[0] @ head.T
    truth = exact(rows) - rows[np.arange(8), tokens[1:]]
    found = walk.logits(0, slice(0, 8)).nll(tokens[1:])
    np.testing.assert_allclose(found, truth, atol=1e-5)


@pytest.mark.parametrize("vocabulary", [100, 5000, 32_000])
def test_pytorch_s_forms_are_the_host_form(vocabulary):
    """On a CPU to the last bit; where logits stay on a device as MLX's own form is."""
    torch = pytest.importorskip("torch")
    from pytest_quantbench.engines.torch.logits import CpuLogits
    from pytest_quantbench.engines.torch.logits import DeviceLogits as OfTorch

    first, rng = drawn(vocabulary)
    second = first + rng.normal(0, 0.2, first.shape).astype(np.float32)
    tokens = rng.integers(0, vocabulary, len(first))
    host, device = HostLogits(second), OfTorch(torch.from_numpy(second))
    kept, compiled = HostLogits(first).compact(5), CpuLogits(first).compact(5)
    for name in type(kept).__dataclass_fields__:
        np.testing.assert_array_equal(getattr(compiled, name), getattr(kept, name))
    np.testing.assert_array_equal(device.likeliest(), host.likeliest())
    np.testing.assert_allclose(device.nll(tokens), host.nll(tokens), atol=1e-5)
    mine, theirs = host.against(kept), device.against(kept)
    np.testing.assert_allclose(theirs.kl_nats, mine.kl_nats, atol=1e-5)
    np.testing.assert_allclose(theirs.error_nats, mine.error_nats, atol=1e-5)
    np.testing.assert_array_equal(theirs.same_top, mine.same_top)
    assert OfTorch(torch.tensor([[0.0, 2.0, 2.0]])).likeliest().tolist() == [1]
