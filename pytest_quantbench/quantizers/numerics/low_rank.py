"""Low-rank products whose two factors are stored in a few bits: how they start, are fitted, quantized and packed.

A product is leftᵀ · right with `left` (rank, out) and `right` (rank, in); a row of each is a component. A factor's
values are scale × code with signed codes and a 16-bit scale for every 64 entries of a row: 4.25 bits per entry with
4-bit codes, 8.25 with 8-bit ones.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pytest_quantbench.quantizers.layer import LowRank
from pytest_quantbench.quantizers.numerics.bit_packing import pack, unpack
from pytest_quantbench.quantizers.numerics.grid_fitting import Kind, Matrix, rounded
from pytest_quantbench.quantizers.numerics.row_blocks import over_rows
from pytest_quantbench.quantizers.protocol import Array, Arrays

GROUP = 64  # entries that share a scale
SHARES = np.array([1.0, 0.9, 0.8, 0.7], np.float32)  # of a group's largest entry that its levels may reach
TINY = np.finfo(np.float32).tiny


@dataclass(frozen=True, slots=True, kw_only=True)
class Factor:
    """One side of a product, quantized: value = scale × (code − 2^(bits − 1))."""

    bits: int
    codes: NDArray[np.uint8]  # (rank, length rounded up to groups)
    scales: Matrix  # (rank, groups)
    values: Matrix  # (rank, length)

    @property
    def stored_bits(self) -> int:
        """What packed codes and 16-bit scales take."""
        rank, length = self.values.shape
        return cost(rank, length, self.bits)


Sides = tuple[Matrix, Matrix]  # left and right, not quantized
Factors = tuple[Factor, Factor]


def cost(rank: int, length: int, bits: int) -> int:
    """Stored bits of a factor."""
    return rank * -(-length // GROUP) * (GROUP * bits + 16)


def product(sides: Sides, rows: slice = slice(None)) -> Matrix:
    """The dense product, or some rows of it."""
    left, right = sides
    dense: Matrix = left[:, rows].T @ right
    return dense


def values(factors: Factors) -> Sides:
    """What both sides decode to."""
    left, right = factors
    return left.values, right.values


def principal(dense: Matrix, weights: Matrix | None, rank: int, seed: int) -> Sides:
    """The best approximation (rank, out), (rank, in) of a matrix whose columns' squared errors count by `weights`.

    Randomized SVD with two power iterations (Halko, Martinsson and Tropp 2011). O(rank × out × in).
    """
    shape = min(rank + 8, *dense.shape), dense.shape[1]
    right = np.random.default_rng(seed).standard_normal(shape, np.float32)
    if weights is not None:
        right /= np.sqrt(np.maximum(weights, TINY))
    for _ in range(3):
        left, right = closer(right, dense, weights)
    return left[:rank], right[:rank]


def closer(right: Matrix, dense: Matrix, weights: Matrix | None) -> Sides:
    """One step of subspace iteration: the best left side for this right one, then the best right one for that.

    Components come out orthogonal, the largest first, with left entries of the order of 1. O(rank × out × in).
    """
    weighted: Matrix = right if weights is None else right * weights
    across: Matrix = dense @ weighted.T  # (out, rank)
    powers, axes = _axes(across.T, None)
    lengths = np.sqrt(np.maximum(powers, 1e-14 * powers[0] + TINY))  # those of nothing stay about 0
    basis: Matrix = across @ (axes / lengths).astype(np.float32)
    core: Matrix = basis.T @ dense
    if weights is not None:
        core *= weights > 0
    turned = _axes(core, weights)[1].astype(np.float32)
    length = np.float32(math.sqrt(len(dense)))
    return (basis @ turned).T * length, turned.T @ core / length


def _axes(side: Matrix, weights: Matrix | None) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Principal axes of the rows of (rank, length), largest first: Σ squares along each, and axes in columns.

    From the Gram matrix, in float64, for squares take twice the digits; many small QR steps would take longer.
    """
    exact = side.astype(np.float64)
    powers, axes = np.linalg.eigh(exact @ (exact if weights is None else exact * weights).T)
    return powers[::-1], axes[:, ::-1]


