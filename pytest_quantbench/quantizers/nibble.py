"""Four bits with a float16 scale per group of weights, and the few super weights of a model kept exactly.

Source: the format is symmetric rounding by GGML's Q4_0 rule, 16 levels of which −8 has no counterpart: the scale is
signed so that a group's largest weight can lie on −8 and no level is idle. Super weights: Yu et al. 2024, "The Super
Weight in Large Language Models" (arXiv 2411.07191).

The scale of a group is searched for the least Σ h (w − ŵ)², where h is the mean square of each input over the
calibration (the Hessian's diagonal; all equal without calibration). Every candidate gives codes, and these their
least-squares scale. Where inputs matter alike, it is enough to let the largest weight fall between 6.5 and 9.5 levels
below zero; where a few inputs outweigh the others, the best scale is one whose levels their weights happen to hit, and
may lie far off: from 5 to 24 levels on either side. Both searches end within 1 % of the least error that any scale
has. Errors are not passed on to other columns: that is `gptq`.

A super weight is a scalar that carries a spike from a single input to a single output. As in the paper, it is found
on the calibration's largest inputs: where an output stands far above its token's others, and the product of one weight
and an input that stands as far above its own others is enough to do so. The outputs are then computed anew without
that weight, up to `super_weights` times. It is stored as it was, and takes no part in its group's scale.

Where we differ from the paper: it reads the spikes of down_proj off a plot with an absolute threshold; here any matrix
can have them, and a spike is SPIKE times the root mean square of the smaller nine tenths of the token's values, so
that neither units nor model matter (Gaussian values end at 8 times that). Its clipping of ordinary outliers is left
to the search for scales.

Cost: O(out × in) per candidate, 13 without calibration and 48 with. Storage: 4 + 16 / group bits per weight, 10 or 12
bytes per super weight, and one byte per row where a scale is outside float16's precise range.
"""

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pytest_quantbench.errors import QuantbenchError
from pytest_quantbench.quantizers.layer import Layer, Sparse
from pytest_quantbench.quantizers.numerics import affine
from pytest_quantbench.quantizers.numerics.bit_packing import pack
from pytest_quantbench.quantizers.protocol import Array, Arrays, Calibration, Quantizer, Statistics, check_width

