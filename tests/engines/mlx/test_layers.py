"""What MLX builds of a described layer, and what it decodes it to, against the method's own decode."""

from dataclasses import replace

import ml_dtypes
import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest

from pytest_quantbench import quantizers
from pytest_quantbench.catalog.recipes import Part
from pytest_quantbench.engines.mlx import layers
from pytest_quantbench.engines.mlx.arrays import as_mlx, to_mlx, to_numpy
from pytest_quantbench.engines.mlx.engine import MlxEngine
from pytest_quantbench.errors import QuantbenchError
from pytest_quantbench.quantizers import Fixed, Layer, LowRank, PerToken, Sparse
from pytest_quantbench.quantizers.encoding import Encoding, join
from pytest_quantbench.quantizers.mlx_form import config_entry
from pytest_quantbench.quantizers.numerics import affine
from pytest_quantbench.quantizers.rtn import Rtn
from pytest_quantbench.workbench.side_by_side import methods
from pytest_quantbench.workbench.trials import gaussian, statistics

GRID_ALONE = {"rtn", "gptq", "hqq"}


def encoded(method, bits, shape=(24, 96)):
    codec = quantizers.make(Part(quantizer=method, parameters={"bits": bits}))
    return codec, codec.encode(gaussian(shape), statistics(codec, shape[1]), 0)


@pytest.mark.parametrize("kind", [np.uint8, np.int32, np.uint32, np.float16, np.float32, ml_dtypes.bfloat16])
def test_arrays_go_to_mlx_and_back(kind):
    array = np.arange(-3, 9).reshape(3, 4).astype(kind)
    for given in (array, array[:, 1:3], array.T):
        there = to_mlx(given)
        assert str(there.dtype).removeprefix("mlx.core.") == given.dtype.name
        back = to_numpy(there)
        assert back.dtype == given.dtype
        np.testing.assert_array_equal(back, given)
        assert not back.flags.writeable


def test_a_type_that_mlx_would_change_is_refused():
    with pytest.raises(QuantbenchError, match="float64 cannot be stored"):
        to_mlx(np.zeros(3))


@pytest.mark.parametrize("method", sorted({name for name, _, _ in methods()}))
def test_mlx_opens_what_is_stored_as_its_own_and_nothing_else(method):
    bits = 8 if method in ("int8", "mxfp8") else 4
    codec, arrays = encoded(method, bits)
    expected = {"group_size": 32, "bits": bits}
    entry = config_entry(codec.layer(arrays), arrays)
    if method in ("mxfp4", "mxfp8"):
        assert entry == expected | {"mode": method}
    else:
        assert entry == (expected if method in GRID_ALONE or (method == "milo" and "left" not in arrays) else None)


@pytest.mark.parametrize("method", ["rtn", "mxfp4", "mxfp8"])
def test_padding_keeps_mlx_from_opening_it(method):
    codec, arrays = encoded(method, 8 if method == "mxfp8" else 4, (8, 60))
    assert config_entry(codec.layer(arrays), arrays) is None


def test_what_is_a_grid_alone_is_mlx_s_own_layer():
    for method, kind in (("rtn", nn.QuantizedLinear), ("int8", nn.QuantizedLinear), ("awq", layers.Around)):
        codec, arrays = encoded(method, 8, (32, 128))
        assert type(layers.native(Encoding(codec=codec, arrays=arrays, shape=(32, 128)))) is kind


def parts():
    """A layer with every part that there is, and what it should compute, written out."""
    rng = np.random.default_rng(0)
    arrays = Rtn(bits=4).encode(gaussian((6, 50)), None, 0)
    layer = Layer(
        grid=affine.grid(arrays, 4),
        input_scales=rng.uniform(0.5, 2, 50).astype(np.float16),
        scale=np.array([3], np.float32),
        sparse=Sparse(places=np.array([[1, 2], [5, 49]], np.int32), values=np.array([0.5, -2], np.float32)),
        low_rank=LowRank(left=rng.standard_normal((2, 6), np.float32), right=rng.standard_normal((2, 50), np.float32)),
    )
    matrix = 3 * Rtn(bits=4).decode(arrays) + layer.low_rank.left.T @ layer.low_rank.right
    matrix[1, 2] += 0.5
    matrix[5, 49] -= 2
    return layer, matrix


