"""K-quants: the block formats of llama.cpp's GGUF files, Q2_K to Q6_K, with their scales searched for.

Source: llama.cpp's k-quants (Kawrakow 2023; pull requests 1684 and 2707, and 4861 and 4930 for importance weights).
A row is cut into blocks of 256 weights and those into sub-blocks of 16 or 32. A sub-block's scale (and minimum) is a
small integer times a float16 number of its block, so all scales cost 0.4 to 0.6 bits per weight where float16 scales
and minimums of groups so small would cost 1 to 2. An error counts by √(σ² + w²) of its weight w, σ² being once or
twice the block's mean square, and, where statistics are given, by the mean square of its input: the diagonal of the
Hessian, llama.cpp's "importance matrix".

The search, all sub-blocks at once: the best grids of `kgrids`; integers for their scales and minimums, refitted by
least squares together with the block's numbers; then steps to neighbouring integers, codes rounded anew each time,
wherever the error falls. 22 to 24 roundings of the matrix, O(out × in), 1 to 2 s on one core for 4096².
Storage: 2.625, 3.4375, 4.5, 5.5 or 6.5625 bits per weight.

Where we differ: llama.cpp fits 16 to 37 grids once each and takes no steps; on the same weighted error we are 0.0
(Q3_K) to 0.3 dB better without statistics and 0.3 to 0.8 dB with them. Without statistics it counts errors by other
functions of |w|. Rows that 256 does not divide are padded, where it falls back to other types. Both share the format's
limit: float16 block scales lose digits where weights are around 1e-5 and smaller.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pytest_quantbench.errors import QuantbenchError
from pytest_quantbench.quantizers.layer import Layer, row_length
from pytest_quantbench.quantizers.numerics import affine, kquant_blocks
from pytest_quantbench.quantizers.numerics.kquant_blocks import BLOCK, LAYOUTS, Blocks, Layout
from pytest_quantbench.quantizers.numerics.kquant_grids import SOUND, Floats, Grids, inverse
from pytest_quantbench.quantizers.protocol import Array, Arrays, Calibration, Quantizer, Statistics

SPREAD = {2: 1, 3: 2, 4: 2, 5: 2, 6: 2}  # how many mean squares σ² is
CHUNK = 2**17  # weights searched at once: the arrays stay in the cache
# Starting grids: how much narrower than the range of a sub-block's weights, and where in that range (0: low end).
STARTS: dict[int, tuple[tuple[float, float], ...]] = {
    2: ((0.85, 0.5), (0.95, 0.5), (1.15, 0), (1.15, 1), (1.5, 0), (1.5, 1)),
    3: ((0.8, 0), (0.88, 0), (0.97, 0), (1.1, 0), (1.3, 0), (1.6, 0), (2, 0), (2.5, 0)),
    4: ((0.94, 0), (0.97, 0), (1, 0), (1.03, 0), (1.07, 0), (1.07, 1)),
    5: ((0.96, 0), (0.98, 0), (1, 0), (1.02, 0), (1.04, 0), (1.04, 1)),
    6: ((0.92, 0), (0.94, 0), (0.955, 0), (0.97, 0), (0.985, 0), (1, 0), (1.04, 0), (1.1, 0), (1.2, 0)),
}
# Steps of a sub-block's integer scale and minimum, and the part of the range that a step of the scale leaves in place.
STEPS = ((1, 0, 0.0), (-1, 0, 0.0), (0, 1, 0.0), (0, -1, 0.0), (1, 0, 0.5), (-1, 0, 0.5), (1, 0, 1.0), (-1, 0, 1.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Kquant(Quantizer):
    """GGUF's Q2_K, Q3_K, Q4_K, Q5_K or Q6_K, by `bits`."""

    bits: int

    name: ClassVar[str] = "kquant"
    version: ClassVar[int] = 1
    calibration: ClassVar[Calibration] = "optional"

    def __post_init__(self) -> None:
        if self.bits not in LAYOUTS:
            raise QuantbenchError(f"kquant cannot have bits = {self.bits}; GGUF's K-quants have {tuple(LAYOUTS)}.")

    def note(self, weight_shape: tuple[int, int], arrays: Mapping[str, Array]) -> str:
        """What was done otherwise for an (out, in) matrix, such as padding; empty if nothing."""
        in_features = weight_shape[1]
        padded = _padded(in_features)
        return f"rows padded from {in_features} to {padded}" if padded != in_features else ""

    def encode(self, weight: Array, statistics: Statistics | None, seed: int) -> Arrays:
        """(out, in) float → `blocks` (out, blocks × bytes of a block) uint8, as the rows of a GGUF tensor.

        A padded matrix also has `in_features` (1,) int32, the row length before padding.
        """
        matrix = weight.astype(np.float32)
        out, in_features = matrix.shape
        padding = _padded(in_features) - in_features
        importance = _importance(statistics, in_features, padding)
        matrix = np.pad(matrix, ((0, 0), (0, padding))) if padding else matrix
        rows = max(1, CHUNK // matrix.shape[1])
        encoded = [_encode(matrix[start : start + rows], importance, self.bits) for start in range(0, out, rows)]
        arrays: Arrays = {"blocks": np.concatenate(encoded)}
        return {**arrays, "in_features": np.array([in_features], np.int32)} if padding else arrays

    def decode(self, arrays: Mapping[str, Array]) -> Floats:
        """The dense (out, in) weight in float32, to the last bit what ggml makes of these bytes."""
        dense = kquant_blocks.dequantize(self._blocks(arrays), self.bits).reshape(len(arrays["blocks"]), -1)
        return dense[:, : row_length(arrays, dense.shape[1])]

    def layer(self, arrays: Mapping[str, Array]) -> Layer | None:
        """An affine grid with float32 scales for Q4_K and Q5_K. The others have groups of 16, for which MLX has no
        kernel: they run decoded.
        """
        if not LAYOUTS[self.bits].minimums or LAYOUTS[self.bits].sub not in affine.GROUPS:
            return None
        rows, blocks = len(arrays["blocks"]), kquant_blocks.unpack(self._blocks(arrays), self.bits)
        scales, minimums = (part.reshape(rows, -1) for part in kquant_blocks.multipliers(blocks))
        codes = blocks.codes.reshape(rows, -1)
        in_features = row_length(arrays, codes.shape[1])
        return Layer(grid=affine.grid(affine.store(codes, scales, -minimums, self.bits, in_features), self.bits))

    def _blocks(self, arrays: Mapping[str, Array]) -> kquant_blocks.Bytes:
        return arrays["blocks"].reshape(-1, LAYOUTS[self.bits].size)


def _padded(in_features: int) -> int:
    return -(-in_features // BLOCK) * BLOCK


def _importance(statistics: Statistics | None, in_features: int, padding: int) -> Floats:
    """What an error in each input's weights counts, 1 on average: (padded,) float32; padding counts nothing.

    An input that was always zero counts a millionth, so that its weights stay sane.
    """
    power = np.ones(in_features) if statistics is None else np.diag(statistics.hessian).astype(np.float64)
    mean = float(power.mean()) or 1.0
    return np.pad(np.maximum(power / mean, 1e-6), (0, padding)).astype(np.float32)


@dataclass(slots=True)
class _Integers:
    """Scales and minimums of some blocks as they are stored: a number per block × (sub-blocks, blocks) integers."""

    layout: Layout
    exponents: NDArray[np.int32]  # (blocks,): the search sees the blocks divided by these powers of two
    d: Floats
    dmin: Floats
    scales: Floats
    minimums: Floats

    def real(self) -> tuple[Floats, Floats]:
        """The grids that they stand for, (groups,) each."""
        return (self.d * self.scales).ravel(), (self.dmin * self.minimums).ravel()

    def clip(self, integers: Floats) -> Floats:
        """Rounded to what can be stored."""
        return np.clip(np.rint(integers), self.layout.bottom, self.layout.top)

    def half(self, numbers: Floats, subnormal: np.ufunc = np.rint) -> Floats:
        """Rounded to the finite float16 that will be stored; `subnormal` rounds where its steps are coarse."""
        sizes = np.ldexp(np.abs(numbers), self.exponents)
        steps = np.where(self.exponents > -24, subnormal(np.minimum(sizes, 1) * 2**24), 0)
        stored = np.where(sizes < 2**-14, steps * 2.0**-24, np.minimum(sizes, 65504)).astype(np.float16)
        return np.ldexp(np.copysign(stored.astype(np.float32), numbers), -self.exponents)

    def approximate(self, grids: Grids) -> None:
        """Take the grids that were found: the largest of a block gets the largest integer, or a smaller one.

        Coarse steps are taken upwards: smaller integers make up for a number that is too large, none for one too small.
        """
        scales, minimums = grids.scales.reshape(self.scales.shape), grids.minimums.reshape(self.scales.shape)
        largest = np.take_along_axis(scales, np.abs(scales).argmax(0)[None], 0)[0]
        self.d = self.half(largest / np.float32(self.layout.bottom or self.layout.top), np.ceil)
        self.dmin = self.half(minimums.max(0) / np.float32(self.layout.top), np.ceil)
        self.scales, self.minimums = self.clip(scales * inverse(self.d)), self.clip(minimums * inverse(self.dmin))

    def refit(self, grids: Grids) -> None:
        """Least squares for the codes of the present grids: first the blocks' numbers, then the integers."""
        grids.round(*self.real())
        first, second, product, moment, total = (
            part.reshape(self.scales.shape) for part in (*grids.sums(), grids.moment, grids.total)
        )
        a, c = (self.scales**2 * second).sum(0), (self.minimums**2 * total).sum(0)
        r, t = (self.scales * product).sum(0), (self.minimums * moment).sum(0)
        if not self.layout.minimums:
            d = self.half(r * inverse(a))
            self.d = np.where(d != 0, d, self.d)
            self.scales = self.clip(product * inverse(self.d * second))
            return
        b = (self.scales * self.minimums * first).sum(0)
        determinant = a * c - b * b
        share = inverse(np.where(determinant > SOUND * a * c, determinant, 0))
        d, dmin = self.half((c * r - b * t) * share), self.half((b * r - a * t) * share)
        sound = (d > 0) & (dmin > 0)
        self.d, self.dmin = np.where(sound, d, self.d), np.where(sound, dmin, self.dmin)
        for _ in range(2):
            self.scales = self.clip((product + self.dmin * self.minimums * first) * inverse(self.d * second))
            self.minimums = self.clip((self.d * self.scales * first - moment) * inverse(self.dmin * total))

    def descend(self, grids: Grids) -> None:
        """Step to neighbouring integers wherever a sub-block's error falls, codes rounded anew."""
        least = grids.errors(*self.real())
        for scale_step, minimum_step, pivot in STEPS if self.layout.minimums else STEPS[:2]:
            shift = np.float32(scale_step * pivot) * grids.highest * self.d * inverse(self.dmin)
            scales = self.clip(self.scales + np.float32(scale_step))
            minimums = self.clip(self.minimums + np.float32(minimum_step) + shift)
            errors = grids.errors((self.d * scales).ravel(), (self.dmin * minimums).ravel())
            better = (errors < least).reshape(self.scales.shape)
            least = np.minimum(least, errors)
            self.scales = np.where(better, scales, self.scales)
            self.minimums = np.where(better, minimums, self.minimums)


def _columns(blocks: Floats, sub: int) -> Floats:
    """(blocks, 256) → (sub, sub-blocks × blocks)."""
    return np.ascontiguousarray(blocks.reshape(len(blocks), -1, sub).transpose(2, 1, 0)).reshape(sub, -1)


def _encode(rows: Floats, importance: Floats, bits: int) -> kquant_blocks.Bytes:
    """(k, padded) rows → (k, blocks × bytes of a block)."""
    layout, blocks = LAYOUTS[bits], rows.reshape(-1, BLOCK)
    exponents = np.maximum(np.frexp(np.abs(blocks).max(1))[1], -126)
    blocks = blocks * np.ldexp(np.float32(1), -exponents)[:, None]
    squares = blocks * blocks
    spread = np.sqrt(squares + SPREAD[bits] * squares.mean(1, keepdims=True)).reshape(rows.shape)
    weighted = (spread * importance).reshape(-1, BLOCK)
    codes = range(-layout.offset, 2**bits - layout.offset)
    grids = Grids(_columns(blocks, layout.sub), _columns(weighted, layout.sub), codes, layout.minimums)
    grids.search(STARTS[bits])
    zeros = np.zeros((BLOCK // layout.sub, len(blocks)), np.float32)
    found = _Integers(layout, exponents, zeros[0], zeros[0], zeros, zeros)
    for improve in (found.approximate, found.refit, found.descend, found.refit):
        improve(grids)
    grids.round(*found.real())
    stored = (grids.codes - grids.lowest).astype(np.uint8).reshape(layout.sub, -1, len(blocks)).transpose(2, 1, 0)
    content = Blocks(
        codes=stored.reshape(-1, BLOCK),
        scales=found.scales.T.astype(np.int16),
        minimums=found.minimums.T.astype(np.int16),
        d=np.ldexp(found.d, exponents).astype(np.float16),
        dmin=np.ldexp(found.dmin, exponents).astype(np.float16),
    )
    return kquant_blocks.pack(content, bits).reshape(len(rows), -1)
