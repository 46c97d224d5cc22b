"""The matrix that a layer's description stands for, part by part in plain numpy: what every kernel is held to.

Slow, and in the order of the definition in `layer`. A method's `decode` gives the same matrix by its own way.
"""

from typing import assert_never

import numpy as np

from pytest_quantbench.quantizers.layer import Codebooks, Columns, Grid, Layer, Matrix, Microscaled, Rotation
from pytest_quantbench.quantizers.numerics import affine_rounding, hadamard, microscaled_formats


def matrix(layer: Layer) -> Matrix:
    """(out, in) float32 with y = r(x) Wᵀ, where r is the layer's rule for inputs. The layer has a grid.

    Scales of the inputs are scales of the matrix's columns here, which is the same where there is no rule beside them.
    """
    assert layer.grid is not None
    dense = grid_matrix(layer.grid)
    if layer.rotation is None:
        dense = dense[:, : layer.grid.in_features]  # what rows are padded with meets inputs that are not there
    if layer.scale is not None:
        dense = dense * layer.scale.astype(np.float32)
    if layer.columns is not None:
        dense = _with_columns(dense, layer.columns)
    if layer.sparse is not None:
        np.add.at(dense, tuple(layer.sparse.places.T), layer.sparse.values.astype(np.float32))
    if layer.low_rank is not None:
        dense = dense + layer.low_rank.left.T @ layer.low_rank.right
    if layer.input_scales is not None:
        dense = dense * layer.input_scales.astype(np.float32)
    return dense if layer.rotation is None else _turned_back(dense, layer.rotation)[:, : layer.grid.in_features]


def grid_matrix(grid: Grid) -> Matrix:
    """(out, padded in) float32: what the codes of a grid stand for."""
    if isinstance(grid, Codebooks):
        return _of_codebooks(grid)
    if isinstance(grid, Microscaled):
        return microscaled_formats.decoded(grid.codes, grid.scales, grid.form)
    return affine_rounding.decoded(grid.codes.view(np.uint8), grid.scales, grid.biases, grid.bits)


def _of_codebooks(grid: Codebooks) -> Matrix:
    """(out, padded in). Rows of the last vectors that the matrix does not have are dropped."""
    vectors = np.zeros((*grid.codes.shape[1:], grid.length), np.float32)  # (along outputs, along inputs, length)
    for codes, words in zip(grid.codes, grid.words, strict=True):
        vectors += words.astype(np.float32)[codes]
    match grid.along:
        case "inputs":
            dense = vectors.reshape(len(vectors), -1)
        case "outputs":
            dense = vectors.swapaxes(1, 2).reshape(-1, vectors.shape[1])
        case unknown:
            assert_never(unknown)
    return dense[: grid.out_features] * np.broadcast_to(grid.scales, grid.out_features).astype(np.float32)[:, None]


def _with_columns(dense: Matrix, columns: Columns) -> Matrix:
    """The same with dense weights for some inputs."""
    replaced = dense.copy()
    replaced[:, columns.places] = columns.values.astype(np.float32)
    return replaced


def _turned_back(dense: Matrix, rotation: Rotation) -> Matrix:
    """out signs · Tᵀ G T · in signs, where T is the transform of `hadamard`."""
    inputs = hadamard.transform(dense.T, inverse=True) * rotation.input_signs[:, None]  # (in, out)
    outputs: Matrix = hadamard.transform(inputs.T, inverse=True) * rotation.output_signs[:, None]
    return outputs


def beyond_words(grid: Codebooks, columns: Columns) -> Matrix:
    """(out, count): what dense columns have more than the grid's words in their place, which mean nothing.

    A kernel that adds it to the grid's product need not leave inputs out of that.
    """
    along, length = grid.along == "inputs", grid.length
    held = grid.codes[:, :, columns.places // length if along else columns.places]  # (stages, rows, count)
    words = np.zeros((*held.shape[1:], length), np.float32)
    for book, codes in zip(grid.words, held, strict=True):
        words += book.astype(np.float32)[codes]
    if along:
        found = np.take_along_axis(words, (columns.places % length)[None, :, None], axis=2)[:, :, 0]
    else:
        found = words.swapaxes(1, 2).reshape(-1, len(columns.places))[: grid.out_features]
    scales = np.broadcast_to(grid.scales, grid.out_features).astype(np.float32)[:, None]
    return np.asarray(columns.values.astype(np.float32) - found * scales, np.float32)
