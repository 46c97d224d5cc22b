import math

import mlx.core as mx
import numpy as np
import pytest
from builders import open_model
from hypothesis import given
from hypothesis import strategies as st

from pytest_quantbench import engines
from pytest_quantbench.catalog.recipes import recipe
from pytest_quantbench.compress.pipeline import compress
from pytest_quantbench.engines.machine import Machine, describe
from pytest_quantbench.measures import weights


def artifact_of(directory, tmp_path, recipe_id):
    return compress(open_model(directory), recipe(recipe_id), 0, tmp_path / "cache")


def test_nothing_is_lost_by_the_reference(small_model, tmp_path):
    artifact = artifact_of(small_model(), tmp_path, "bf16")
    for tensor in weights.measure(artifact, artifact).tensors:
        assert (tensor.snr_db, tensor.cosine, tensor.largest_error) == (math.inf, pytest.approx(1), 0)
        assert tensor.bits_per_weight == 16


def test_known_snr_of_plain_rounding_on_gaussian_weights(small_model, tmp_path):
    """MLX affine, group 64, on Gaussian weights: 20.8, 14.4 and 8.1 dB at 4, 3 and 2 bits (measured elsewhere)."""
    directory = small_model(hidden_size=128, intermediate_size=512)
    loaded = mx.load(str(directory / "model.safetensors"))
    rng = np.random.default_rng(0)
    gaussian = {n: mx.array(0.02 * rng.standard_normal(a.shape)).astype(mx.bfloat16) for n, a in loaded.items()}
    mx.save_safetensors(str(directory / "new.safetensors"), gaussian)
    (directory / "new.safetensors").rename(directory / "model.safetensors")
    reference = artifact_of(directory, tmp_path, "bf16")
    for level, expected in (("int4-rtn", 20.8), ("int3-rtn", 14.4), ("int2-rtn", 8.1)):
        tensors = weights.measure(artifact_of(directory, tmp_path, level), reference).tensors
        inner = [tensor for tensor in tensors if ".layers." in tensor.name]
        assert np.median([tensor.snr_db for tensor in inner]) == pytest.approx(expected, abs=0.2)
        assert {tensor.bits_per_weight for tensor in inner} == {int(level[3]) + 0.5}


@given(st.floats(1e-3, 1e3), st.integers(0, 2**31))
def test_snr_and_cosine_by_hand(scale, seed):
    signal = np.random.default_rng(seed).standard_normal(100).astype(np.float32)
    assert weights.snr_db(signal, np.float32(0.1) * signal) == pytest.approx(20, abs=1e-3)
    assert weights.snr_db(signal, np.zeros_like(signal)) == math.inf
    assert weights.cosine(signal, np.float32(scale) * signal) == pytest.approx(1, abs=1e-6)
    assert weights.cosine(signal, -signal) == pytest.approx(-1, abs=1e-6)


def test_zero_matrices_have_an_answer():
    zero, one = np.zeros(4, np.float32), np.ones(4, np.float32)
    assert weights.snr_db(zero, zero) == math.inf
    assert weights.snr_db(zero, one) == -math.inf
    assert (weights.cosine(zero, zero), weights.cosine(zero, one)) == (1.0, 0.0)


def test_the_machine_is_described():
    engine = engines.get()
    machine = describe(engine)
    assert isinstance(machine, Machine)
    assert machine.chip
    assert machine.backend == engine.backend
    assert machine.memory_gb > 0.1
    assert machine.versions["mlx"][0].isdigit()
