"""Fitting the grids of grouped weights: for every group the scale and bias whose 2^bits levels lie closest to it.

Shared by the methods that store scale × code + bias for each group of a row (see affine). For a given grid the best
codes are the nearest levels, for given codes the best grid is a fitted line, and taking turns lowers the error
(Lloyd 1982, with the levels held evenly spaced). Where this ends depends on where it starts, so `fit` starts
several times. Scales and biases are rounded to their 16 bits before codes are chosen, and every group keeps the best
grid that it met: a result is never worse than its start.

Groups are (out, groups, group) float32, their scales, biases and losses (out, groups).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from pytest_quantbench.quantizers.numerics.bit_packing import Codes
from pytest_quantbench.quantizers.numerics.row_blocks import over_rows
from pytest_quantbench.quantizers.protocol import Array

Matrix = NDArray[np.float32]
Kind: TypeAlias = np.dtype[Any]
FLOAT16, BFLOAT16 = np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16)
TOP = 30  # weights are scaled to a largest one of about 2^TOP, and steps below FLAT count as none: between them lie
FLAT = 2.0**-120  # all steps that a bfloat16 matrix can have beside its largest weight, and their inverses are float32
Starts = tuple[tuple[float, float], ...]
# The first grid's share of the range from the smallest to the largest weight, and its shift in steps. On Gaussian
# groups these eight starts come within 0.06 dB of 80, at 2, 3 and 4 bits.
STARTS: Starts = tuple((share, shift) for share in (1.0, 0.9, 0.8, 0.7) for shift in (-0.25, 0.25))


@dataclass(frozen=True, slots=True, kw_only=True)
class Grids:
    """The grid of every group, and the loss of its weights on it."""

    scales: Matrix
    biases: Matrix
    losses: NDArray[np.float64]

    def better(self, other: "Grids") -> "Grids":
        """Of every group the grid with the smaller loss; this one's where they tie."""
        less = other.losses < self.losses
        return Grids(
            scales=np.where(less, other.scales, self.scales),
            biases=np.where(less, other.biases, self.biases),
            losses=np.where(less, other.losses, self.losses),
        )


