"""What every method of a kind has to keep to, whichever it is, and the matrices on which that is tried.

`VECTORS` are the methods whose codes name words of codebooks, `AFFINE` those whose codes lie on MLX's affine grids. A
method that joins a kind gets a row in its table; what it alone promises is tested in its own file.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from pytest_quantbench.checkpoints.tensor_file import load
from pytest_quantbench.engines.mlx import layers
from pytest_quantbench.engines.mlx.arrays import save, to_mlx
from pytest_quantbench.errors import QuantbenchError
from pytest_quantbench.quantizers import Quantizer, Statistics, mlx_form
from pytest_quantbench.quantizers.aqlm import Aqlm
from pytest_quantbench.quantizers.awq import Awq
from pytest_quantbench.quantizers.gptq import Gptq
from pytest_quantbench.quantizers.hqq import Hqq
from pytest_quantbench.quantizers.milo import Milo
from pytest_quantbench.quantizers.numerics import affine
from pytest_quantbench.quantizers.rtn import Rtn
from pytest_quantbench.quantizers.vptq import Vptq

Method = Callable[..., Quantizer]
VECTORS: Mapping[str, Method] = {"aqlm": Aqlm, "vptq": Vptq}
AFFINE: Mapping[str, Method] = {"rtn": Rtn, "hqq": Hqq, "gptq": Gptq, "awq": Awq, "milo": Milo}
GRID_ALONE = ("rtn", "hqq", "gptq")  # of these: MLX's own storage, with nothing beside it
SHAPES = ((64, 64), (8, 128), (1, 64), (3, 172), (5, 1), (17, 33), (9, 1030), (1, 1))


def inputs_of(size, tokens=512, seed=0):
    """(tokens, in): correlated, with channels of very different size, one of them 10 times the others."""
    rng = np.random.default_rng(seed)
    spectrum = (1 + np.arange(size)) ** -0.4
    basis = rng.standard_normal((size, size)) / size**0.5  # as good as orthogonal, which would take a QR
    gains = np.exp(0.5 * rng.standard_normal(size))
    gains[size // 3] *= 10
    return (rng.standard_normal((tokens, size)) * spectrum @ basis * gains).astype(np.float32)


@functools.cache
def statistics(size, seed=0):
    """Of these inputs."""
    x = inputs_of(size, seed=seed)
    hessian = (x.T.astype(np.float64) @ x / len(x)).astype(np.float32)
    return Statistics(hessian=hessian, tokens=len(x), sample=x[:16], peaks=x[:4])


def weights(outs, ins, seed=0, kind="gauss"):
    """(out, in) float32, Gaussian or Student-t with 5 degrees of freedom, of standard deviation 0.02."""
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((outs, ins)) if kind == "gauss" else np.sqrt(0.6) * rng.standard_t(5, (outs, ins))
    return (0.02 * noise).astype(np.float32)


def encode(quantizer, weight, seed=0):
    """With statistics, for a method that takes them."""
    return quantizer.encode(weight, None if quantizer.calibration == "none" else statistics(weight.shape[1]), seed)


def dense(quantizer, weight, given, seed=0):
    """What comes back."""
    return quantizer.decode(quantizer.encode(weight, given, seed))


def output_error(error, hessian):
    """tr(E H Eᵀ), summed slowly."""
    return float(np.einsum("ij,jk,ik->", error.astype(np.float64), hessian.astype(np.float64), error))


def output_snr(weight, decoded, hessian):
    """In dB."""
    return 10 * np.log10(output_error(weight, hessian) / output_error(weight - decoded, hessian))


def native(quantizer, arrays, dtype=mx.float32):
    """MLX's layer of these arrays, which computes in this type."""
    built = layers.module(quantizer.layer(dict(arrays)), lambda: quantizer.decode(dict(arrays)))
    built.set_dtype(dtype)
    return built


def layer_outputs(quantizer, arrays, inputs):
    """(…, in) → (…, out) by MLX's layer, in float32."""
    return np.array(native(quantizer, arrays)(to_mlx(np.asarray(inputs, np.float32))))


def config_entry(quantizer, arrays):
    """What an MLX config.json says of these arrays."""
    return mlx_form.config_entry(quantizer.layer(arrays), arrays)