def quantized(values: Matrix, bits: int, kind: Kind, weights: Matrix | None = None) -> Factor:
    """Nearest codes (rank, length), for each group with the best of a few scales. Its largest entry is the lowest code.

    `weights` (length,) is what the squared error of each entry counts.
    """
    rank, length = values.shape
    padding = (0, -length % GROUP)
    grouped = np.pad(values, ((0, 0), padding)).reshape(rank, -1, GROUP)
    counted = np.pad(np.ones(length, np.float32) if weights is None else weights, padding).reshape(-1, GROUP)
    largest = np.take_along_axis(grouped, np.abs(grouped).argmax(2)[:, :, None], 2)
    half = 2 ** (bits - 1)
    scales = rounded(largest * (SHARES / np.float32(-half))[:, None, None, None], kind)  # (shares, rank, groups, 1)
    codes = np.clip(np.rint(grouped / np.where(scales == 0, np.float32(1), scales)), -half, half - 1)
    losses = np.einsum("srjk,srjk,jk->srj", grouped - codes * scales, grouped - codes * scales, counted)
    best = losses.argmin(0)[None, :, :, None]
    codes, scales = (np.take_along_axis(each, best, 0)[0] for each in (codes, scales))
    return Factor(
        bits=bits,
        codes=(codes + half).astype(np.uint8).reshape(rank, -1),
        scales=scales[:, :, 0],
        values=(codes * scales).reshape(rank, -1)[:, :length],
    )


def refitted(factors: Factors, dense: Matrix, weights: Matrix | None, kind: Kind) -> Factors:
    """Both sides in turn by least squares against the other, for an (out, in) matrix. O(rank × out × in)."""
    left, right = factors
    weighted: Matrix = right.values if weights is None else right.values * weights
    left = _refitted(left, weighted @ dense.T, weighted @ right.values.T, kind, None)
    right = _refitted(right, left.values @ dense, left.values @ left.values.T, kind, weights)
    return left, right


def _refitted(factor: Factor, products: Matrix, gram: Matrix, kind: Kind, weights: Matrix | None) -> Factor:
    """One component after the other to its optimum beside all others, quantized: the next make up for its error.

    `products` (rank, length) are the other side's with the matrix, `gram` (rank, rank) with itself.
    """
    values, rows = factor.values.copy(), []
    for index in range(len(values)):
        shift = (products[index] - gram[index] @ values) / max(gram[index, index], TINY)
        rows.append(quantized(values[index : index + 1] + shift, factor.bits, kind, weights))
        values[index] = rows[-1].values[0]
    codes, scales = (np.concatenate([getattr(row, name) for row in rows]) for name in ("codes", "scales"))
    return Factor(bits=factor.bits, codes=codes, scales=scales, values=values)


def store(factors: Factors, exponent: int, kind: Kind) -> Arrays:
    """`left`, `right` (rank, length × bits / 8) uint8, `left_scales`, `right_scales` (rank, groups) 16-bit.

    The product is that of `factors` times 2^exponent, shared out so that both sides' scales are of like size.
    """
    sizes = [int(np.frexp(np.abs(factor.scales).max())[1]) for factor in factors]
    power = (sizes[1] + exponent - sizes[0]) // 2
    arrays: Arrays = {}
    for name, shift, factor in zip(("left", "right"), (power, exponent - power), factors, strict=True):
        arrays[name] = pack(factor.codes, factor.bits)
        arrays[f"{name}_scales"] = np.ldexp(factor.scales, shift).astype(kind)
    return arrays


def compensator(arrays: Mapping[str, Array], outs: int, ins: int) -> LowRank | None:
    """The stored product of an (outs, ins) matrix, in float32; None where there is none."""
    if "left" not in arrays:
        return None
    left, right = (_loaded(arrays[name], arrays[f"{name}_scales"]) for name in ("left", "right"))
    return LowRank(left=left[:, :outs], right=right[:, :ins])


def add(dense: Matrix, beside: LowRank) -> None:
    """Add the product to an (out, in) matrix, component after component: the same to the last bit on every machine,
    which no BLAS promises. O(rank × out × in).
    """

    def work(rows: slice) -> None:
        total = np.zeros_like(dense[rows])
        for left, right in zip(beside.left, beside.right, strict=True):
            total += left[rows, None] * right
        dense[rows] += total

    over_rows(work, *dense.shape)


def _loaded(packed: NDArray[np.uint8], scales: Array) -> Matrix:
    """(rank, length rounded up to groups) the values of a factor."""
    bits = packed.shape[1] * 8 // (scales.shape[1] * GROUP)
    codes = unpack(packed, bits).reshape(*scales.shape, GROUP).astype(np.float32) - np.float32(2 ** (bits - 1))
    values = codes * scales.astype(np.float32)[:, :, None]
    return np.asarray(values.reshape(len(packed), -1))