BITS = 4
LOWEST, HIGHEST = -8, 7
# Where a group's largest weight falls in the candidates, in levels below zero. What is nearest to 8 wins ties.
PLAIN = sorted(np.arange(6.5, 9.75, 0.25).tolist(), key=lambda reach: abs(reach - 8))
CALIBRATED = sorted(np.outer([1, -1], np.geomspace(5, 24, 24)).ravel().tolist(), key=lambda reach: abs(reach - 8))
FLOOR = 0.01  # × the median importance is the least: an input that calibration never saw still counts
TILE_ROWS = 8192  # long enough that threads seldom wait for each other
CODE_ROWS = 128
SPIKE = 25  # × the background of a token's values
Matrix = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Nibble(Quantizer):
    """Codes from −8 to 7, one signed scale per `group_size` weights of a row, at most `super_weights` kept scalars."""

    bits: int = BITS
    group_size: int = 32
    super_weights: int = 6

    name: ClassVar[str] = "nibble"
    version: ClassVar[int] = 1
    calibration: ClassVar[Calibration] = "optional"

    def __post_init__(self) -> None:
        check_width(self.name, self.bits, BITS)
        affine.check(self.name, BITS, self.group_size)
        if self.super_weights < 0:
            raise QuantbenchError(f"nibble cannot keep super_weights = {self.super_weights}; give 0 or more.")

    def note(self, weight_shape: tuple[int, int], arrays: Mapping[str, Array]) -> str:
        """What was done otherwise for an (out, in) matrix, such as padding; empty if nothing."""
        return affine.note(weight_shape[1], self.group_size, BITS)

    def encode(self, weight: Array, statistics: Statistics | None, seed: int) -> Arrays:
        """(out, in) float → `weight` (out, in / 8) uint32, `scales` (out, in / group) float16.

        Where there are any: `super_places` (count, 2) int32 rows and columns and `super_values` (count,) in the
        weight's type; `exponents` (out, 1) int8, powers of two of the scales; `in_features` (1,) int32 of padded rows.
        """
        rest, in_features = weight.astype(np.float32), weight.shape[1]
        places = [] if statistics is None else take_super_weights(rest, statistics.peaks, self.super_weights)
        group, padded = affine.fit(in_features, self.group_size, BITS)
        importance = _importance(statistics, in_features)
        if padded != in_features:
            rest = np.pad(rest, ((0, 0), (0, padded - in_features)))
            importance = np.pad(importance, (0, padded - in_features))
        scales = _search(rest, importance, group, PLAIN if statistics is None else CALIBRATED)
        stored, exponents = affine.halved_scales(scales)
        codes = _codes(rest, affine.whole_scales(stored, exponents))
        arrays: Arrays = {"weight": pack(codes, BITS).view(np.uint32), "scales": stored}
        if exponents.any():
            arrays["exponents"] = exponents
        if padded != in_features:
            arrays["in_features"] = np.array([in_features], np.int32)
        if places:
            arrays["super_places"] = np.array(places, np.int32)
            arrays["super_values"] = weight[tuple(arrays["super_places"].T)]
        return arrays

    def decode(self, arrays: Mapping[str, Array]) -> Matrix:
        """The dense (out, in) weight in float32."""
        dense = affine.decode(_affine(arrays), BITS)
        if "super_places" in arrays:
            rows, columns = arrays["super_places"].T
            dense[rows, columns] = arrays["super_values"].astype(np.float32)
        return dense

    def layer(self, arrays: Mapping[str, Array]) -> Layer:
        """A 4-bit affine grid with −8 scales for biases, which is zero at the super weights, and these beside it."""
        supers = "super_places" in arrays
        sparse = Sparse(places=arrays["super_places"], values=arrays["super_values"]) if supers else None
        return Layer(grid=affine.grid(_affine(arrays), BITS), sparse=sparse)


def take_super_weights(rest: Matrix, peaks: Matrix, most: int) -> list[tuple[int, int]]:
    """Find at most `most` super weights of the (out, in) matrix, set them to zero in it, and return their places."""
    input_spikes = np.abs(peaks) > SPIKE * _background(peaks)  # (tokens, in)
    outputs = peaks @ rest.T  # (tokens, out)
    found: list[tuple[int, int]] = []
    while len(found) < most:
        least = SPIKE * _background(outputs)  # (tokens, 1)
        tokens, rows = np.nonzero(np.abs(outputs) > least)
        products = np.where(input_spikes[tokens], rest[rows] * peaks[tokens], 0)  # (spikes, in)
        products *= np.sign(outputs[tokens, rows, None])
        products[products <= least[tokens]] = 0
        if not products.any():
            break
        strongest, column = np.unravel_index(products.argmax(), products.shape)
        found.append((int(rows[strongest]), int(column)))
        rest[found[-1]] = 0
        outputs[:, found[-1][0]] = peaks @ rest[found[-1][0]]
    return found