def any_shape_goes_there_and_back(quantizer, shape):
    """Finite, with less error than the matrix has itself; a layer, if there is one, computes the same."""
    weight = weights(*shape)
    arrays = encode(quantizer, weight)
    decoded = quantizer.decode(arrays)
    assert decoded.shape == shape
    assert decoded.dtype == np.float32
    assert np.isfinite(decoded).all()
    assert np.square(weight - decoded).sum() < np.square(weight).sum()
    assert isinstance(quantizer.note(shape, arrays), str)
    if quantizer.layer(arrays) is not None:
        x = inputs_of(shape[1], tokens=3)
        expected = x @ decoded.T
        found = layer_outputs(quantizer, arrays, x)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max() + 1e-7)


def a_constant_matrix_survives(quantizer, value):
    """Every weight, to what 16 bits can say."""
    decoded = quantizer.decode(encode(quantizer, np.full((8, 64), value, np.float32)))
    np.testing.assert_allclose(decoded, value, rtol=0.01, atol=1e-6)


def every_float_type_is_taken(quantizer, dtype):
    """At 4 bits, with 15 dB."""
    weight = weights(16, 64).astype(dtype)
    original, given = weight.astype(np.float32), statistics(64)
    assert output_snr(original, quantizer.decode(encode(quantizer, weight)), given.hessian) > 15


def four_times_the_matrix_is_four_times_the_result(quantizer):
    """To the last bit."""
    weight = weights(16, 128)
    one, four = (quantizer.decode(encode(quantizer, factor * weight)) for factor in (1, np.float32(4)))
    np.testing.assert_array_equal(four, 4 * one)


def arrays_survive_a_file(quantizer, shape, folder):
    """The same seed gives the same arrays, and a file gives them back. Returns them."""
    weight = weights(*shape)
    first, second = (encode(quantizer, weight, 3) for _ in range(2))
    assert first.keys() == second.keys()
    assert all(np.array_equal(first[name], second[name]) for name in first)
    save(folder / "a.safetensors", first)
    loaded = load(folder / "a.safetensors")
    assert {name: (array.dtype, array.shape) for name, array in loaded.items()} == {
        name: (array.dtype, array.shape) for name, array in first.items()
    }
    np.testing.assert_array_equal(quantizer.decode(loaded), quantizer.decode(first))
    return first


HESSIANS: Mapping[str, Callable[[Any], Any]] = {
    "zero": np.zeros_like,
    "one dead input": lambda hessian: hessian * (np.arange(64) != 5) * (np.arange(64) != 5)[:, None],
    "rank one": np.ones_like,
}


def a_hessian_without_full_rank_is_taken(quantizer, hessian):
    """Of 64 inputs."""
    empty, weight = np.zeros((0, 64), np.float32), weights(16, 64)
    given = Statistics(hessian=hessian(statistics(64).hessian), tokens=1, sample=empty, peaks=empty)
    decoded = dense(quantizer, weight, given)
    assert np.isfinite(decoded).all()
    assert np.square(weight - decoded).sum() < 0.9 * np.square(weight).sum()


def more_bits_more_rounds_and_wider_beams_lower_the_error(method):
    """Of a vector method."""
    weight, given = weights(64, 128), statistics(128)

    def error(**parameters):
        return output_error(weight - dense(method(**parameters), weight, given), given.hessian)

    by_bits = [error(bits=bits, rounds=1) for bits in (1, 2, 3, 4, 5, 6, 7, 8)]
    assert by_bits == sorted(by_bits, reverse=True)
    wide = {"bits": 2, "codebook_share": 9.0, "codebook_bits": 4}
    assert error(**wide, rounds=3, beam=8) < error(**wide, rounds=0, beam=8) < error(**wide, rounds=0, beam=1)


def calibration_is_needed(quantizer):
    """And asked for by name."""
    with pytest.raises(QuantbenchError, match=f"{quantizer.name} needs calibration"):
        quantizer.encode(weights(8, 64), None, 0)


def the_grid_is_mlx_s_own(quantizer, group):
    """`bits` + 32 / `group` bits a weight, every code in use, and MLX opens it where rows are not padded."""
    arrays = encode(quantizer, weights(64, 256))
    assert 8 * sum(array.nbytes for array in arrays.values()) == (quantizer.bits + 32 / group) * 64 * 256
    if quantizer.bits <= 4:
        assert set(np.unique(affine.codes_of(arrays, quantizer.bits))) == set(range(2**quantizer.bits))
    assert config_entry(quantizer, arrays) == {"group_size": group, "bits": quantizer.bits}
    assert config_entry(quantizer, encode(quantizer, weights(4, 172))) is None
