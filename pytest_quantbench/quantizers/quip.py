"""QuIP#: a randomized Hadamard rotation on both sides, the E8P lattice codebook, and error feedback in blocks of 8.

Source: Tseng et al. 2024, "QuIP#: Even Better LLM Quantization with Hadamard Incoherence and Lattice Codebooks", arXiv
2402.04396. Random signs and a Hadamard transform of rows and columns leave no outliers in the weight, whose entries
become nearly Gaussian, and none in the Hessian. One codebook for Gaussian vectors then fits everywhere, with one
scale for the whole matrix: 2^16 words for 8 weights along a row. Blocks of 8 columns are encoded in order and every
block's error is made up for by the columns after it (block LDLQ). At 3 and 4 bits a second codebook encodes the rest.

Storage: 2, 3 or 4 bits per weight, a sign bit per row and per column, 32 bits for the scale. Cost: O(in³) for
the Hessian's factor; for the sweep half a product of weight and Hessian and for each pass after it a whole one.

Where we differ: no fine-tuning of a model on top; the signs are stored, a bit each, and not the seed they come from.
The scale is the best of several for up to 64 of the rows, and every row gets its own where that is worth 16 bits (where
few outputs can be mixed, or the weight is nearly of rank 1). The paper sweeps from the last block to the first, which
is the same rule. After the sweep every block is encoded again with all the others as they are, `passes` times (as the
authors' code can); a new word is only taken where it lowers the error. Rows are padded with zeros to a multiple of 8,
and widths without a Hadamard matrix are rotated in blocks (see `hadamard`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pytest_quantbench.errors import QuantbenchError
from pytest_quantbench.quantizers.layer import Codebooks, Layer, Rotation, row_length
from pytest_quantbench.quantizers.numerics import e8_lattice, error_feedback, hadamard
from pytest_quantbench.quantizers.numerics.e8_lattice import WIDTH, Codes, Matrix
from pytest_quantbench.quantizers.protocol import Array, Arrays, Calibration, Quantizer, Statistics

BITS = (2, 3, 4)
SAMPLE = 64  # rows that are encoded to find the scale
SHARES = (0.88, 0.94, 1, 1.06, 1.12, 1.3, 1.6)  # of the scale that is best for Gaussian vectors
ROW_SHARES = (0.94, 1, 1.06)
SMALLEST = np.float32(1e-4)  # of the sizes of rows, 1 being the average: what float16 holds
WINDOW = 128  # columns whose slope is found in one product
STAGES = ("codes", "fine_codes")
SIGNS = ("output_signs", "input_signs")


@dataclass(frozen=True, slots=True, kw_only=True)
class Quip(Quantizer):
    """QuIP# with `damping` × the mean diagonal added to the Hessian and `passes` over all blocks after the sweep."""

    bits: int
    damping: float = 0.01
    passes: int = 2

    name: ClassVar[str] = "quip"
    version: ClassVar[int] = 1
    calibration: ClassVar[Calibration] = "hessian"

    def __post_init__(self) -> None:
        if self.bits not in BITS:
            raise QuantbenchError(f"quip cannot have bits = {self.bits}; its lattice codebooks are for {BITS}.")

    def note(self, weight_shape: tuple[int, int], arrays: Mapping[str, Array]) -> str:
        """What was done otherwise for an (out, in) matrix: padded rows, and rotation in blocks."""
        rows, columns = weight_shape
        padded = _padded(columns)
        notes = [f"rows padded from {columns} to {padded}"] if padded != columns else []
        for side, length in (("outputs", rows), ("inputs", padded)):
            blocks = hadamard.blocks(length)[0]
            notes += [f"{side} rotated in {blocks} blocks of {length // blocks}"] if blocks > 1 else []
        return ", ".join(notes)

    def encode(self, weight: Array, statistics: Statistics | None, seed: int) -> Arrays:
        """(out, in) float → `codes` (out, in / 8) uint16, above 2 bits `fine_codes` (out, in / 8) uint8 or uint16,
        `scale` (1,) float32, `output_signs` (out / 8,) and `input_signs` (in / 8,) uint8 with a bit each.

        Where rotated rows differ much in size also `row_scales` (out,) float16. A padded matrix also has `in_features`
        (1,) int32, the row length before padding.
        """
        if statistics is None:
            raise QuantbenchError("quip needs calibration: give it a text, or choose a method without, such as hqq.")
        rows, columns = weight.shape
        rng = np.random.default_rng(seed)
        flips = [rng.integers(0, 2, length, np.uint8) for length in (rows, _padded(columns))]
        output_signs, input_signs = (_signs(flip) for flip in flips)
        hessian = _rotated_hessian(statistics.hessian, input_signs, self.damping)
        correction, _ = error_feedback.feedback(hessian, WIDTH)
        cost = hessian.astype(np.float32)
        del hessian
        target, exponent = _rotated(weight.astype(np.float32), output_signs, input_signs)
        rms = float(np.sqrt(np.einsum("ij,ij->", target, target, dtype=np.float64) / target.size))
        nominal = rms / e8_lattice.RMS[self.bits]
        target /= nominal or 1
        scales = self._scales(target, correction, cost)
        target /= scales
        codes, _ = self._round(target, correction, cost)
        packed = [np.packbits(flip, bitorder="little") for flip in flips]
        shared = len(scales) == 1
        return {
            **{name: np.ascontiguousarray(stage.T) for name, stage in zip(STAGES, codes, strict=False)},
            **dict(zip(SIGNS, packed, strict=True)),
            "scale": np.ldexp(np.float32(nominal) * (scales if shared else np.ones(1, np.float32)), exponent),
            **({} if shared else {"row_scales": scales.astype(np.float16)}),
            **({"in_features": np.array([columns], np.int32)} if len(input_signs) != columns else {}),
        }

    def _scales(self, target: Matrix, correction: Matrix, cost: Matrix) -> Matrix:
        """(in, out) in units of the codebook → what to divide it by: (1,), or a float16 for each row, (out,).

        Some rows are encoded with every choice. Scales for the rows are 16 / in more bits per weight, of which each
        would lower the squared error by a factor of 4 elsewhere: they must do more than that.
        """
        sizes = np.sqrt(np.einsum("ij,ij->j", target, target) / len(target)) / np.float32(e8_lattice.RMS[self.bits])
        by_row = [(share * np.maximum(sizes, SMALLEST)).astype(np.float16) for share in ROW_SHARES]
        choices = [np.full(1, share, np.float32) for share in SHARES] + [scale.astype(np.float32) for scale in by_row]
        step = -(-target.shape[1] // SAMPLE)
        trials = np.concatenate([target[:, ::step] / scale[::step] for scale in choices], axis=1)
        error = trials - self._round(trials, correction, cost)[1]
        errors = np.einsum("ij,ij->j", cost @ error, error, dtype=np.float64).reshape(len(choices), -1)
        totals = np.array([(scale[::step] ** 2 * row).sum() for scale, row in zip(choices, errors, strict=True)])
        handicap = np.where(np.arange(len(choices)) < len(SHARES), 1, 4 ** (16 / len(target)))
        best: Matrix = choices[int((totals * handicap).argmin())]
        return best

    def _round(self, target: Matrix, correction: Matrix, cost: Matrix) -> tuple[Codes, Matrix]:
        """(in, out) in the codebook's units → the codes of each stage (in / 8, out), and what they decode to."""
        shape = (len(target) // WIDTH, target.shape[1])
        codes = tuple(np.empty(shape, kind) for kind in e8_lattice.KINDS[self.bits])

        def encode(start: int, columns: Matrix) -> Matrix:
            found, words = e8_lattice.nearest(columns, self.bits)
            for stage, code in zip(codes, found, strict=True):
                stage[start // WIDTH] = code
            return words

        decoded = error_feedback.sweep(target, correction, WIDTH, encode)
        for _ in range(self.passes):
            self._improve(target, decoded, codes, cost)
        return codes, decoded

    def _improve(self, target: Matrix, decoded: Matrix, codes: Codes, cost: Matrix) -> None:
        """Encode every block again with all the others as they are, and take the words that lower the error."""
        error = target - decoded
        for begin in range(0, len(target), WINDOW):
            window = cost[begin : begin + WINDOW]
            slope = window @ error  # (WINDOW, out): half the fall of the error per change of the decoded weight
            for start in range(begin, begin + len(window), WIDTH):
                block, after = slice(start, start + WIDTH), start - begin + WIDTH
                here, pull = cost[block, block], slope[after - WIDTH : after]
                found, words = e8_lattice.nearest(decoded[block] + np.linalg.inv(here) @ pull, self.bits)
                step = words - decoded[block]
                better = np.einsum("ij,ij->j", step, here @ step - 2 * pull) < 0
                np.copyto(decoded[block], words, where=better)
                for stage, code in zip(codes, found, strict=True):
                    np.copyto(stage[start // WIDTH], code, where=better)
                step *= better
                error[block] -= step
                slope[after:] -= window[after:, block] @ step

    def decode(self, arrays: Mapping[str, Array]) -> NDArray[np.float32]:
        """The dense (out, in) weight in float32."""
        codes = tuple(arrays[name] for name in STAGES if name in arrays)
        rows, blocks = codes[0].shape
        columns = blocks * WIDTH
        words = e8_lattice.lookup(codes, self.bits).reshape(rows, columns)
        if "row_scales" in arrays:
            words *= arrays["row_scales"][:, None]
        output_signs, input_signs = _stored_signs(arrays, rows, columns)
        turned = hadamard.transform(words.T, inverse=True) * input_signs[:, None]  # (in, out)
        dense = hadamard.transform(turned.T, inverse=True) * (output_signs[:, None] * arrays["scale"])
        return dense[:, : row_length(arrays, dense.shape[1])]

    def layer(self, arrays: Mapping[str, Array]) -> Layer:
        """The lattice's codebooks, which all matrices share, and the rotation around them."""
        codes = np.stack([arrays[name].astype(np.uint16, copy=False) for name in STAGES if name in arrays])
        rows, columns = codes.shape[1], codes.shape[2] * WIDTH
        output_signs, input_signs = _stored_signs(arrays, rows, columns)
        scales = arrays["row_scales"].astype(np.float32) if "row_scales" in arrays else np.ones(1, np.float32)
        grid = Codebooks(
            codes=codes,
            words=e8_lattice.stages(self.bits),
            scales=scales * arrays["scale"],
            along="inputs",
            out_features=rows,
            in_features=row_length(arrays, columns),
        )
        return Layer(grid=grid, rotation=Rotation(input_signs=input_signs, output_signs=output_signs))


def _stored_signs(arrays: Mapping[str, Array], rows: int, columns: int) -> tuple[Matrix, Matrix]:
    """Of the outputs, and of the padded inputs."""
    outputs, inputs = (
        _signs(np.unpackbits(arrays[name], count=count, bitorder="little"))
        for name, count in zip(SIGNS, (rows, columns), strict=True)
    )
    return outputs, inputs


def _padded(columns: int) -> int:
    return -(-columns // WIDTH) * WIDTH


def _signs(flips: NDArray[np.uint8]) -> Matrix:
    return np.where(flips == 1, np.float32(-1), np.float32(1))


def _rotated(weight: Matrix, output_signs: Matrix, input_signs: Matrix) -> tuple[Matrix, int]:
    """(out, in), overwritten → (padded in, out), signs and transform on both sides, and the exponent taken out.

    Values are divided by a power of two that brings the largest near 1: subnormal and huge ones lose nothing.
    """
    exponent = int(np.frexp(np.abs(weight).max())[1])
    np.ldexp(weight, -exponent, out=weight)
    weight *= output_signs[:, None]
    turned = hadamard.transform(weight)
    if len(input_signs) != weight.shape[1]:
        turned = np.pad(turned, ((0, 0), (0, len(input_signs) - weight.shape[1])))
    turned *= input_signs
    return hadamard.transform(turned.T), exponent


def _rotated_hessian(hessian: Matrix, signs: Matrix, damping: float) -> NDArray[np.float64]:
    """(padded in, padded in) float64, damped, mean diagonal 1. Padding is an input of zeros: errors cost little."""
    turned = np.pad(hessian, (0, len(signs) - len(hessian))).astype(np.float32, copy=False)
    turned *= signs[:, None]
    turned *= signs
    damped = error_feedback.damped(hadamard.transform(hadamard.transform(turned).T), damping)
    damped /= np.trace(damped) / len(damped)
    return damped