def _background(values: Matrix) -> NDArray[np.float64]:
    """(tokens, 1): the root mean square of the smaller nine tenths of each token's (features,) magnitudes."""
    features = values.shape[1]
    smaller = np.sort(np.abs(values).astype(np.float64), axis=1)[:, : features - features // 10]
    background: NDArray[np.float64] = np.sqrt(np.mean(smaller**2, axis=1, keepdims=True))
    return background


def _importance(statistics: Statistics | None, in_features: int) -> Matrix:
    """(in,): the Hessian's diagonal, with a floor that a few enormous inputs do not lift; ones without calibration."""
    diagonal = np.ones(in_features, np.float32) if statistics is None else np.diag(statistics.hessian)
    seen = diagonal[diagonal > 0]
    floor = FLOOR * np.median(seen) if seen.size else 1
    importance: Matrix = np.maximum(diagonal, floor).astype(np.float32)
    return importance


def _search(weight: Matrix, importance: Matrix, group: int, reaches: list[float]) -> Matrix:
    """The (out, in / group) scales of an (out, in) matrix, in float32 and signed."""
    out_features, in_features = weight.shape
    scales = np.empty((out_features, in_features // group), np.float32)

    def search(index: int) -> None:
        columns = slice(index * group, (index + 1) * group)
        for top in range(0, out_features, TILE_ROWS):
            rows = slice(top, top + TILE_ROWS)
            tile = np.ascontiguousarray(weight[rows, columns].T)  # (group, rows): a row's scale is along the tile
            scales[rows, index] = _search_tile(tile, importance[columns], reaches)

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # numpy lets other threads run while it computes
        list(pool.map(search, range(scales.shape[1])))
    return scales


def _search_tile(tile: Matrix, importance: Matrix, reaches: list[float]) -> Matrix:
    """The scale of every column of a (group, rows) tile with the least Σ importance (w − ŵ)²."""
    largest = -np.take_along_axis(tile, np.abs(tile).argmax(axis=0)[None], axis=0)[0]  # (rows,)
    largest[largest == 0] = 1
    unit = tile / largest  # the largest weight of each group is −1
    importance = importance / importance.max()
    weighted = unit * importance[:, None]
    best, scales = np.zeros_like(largest), np.zeros_like(largest)
    for reach in [*reaches, None]:
        # at last, once more from the codes that the best scale itself gives
        multiplier = 1 / np.where(scales == 0, np.float32(1), scales) if reach is None else reach
        gain, fitted = _fit(unit * multiplier, weighted, importance)
        better = gain > best
        best[better], scales[better] = gain[better], fitted[better]
    signed: Matrix = scales * largest
    return signed


def _fit(codes: Matrix, weighted: Matrix, importance: Matrix) -> tuple[Matrix, Matrix]:
    """Round (group, rows) to codes c; the best scale for them is Σhwc / Σhc², which gains (Σhwc)² / Σhc².

    Gain means how much of Σhw² it takes off the error. The sums are by einsum and not BLAS, which would start its
    threads for every such small product.
    """
    np.clip(np.rint(codes, out=codes), LOWEST, HIGHEST, out=codes)
    along = np.einsum("gr,gr->r", weighted, codes)
    power = np.einsum("g,gr->r", importance, np.square(codes, out=codes))
    power[power == 0] = 1
    return along * along / power, along / power


def _codes(weight: Matrix, scales: Matrix) -> NDArray[np.uint8]:
    """(out, in) codes from 0 to 15, level + 8, of the nearest levels under the (out, groups) scales as stored."""
    codes = np.empty(weight.shape, np.uint8)
    divisors = np.where(scales == 0, np.float32(np.inf), scales)  # without a scale every level is zero
    group = weight.shape[1] // scales.shape[1]
    for start in range(0, len(weight), CODE_ROWS):
        rows = slice(start, start + CODE_ROWS)
        levels = weight[rows].reshape(-1, scales.shape[1], group) / divisors[rows, :, None]
        np.clip(np.rint(levels, out=levels), LOWEST, HIGHEST, out=levels)
        codes[rows] = levels.reshape(-1, weight.shape[1]) - LOWEST
    return codes


def _affine(arrays: Mapping[str, Array]) -> Arrays:
    """The arrays of MLX's affine storage: a level's code is level + 8, so a bias is −8 scales."""
    scales: Array = arrays["scales"]
    if "exponents" in arrays:
        scales = affine.whole_scales(scales, arrays["exponents"])
    stored = {"weight": arrays["weight"], "scales": scales, "biases": LOWEST * scales}
    return {**stored, "in_features": arrays["in_features"]} if "in_features" in arrays else stored