class Objective(Protocol):
    """What a grid is to make small: the sum over a group of weights × |error|^power."""

    @property
    def power(self) -> float:
        """The loss of errors in steps, times scale^power, is the loss."""

    @property
    def weights(self) -> Matrix | None:
        """(groups, group): how much each column counts; None where all count alike."""

    def __call__(self, residuals: Matrix, turn: int) -> tuple[Matrix, Matrix]:
        """Residuals in steps → the loss of every group, and the part of the residuals that the grid should follow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Squared:
    """The squared error."""

    weights: Matrix | None = None
    power: float = 2.0

    def __call__(self, residuals: Matrix, turn: int) -> tuple[Matrix, Matrix]:
        """Everything is followed: least squares."""
        weighted = residuals if self.weights is None else residuals * self.weights
        return np.einsum("ijk,ijk->ij", weighted, residuals), residuals


def normalised(weight: Array) -> tuple[Matrix, int]:
    """A float32 copy scaled by a power of two to a largest value below 2^TOP, and the exponent that undoes it."""
    dense = weight.astype(np.float32)
    largest = max(dense.max(initial=0.0), -dense.min(initial=0.0))
    exponent = int(np.frexp(largest)[1]) - TOP
    for part in (exponent // 2, exponent - exponent // 2):  # 2^-exponent itself may not be a float32
        dense *= np.float32(2.0**-part)
    return dense, exponent


def steps(groups: Matrix, bits: int) -> Matrix:
    """The range from the smallest to the largest weight of every group, in equal steps."""
    even: Matrix = (groups.max(2) - groups.min(2)) / np.float32(2**bits - 1)
    return even


def span(groups: Matrix, bits: int) -> tuple[Matrix, Matrix]:
    """The scales and biases of grids from the smallest to the largest weight of every group.

    No step is finer than a 16-bit bias can be placed: 2^-12 of the group's largest weight.
    """
    low, high = groups.min(2), groups.max(2)
    finest = np.maximum(high, -low) * np.float32(2.0**-12)
    return np.maximum((high - low) / np.float32(2**bits - 1), finest), low


def stored_type(steps: Matrix, exponent: int) -> Kind:
    """float16, which has three bits more than bfloat16, if it can hold all grids of such steps × 2^exponent.

    Groups without a range do not count: their bias alone says what they are.
    """
    smallest = np.ldexp(float(steps[steps > FLAT].min(initial=2.0**TOP)), exponent)
    return FLOAT16 if exponent + TOP <= 14 and smallest >= 2.0**-14 else BFLOAT16


def rounded(values: Matrix, kind: Kind) -> Matrix:
    """The nearest numbers with the significant bits of a 16-bit type, whatever their exponent."""
    dropped = 13 if kind == FLOAT16 else 16
    bits = np.ascontiguousarray(values).view(np.uint32)
    odd = bits >> dropped & 1
    return ((bits + (odd + np.uint32((1 << dropped - 1) - 1))) & np.uint32(-(1 << dropped) & 0xFFFFFFFF)).view(
        np.float32
    )


def nearest(
    groups: Matrix, scales: Matrix, biases: Matrix, bits: int, room: tuple[Matrix, Matrix] | None = None
) -> tuple[Matrix, Matrix]:
    """The codes of all weights, as float32, and the residuals: weight = scale × (code + residual) + bias.

    They are written into the two arrays of `room`, if given.
    """
    codes, residuals = room or (np.empty_like(groups), np.empty_like(groups))
    real = scales > FLAT
    inverse = real / np.where(real, scales, np.float32(1))
    np.subtract(groups, biases[:, :, None], out=residuals)
    np.multiply(residuals, inverse[:, :, None], out=residuals)
    np.rint(residuals, out=codes)
    np.clip(codes, 0, 2**bits - 1, out=codes)
    return codes, np.subtract(residuals, codes, out=residuals)


def descend(
    groups: Matrix, start: tuple[Matrix, Matrix], bits: int, kind: Kind, objective: Objective, turns: int
) -> Grids:
    """The best grids that `turns` alternations of nearest codes and fitted lines meet. O(turns × weights)."""
    scales, biases = start
    room = np.empty_like(groups), np.empty_like(groups)
    best = None
    for turn in range(turns + 1):
        scales, biases = rounded(scales, kind), rounded(biases, kind)
        codes, residuals = nearest(groups, scales, biases, bits, room)
        losses, followed = objective(residuals, turn)
        found = Grids(scales=scales, biases=biases, losses=losses * scales.astype(np.float64) ** objective.power)
        best = found if best is None else best.better(found)
        if turn < turns:
            scales, biases = _line(codes, followed, found, objective.weights, kind)
    assert best is not None
    return best


def _line(codes: Matrix, followed: Matrix, grids: Grids, weights: Matrix | None, kind: Kind) -> tuple[Matrix, Matrix]:
    """The weighted least squares line through code → code + followed, as a scale and the bias best with it."""
    share = np.float32(1 / codes.shape[2]) if weights is None else 1 / weights.sum(1)
    mean, drift = (_sums(values, weights) * share for values in (codes, followed))
    counted = codes if weights is None else codes * weights
    variance = np.einsum("ijk,ijk->ij", counted, codes) * share - mean**2
    covariance = np.einsum("ijk,ijk->ij", counted, followed) * share - mean * drift
    slope = np.where(variance > 1e-4, covariance / np.maximum(variance, np.float32(1e-4)), 0)
    scales = rounded(grids.scales * np.maximum(1 + slope, np.float32(0.1)), kind)
    return scales, grids.biases + grids.scales * (mean + drift) - scales * mean


def _sums(values: Matrix, weights: Matrix | None) -> Matrix:
    """The weighted sum of every group."""
    ones = np.broadcast_to(np.float32(1), values.shape[1:])
    sums: Matrix = np.einsum("ijk,jk->ij", values, ones if weights is None else weights)
    return sums


def blockwise(groups: Matrix, solve: Callable[[slice], Grids]) -> Grids:
    """Solve a few rows at a time, on several cores at once. `solve` gets their place in the array."""
    found = over_rows(solve, len(groups), groups[0].size)
    return Grids(
        scales=np.concatenate([grids.scales for grids in found]),
        biases=np.concatenate([grids.biases for grids in found]),
        losses=np.concatenate([grids.losses for grids in found]),
    )


def fit(
    groups: Matrix,
    bits: int,
    kind: Kind,
    objective: Objective,
    starts: Starts = STARTS,
    turns: tuple[int, int] = (4, 0),
) -> Grids:
    """The best grids of several starts, so many turns for each and then for the best. O(starts × weights)."""
    widest, low = span(groups, bits)
    best = None
    for share, shift in starts:
        scales = widest * np.float32(share)
        biases = low + (widest - scales) * np.float32((2**bits - 1) / 2) + scales * np.float32(shift)
        grids = descend(groups, (scales, biases), bits, kind, objective, turns[0])
        best = grids if best is None else best.better(grids)
    assert best is not None
    return (
        best.better(descend(groups, (best.scales, best.biases), bits, kind, objective, turns[1])) if turns[1] else best
    )


def codes_of(groups: Matrix, grids: Grids, bits: int) -> Codes:
    """(out, in) codes of the nearest levels."""
    codes = nearest(groups, grids.scales, grids.biases, bits)[0]
    return codes.astype(np.uint8).reshape(len(groups), -1)


def stored(grids: Grids, kind: Kind, exponent: int) -> tuple[Array, Array]:
    """Scales and biases × 2^exponent in their 16-bit type."""
    return np.ldexp(grids.scales, exponent).astype(kind), np.ldexp(grids.biases, exponent).astype(kind)
