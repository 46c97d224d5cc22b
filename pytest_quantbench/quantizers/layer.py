"""How a quantized matrix is run without decoding it first: a description in arrays, of which engines build layers.

A layer maps inputs x (…, in) to

    y = scale · grid(r(x · input_scales)) + what `sparse` and `low_rank` add to the matrix, times the same inputs

where r puts the inputs on a grid of their own (`input_rule`). A part that is None is not there. With `columns`, some
inputs do not go through the grid, but through a dense matrix of their own. With a `rotation`, what is above is that of
the rotated matrix: inputs are rotated before it, its outputs are rotated back. Which kernels run it is the engine's
business; the method's `decode` says what the result has to be: y = r(x) Wᵀ.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pytest_quantbench.quantizers.numerics.microscaled_formats import Format
from pytest_quantbench.quantizers.protocol import Array

Matrix = NDArray[np.float32]
LEAST_SCALE = 1e-30  # a token of zeros has a scale, too


@dataclass(frozen=True, slots=True, kw_only=True)
class Affine:
    """weight = code × scale + bias. Rows may be longer than the layer's inputs, which are then padded with zeros."""

    codes: NDArray[np.uint32]  # (out, padded in × bits / 32), a little-endian stream of bits
    scales: Array  # (out, groups) float16, bfloat16 or float32
    biases: Array  # the same
    bits: int
    in_features: int

    @property
    def group(self) -> int:
        """How many weights of a row share a scale and a bias."""
        return int(self.codes.shape[1] * 32 // self.bits // self.scales.shape[1])

    @property
    def middle(self) -> int:
        """The code in the middle of all."""
        return int(2 ** (self.bits - 1))

    @property
    def is_centred(self) -> bool:
        """Whether biases put zero in the middle of the codes: they tell nothing then that scales do not."""
        return np.array_equal(self.biases.astype(np.float32), -self.middle * self.scales.astype(np.float32))


@dataclass(frozen=True, slots=True, kw_only=True)
class Microscaled:
    """weight = code × scale in one of the microscaling formats. Rows may be longer than the layer's inputs."""

    codes: NDArray[np.uint32]  # (out, padded in × bits / 32)
    scales: NDArray[np.uint8]  # (out, groups)
    form: Format
    in_features: int

    @property
    def bits(self) -> int:
        """Of a code."""
        return self.form.bits

    @property
    def group(self) -> int:
        """How many weights of a row share a scale."""
        return self.form.group


@dataclass(frozen=True, slots=True, kw_only=True)
class Codebooks:
    """Vectors of weights, each the sum of one word of every codebook, times the scale of its row.

    A vector is `length` consecutive weights along a row (`along` = "inputs"), or of as many consecutive rows for one
    and the same input (`along` = "outputs"). Rows, or inputs, beyond those of the matrix are dropped. A codebook that
    has fewer words than the largest is filled up with zeros, which no code names.
    """

    codes: NDArray[np.uint8] | NDArray[np.uint16]  # (stages, vectors along the outputs, vectors along the inputs)
    words: Array  # (stages, words, length) float16 or float32
    scales: Array  # (out,), or (1,) for all rows
    along: Literal["inputs", "outputs"]
    out_features: int
    in_features: int

    @property
    def length(self) -> int:
        """How many weights a vector has."""
        return int(self.words.shape[2])

    @property
    def bits(self) -> int:
        """Of the codes that one vector takes as they are here, over all stages."""
        return len(self.codes) * int(self.words.shape[1] - 1).bit_length()


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Inputs that do not go through the grid (whose weights for them mean nothing) but through dense weights.

    They are inputs as the grid has them: after `input_scales` and `input_rule`. The layer's `scale` is not theirs.
    """

    places: NDArray[np.int32]  # (count,) inputs, ascending
    values: Array  # (out, count)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotation:
    """The grid is that of a rotated matrix G = T(out signs · W · in signs): W x = out signs · T⁻¹ G T (in signs · x).

    T is the orthogonal Hadamard transform of `numerics.hadamard`, in blocks where a length has none.
    """

    input_signs: Matrix  # (padded in,): 1 or −1; inputs are padded with zeros up to it
    output_signs: Matrix  # (out,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sparse:
    """Single weights that are added to the matrix."""

    places: NDArray[np.int32]  # (count, 2): row and column
    values: Array  # (count,)

    def by_row(self) -> tuple[NDArray[np.int32], Array]:
        """Places and values, row after row."""
        order = np.argsort(self.places[:, 0], kind="stable")
        return self.places[order], self.values[order]


@dataclass(frozen=True, slots=True, kw_only=True)
class LowRank:
    """A product leftᵀ · right that is added to the matrix."""

    left: Matrix  # (rank, out)
    right: Matrix  # (rank, in)


@dataclass(frozen=True, slots=True, kw_only=True)
class PerToken:
    """Each token's inputs are rounded to symmetric integers of `bits`, with a scale from its own largest value."""

    bits: int

    @property
    def top(self) -> int:
        """The largest integer."""
        return int(2 ** (self.bits - 1)) - 1

    def rounded(self, inputs: Matrix) -> Matrix:
        """(…, in) → (…, in): values that the grid can express. Engines compute the same."""
        scales = np.maximum(np.abs(inputs).max(axis=-1, keepdims=True) / np.float32(self.top), np.float32(LEAST_SCALE))
        return np.asarray(np.rint(inputs / scales) * scales)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fixed:
    """All inputs lie on one grid: (code − zero) × step, with codes from 0 to 2^bits − 1."""

    step: float
    zero: float
    bits: int

    @property
    def top(self) -> int:
        """The largest code."""
        return int(2**self.bits) - 1

    def rounded(self, inputs: Matrix) -> Matrix:
        """(…, in) → (…, in): values that the grid can express, cut off at its ends. Engines compute the same."""
        step, zero = np.float32(self.step), np.float32(self.zero)
        return np.asarray((np.clip(np.rint(inputs / step) + zero, 0, self.top) - zero) * step)


InputRule: TypeAlias = PerToken | Fixed
Grid: TypeAlias = Affine | Microscaled | Codebooks


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """What a quantized matrix consists of."""

    grid: Grid | None = None  # None: the decoded matrix
    input_scales: Array | None = None  # (in,): inputs are multiplied by them
    input_rule: InputRule | None = None
    scale: Array | None = None  # (1,): one number for all outputs of the grid
    sparse: Sparse | None = None
    low_rank: LowRank | None = None
    columns: Columns | None = None
    rotation: Rotation | None = None

    @property
    def is_grid_alone(self) -> bool:
        """Whether there is nothing beside the grid, and no padding in it."""
        beside = (
            self.input_scales,
            self.input_rule,
            self.scale,
            self.sparse,
            self.low_rank,
            self.columns,
            self.rotation,
        )
        return self.grid is not None and not padding(self.grid) and all(part is None for part in beside)


def padding(grid: Grid) -> int:
    """By how much the rows of a grid are longer than the layer's inputs."""
    if isinstance(grid, Codebooks):
        return int(grid.codes.shape[2]) * (grid.length if grid.along == "inputs" else 1) - grid.in_features
    return int(grid.codes.shape[1] * 32 // grid.bits - grid.in_features)


def row_length(arrays: Mapping[str, Array], stored: int) -> int:
    """The row length before padding, as methods store it (`in_features`); `stored`: that of the arrays."""
    return int(arrays["in_features"][0]) if "in_features" in arrays else stored