@pytest.mark.parametrize("rule", [None, PerToken(bits=8), Fixed(step=0.02, zero=100, bits=8)], ids=repr)
def test_every_part_of_a_layer_does_its_share(rule):
    layer, matrix = parts()
    layer = replace(layer, input_rule=rule)
    x = np.random.default_rng(1).standard_normal((2, 3, 50), np.float32)
    scaled = x * layer.input_scales.astype(np.float32)
    expected = (scaled if rule is None else rule.rounded(scaled)) @ matrix.T
    found = MlxEngine().outputs(layer, lambda: matrix, x)
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-4 * np.abs(expected).max())
    decoded = MlxEngine().matrix(layer)
    np.testing.assert_allclose(decoded, matrix * layer.input_scales.astype(np.float32), rtol=1e-4, atol=1e-5)


def test_a_bias_is_added_to_every_kind_of_layer():
    layer, matrix = parts()
    x, bias = mx.random.normal((4, 50)), mx.arange(6).astype(mx.float32)
    for described in (layer, Layer(input_rule=PerToken(bits=8)), Layer(grid=layer.grid)):
        plain, biased = (layers.module(described, lambda: matrix) for _ in range(2))
        biased["bias"] = bias
        for each in (plain, biased):
            each.set_dtype(mx.float32)
        np.testing.assert_allclose(np.array(biased(x)), np.array(plain(x) + bias), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("method", ["rtn", "int8", "mxfp4", "nvfp4", "dynamic", "identity"])
def test_experts_are_mlx_s_own_where_all_are_grids_alone(method):
    codec = quantizers.make(Part(quantizer=method, parameters={"bits": 8} if method == "int8" else {"bits": 4}))
    made = [codec.encode(gaussian((32, 64), seed), None, 0) for seed in range(3)]
    encoding = Encoding(codec=codec, arrays=join(made), shape=(3, 32, 64))
    experts = layers.native_experts(encoding)
    assert (experts is not None) == (method in ("rtn", "int8", "mxfp4"))
    if experts is not None:
        experts.set_dtype(mx.float32)
        x = np.random.default_rng(0).standard_normal((5, 1, 64), np.float32)
        chosen = np.array([0, 2, 1, 1, 0])
        found = np.array(experts(mx.array(x), mx.array(chosen)))
        expected = x @ encoding.dense()[chosen].transpose(0, 2, 1)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("accelerated", [False, True])
@pytest.mark.parametrize("method", ["rtn", "int8", "awq", "nvfp4", "vptq", "dynamic", "identity"])
def test_a_walk_gets_what_decode_gives_on_every_device(method, accelerated, monkeypatch):
    """On an accelerator by MLX's own kernels, where there is a grid."""
    monkeypatch.setattr(layers, "backend", lambda: "metal" if accelerated else "cpu")
    codec = quantizers.make(
        Part(quantizer=method, parameters={"bits": 8} if method in ("int8", "dynamic") else {"bits": 4})
    )
    made = [codec.encode(gaussian((16, 60), seed), statistics(codec, 60), 0) for seed in range(2)]
    for arrays, shape in ((made[0], (16, 60)), (join(made), (2, 16, 60))):
        encoding = Encoding(codec=codec, arrays=arrays, shape=shape)
        dense, expected = (
            np.array(as_mlx(layers.dense(encoding)).astype(mx.float32)),
            encoding.dense().astype(np.float32),
        )
        assert dense.shape == shape
        if not accelerated or method in ("vptq", "dynamic", "identity"):
            np.testing.assert_array_equal(dense, expected)
        np.testing.assert_allclose(dense, expected, rtol=1e-5, atol=1e-6 * np.abs(expected).max())


@pytest.mark.parametrize("dtype", [mx.float16, mx.bfloat16, mx.float32])
def test_what_comes_to_the_host_is_the_same(dtype):
    array = mx.random.normal((3, 5)).astype(dtype)
    found = MlxEngine(host=False).to_host(array)
    assert found.dtype.name == str(dtype).removeprefix("mlx.core.")
    np.testing.assert_array_equal(found.astype(np.float32), np.array(array.astype(mx.float32)))
    assert MlxEngine(host=False).to_host(found) is found
