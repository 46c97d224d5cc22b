"""Samples kept between sessions: they come back as they were, or not at all."""

import logging

import numpy as np
import pytest
from builders import make_scored
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pytest_quantbench.engines.divergence import Distributions
from pytest_quantbench.measures.samples import AccuracySamples, PerplexitySamples, TaskSamples
from pytest_quantbench.measures.throughput_samples import Memory, Run, ThroughputSamples
from pytest_quantbench.storage import samples_cache
from pytest_quantbench.storage.cache import SAMPLES
from pytest_quantbench.storage.samples_cache import key_of, load, save


def same(first, second):
    """Whether two samples are of the same type and hold the same, arrays to the last bit."""
    assert type(first) is type(second)
    if isinstance(first, np.ndarray):
        assert first.dtype == second.dtype
        np.testing.assert_array_equal(first, second)
    elif hasattr(first, "__dataclass_fields__"):
        for name in first.__dataclass_fields__:
            same(getattr(first, name), getattr(second, name))
    elif isinstance(first, dict):
        assert list(first) == list(second)
        for name in first:
            same(first[name], second[name])
    elif isinstance(first, tuple):
        assert len(first) == len(second)
        for mine, other in zip(first, second, strict=True):
            same(mine, other)
    else:
        assert first == second


@settings(max_examples=40, deadline=None)
@given(hnp.arrays(np.float32, st.integers(0, 50), elements=st.floats(width=32)), st.booleans())
def test_losses_come_back_to_the_last_bit(tmp_path_factory, nll, with_distributions):
    cache = tmp_path_factory.mktemp("cache")
    found = Distributions(
        tokens=np.ones((3, 2), np.uint16),
        log_probabilities=np.zeros((3, 2), np.float32),
        certain=np.array([0, 1, 2], np.uint16),
        rest=nll[:3],
        likeliest=np.full(3, 2**32 - 1, np.uint32),
    )
    samples = make_scored(nll, found if with_distributions else None)
    save(cache, "key", samples)
    same(load(cache, "key", PerplexitySamples), samples)


def test_answers_and_runs_come_back(tmp_path):
    task = TaskSamples(
        ids=("a", "b"),
        hashes=("x", "y"),
        correct=np.array([True, False]),
        correct_raw=np.array([False, False]),
        loglikelihoods=((-1.25, -0.1 - 1e-17), (-3.0,)),
        texts=("", "ünï"),
        gold=(0, -1),
        choices=4,
        version="1",
    )
    answers = AccuracySamples(
        tasks={"t": task}, available={"t": 9}, cut_contexts=0, weights_sha256="w", seconds=0.1 + 0.2
    )
    run = Run(
        prompt=0,
        prompt_tokens=3,
        new_tokens=2,
        seconds=0.5,
        first_token_seconds=0.1,
        prefill_tokens_per_second=30.0,
        latencies_seconds=np.array([0.25], np.float32),
        tokens=(1, 2),
        text="x",
    )
    runs = ThroughputSamples(
        warm_ups=(run,),
        runs=(run, run),
        reference_runs=(),
        probes_per_second=(1.0, 2.0),
        load_seconds=0.1,
        memory=Memory(peak_bytes=5),
        activations="float32",
        dense_layers=0,
    )
    for key, samples in (("t3", answers), ("t1", runs)):
        save(tmp_path, key, samples)
        same(load(tmp_path, key, type(samples)), samples)


def test_there_is_nothing_where_nothing_was_kept(tmp_path):
    assert load(tmp_path, "key", PerplexitySamples) is None


@pytest.mark.parametrize("seed", range(20))
def test_a_flipped_byte_is_found_and_the_file_moved_aside(tmp_path, seed, caplog):
    save(tmp_path, "key", make_scored(np.arange(50)))
    path, rng = SAMPLES.of(tmp_path, "key"), np.random.default_rng(seed)
    content = bytearray(path.read_bytes())
    content[rng.integers(len(content))] ^= int(rng.integers(1, 256))
    path.write_bytes(content[: len(content) - (seed % 3 == 0)])
    with caplog.at_level(logging.WARNING):
        assert load(tmp_path, "key", PerplexitySamples) is None
    assert "damaged" in caplog.text
    assert not path.exists()
    assert [file.name.startswith("damaged-") for file in path.parent.iterdir()] == [True]
    save(tmp_path, "key", make_scored(np.arange(50)))
    assert load(tmp_path, "key", PerplexitySamples) is not None


@pytest.mark.parametrize("length", [0, 1, 31, 32, 33, 200])
def test_a_cut_file_is_found(tmp_path, length):
    save(tmp_path, "key", make_scored(np.arange(50)))
    path = SAMPLES.of(tmp_path, "key")
    path.write_bytes(path.read_bytes()[:length])
    assert load(tmp_path, "key", PerplexitySamples) is None


def test_keys_are_of_content_and_not_of_order():
    assert key_of({"a": 1, "b": [2]}) == key_of({"b": [2], "a": 1})
    assert len({key_of({"a": 1}), key_of({"a": 2}), key_of({"a": "1"}), key_of({})}) == 4


def test_another_layout_is_another_key(monkeypatch):
    before = key_of({"a": 1})
    monkeypatch.setattr(samples_cache, "FORMAT", samples_cache.FORMAT + 1)
    assert key_of({"a": 1}) != before
