"""Layers built from descriptions, rows of stored matrices, and embeddings and experts that stay as they are stored."""

import pytest

torch = pytest.importorskip("torch")

import ml_dtypes
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_quantbench.engines.torch import layers
from pytest_quantbench.engines.torch.embeddings import SPREAD, Embedding, Stack, Table, joined
from pytest_quantbench.engines.torch.kernels.dense import DECODED, decoded
from pytest_quantbench.engines.torch.rotations import Transform
from pytest_quantbench.engines.torch.stored_rows import StoredRows, unpacked
from pytest_quantbench.quantizers import Layer, layer_matrix
from pytest_quantbench.quantizers.layer import (
    Affine,
    Codebooks,
    Columns,
    LowRank,
    Microscaled,
    PerToken,
    Rotation,
    Sparse,
)
from pytest_quantbench.quantizers.numerics import hadamard, microscaled_formats
from pytest_quantbench.quantizers.numerics.bit_packing import pack

CPU = torch.device("cpu")
OUT, IN = 48, 64


def rng_of(seed=0):
    return np.random.default_rng(seed)


def affine(bits, group=32, in_features=IN, dtype=np.float16, outs=OUT, seed=0):
    rng, padded = rng_of(seed), -(-in_features // group) * group
    codes = rng.integers(0, 2**bits, (outs, padded)).astype(np.uint8)
    scales, biases = (rng.normal(size=(outs, padded // group)).astype(dtype) for _ in range(2))
    packed = pack(codes, bits).view(np.uint32)
    return Affine(codes=packed, scales=scales, biases=biases, bits=bits, in_features=in_features)


def microscaled(name):
    form = microscaled_formats.FORMATS[name]
    packed, scales = microscaled_formats.rounded(rng_of().normal(size=(OUT, IN)).astype(np.float32), form)
    return Microscaled(codes=packed, scales=scales, form=form, in_features=IN)


def codebooks(along, wide=False, scales=OUT):
    rng, words = rng_of(1), 400 if wide else 256
    shape = (2, OUT, IN // 8) if along == "inputs" else (2, OUT // 8, IN)
    codes = rng.integers(0, words, shape).astype(np.uint16 if wide else np.uint8)
    return Codebooks(
        codes=codes,
        words=rng.normal(size=(2, words, 8)).astype(np.float16),
        scales=rng.normal(size=scales).astype(np.float32),
        along=along,
        out_features=OUT,
        in_features=IN,
    )


GRIDS = {
    **{f"affine {bits}": affine(bits) for bits in (2, 3, 4, 5, 6, 8)},
    "affine 4 bfloat16": affine(4, dtype=ml_dtypes.bfloat16),
    "padded": affine(3, in_features=50),
    **{name: microscaled(name) for name in ("mxfp4", "mxfp8", "nvfp4")},
    "along inputs": codebooks("inputs"),
    "along outputs": codebooks("outputs", wide=True, scales=1),
}


def beside(in_features=IN):
    """Everything that a layer may have beside its grid, but for rules and rotations."""
    rng = rng_of(2)
    return {
        "input_scales": rng.uniform(0.5, 2, in_features).astype(np.float32),
        "scale": np.array([1.7], np.float32),
        "sparse": Sparse(
            places=np.array([[3, 5], [3, 5], [40, 0]], np.int32), values=np.array([2.0, -1.0, 4.0], np.float16)
        ),
        "low_rank": LowRank(
            left=rng.normal(size=(4, OUT)).astype(np.float32),
            right=rng.normal(size=(4, in_features)).astype(np.float32),
        ),
        "columns": Columns(
            places=np.array([2, 7, 30], np.int32), values=rng.normal(size=(OUT, 3)).astype(ml_dtypes.bfloat16)
        ),
    }


def rotation():
    rng = rng_of(3)
    ins, outs = (rng.choice(np.float32([-1, 1]), n) for n in (IN, OUT))
    return Rotation(input_signs=ins, output_signs=outs)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 8), st.integers(1, 5), st.integers(0, 10**6))
def test_codes_are_unpacked(bits, rows, seed):
    codes = rng_of(seed).integers(0, 2**bits, (rows, 32)).astype(np.uint8)
    found = unpacked(torch.from_numpy(pack(codes, bits)), bits)
    np.testing.assert_array_equal(found.numpy(), codes)


@pytest.mark.parametrize("parts", [False, True])
@pytest.mark.parametrize("name", GRIDS)
def test_rows_are_those_of_the_definition(name, parts):
    grid = GRIDS[name]
    layer = Layer(grid=grid, **(beside(grid.in_features) if parts else {}))
    expected = layer_matrix.matrix(layer)
    rows, numbers = StoredRows(layer, CPU), [5, 40, 3, 3, OUT - 1, 0]
    np.testing.assert_allclose(rows(torch.tensor(numbers)).numpy(), expected[numbers], atol=1e-5, rtol=1e-5)
    np.testing.assert_allclose(layers.matrix(layer, CPU), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("length", [1, 6, 64, 48, 172, 768])
@pytest.mark.parametrize("inverse", [False, True])
def test_transforms_are_those_of_the_definition(length, inverse):
    rows = rng_of().normal(size=(3, length)).astype(np.float32)
    found = Transform(length, CPU, torch.float32, inverse=inverse)(torch.from_numpy(rows)).numpy()
    np.testing.assert_allclose(found, hadamard.transform(rows.T, inverse=inverse).T, atol=1e-5)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(
    "parts", [(), ("input_scales", "scale", "low_rank"), ("columns",), ("sparse",), tuple(beside())]
)
@pytest.mark.parametrize("kernel", ["chosen", "grid alone"])
def test_outputs_are_products_with_the_matrix(parts, turned, kernel, monkeypatch):
    """By the kernel that is chosen, which may cover parts itself, and by one that has the grid alone."""
    layer = Layer(grid=affine(4), rotation=rotation() if turned else None, **{p: beside()[p] for p in parts})
    if kernel == "grid alone":

        def only_the_grid(layer, decode, device, dtype):
            product = decoded(Layer(grid=layer.grid), lambda: layer_matrix.grid_matrix(layer.grid), device, dtype)
            product.covers = frozenset({"grid"})
            return product

        monkeypatch.setattr(layers, "product_for", only_the_grid)
    expected, inputs = layer_matrix.matrix(layer), rng_of(4).normal(size=(2, 3, IN)).astype(np.float32)
    found = layers.outputs(layer, lambda: expected, inputs, CPU)
    np.testing.assert_allclose(found, inputs @ expected.T, atol=2e-3, rtol=2e-4)
    np.testing.assert_allclose(layers.matrix(layer, CPU), expected, atol=1e-4, rtol=1e-5)


def test_inputs_are_rounded_before_the_product():
    rule, inputs = PerToken(bits=8), rng_of(5).normal(size=(4, IN)).astype(np.float32)
    layer = Layer(grid=affine(8), input_rule=rule)
    matrix = layer_matrix.matrix(Layer(grid=layer.grid))
    found = layers.outputs(layer, lambda: matrix, inputs, CPU)
    np.testing.assert_allclose(found, rule.rounded(inputs) @ matrix.T, atol=2e-3, rtol=2e-4)


def test_a_layer_without_a_grid_is_decoded_and_says_so():
    matrix = rng_of().normal(size=(OUT, IN)).astype(np.float32)
    bias = torch.arange(float(OUT))
    rule = PerToken(bits=8)
    built = layers.linear(Layer(input_rule=rule), lambda: matrix, CPU, torch.float32, bias)
    assert built.kernel == DECODED
    assert layers.decoded(Layer(), CPU) is None
    x = rng_of(1).normal(size=(2, IN)).astype(np.float32)
    expected = rule.rounded(x) @ matrix.T + bias.numpy()
    np.testing.assert_allclose(built(torch.from_numpy(x)).numpy(), expected, atol=1e-3)
    assert built.bytes_per_token == matrix.nbytes + bias.nbytes


class Scaled(torch.nn.Embedding):  # type: ignore[name-defined]
    """A model's own embedding, which does more than to look up."""

    def forward(self, tokens):
        return super().forward(tokens) * 3


@pytest.mark.parametrize("kind", [torch.nn.Embedding, Scaled])
def test_embeddings_are_decoded_row_by_row(kind):
    layer = Layer(grid=affine(4), low_rank=beside()["low_rank"])
    original = kind(OUT, IN, padding_idx=0)
    original.weight = torch.nn.Parameter(torch.from_numpy(layer_matrix.matrix(layer)), requires_grad=False)
    tokens = torch.tensor([[0, 7, 7], [47, 1, 2]])
    expected = original(tokens)
    held = StoredRows(layer, CPU)
    embedding = Embedding(original, held, torch.float32)
    torch.testing.assert_close(embedding(tokens), expected, atol=1e-5, rtol=1e-5)
    stored = sum(buffer.nbytes for buffer in held.buffers())
    assert embedding.bytes_per_token == stored // OUT
    assert stored < expected.element_size() * OUT * IN
    plain = Embedding(kind(OUT, IN), Table(torch.from_numpy(layer_matrix.matrix(layer))), torch.float32)
    torch.testing.assert_close(plain(tokens), expected, atol=1e-5, rtol=1e-5)


def test_experts_are_decoded_when_they_are_chosen():
    each = [Layer(grid=affine(4, seed=seed)) for seed in range(3)]
    grid = joined(each)
    stack = Stack(grid, 3, CPU, torch.float32)
    expected = torch.from_numpy(np.stack([layer_matrix.matrix(layer) for layer in each]))
    assert stack.shape == expected.shape
    torch.testing.assert_close(stack[1], expected[1])
    torch.testing.assert_close(stack[torch.tensor(2)], expected[2])
    torch.testing.assert_close(stack[torch.tensor([2, 0, 2])], expected[[2, 0, 2]])
    stored = each[0].grid.codes.nbytes + 2 * each[0].grid.scales.nbytes
    assert stack.bytes_per_expert == stored + OUT * IN * SPREAD  # and what is left of decoding it


def test_experts_of_unlike_kinds_are_not_joined():
    assert joined([Layer(grid=affine(4)), Layer(grid=affine(3))]) is None
    assert joined([Layer(grid=affine(4)), Layer(grid=affine(4), scale=np.ones(1, np.float32))]) is None
    assert joined([Layer(grid=affine(4)), Layer(grid=affine(4, dtype=np.float32))]) is None
    assert joined([Layer(grid=codebooks("inputs"))] * 2) is None
    assert joined([None, Layer(grid=affine(4))]) is None
