"""VPTQ: vector post-training quantization (Liu et al. 2024, "VPTQ: Extreme Low-bit Vector Post-Training Quantization
for Large Language Models", arXiv 2409.17066).

A vector is the weights of `vector` consecutive outputs for one and the same input. It is stored as the number of a word
in the matrix's codebook, that of a word in a second codebook for what the first left over, and so on up to `bits` per
weight, and decodes to the words' sum times the rows' scales. Inputs are coded one after the other, those with the
largest activations first, and each one's error is made up for by the inputs after it, as in GPTQ: within one input all
errors cost the same, so that the nearest word in the plain distance is the right one. The codebooks start from k-means
weighted by what an error costs. The few inputs whose errors cost far more than all others' (outliers) have twice the
bits, from a codebook of their own for shorter vectors.

Storage: bits + 16 × words × vector × codebooks / (out × in) + 16 / in for the scales + `outlier_bits` at most for the
outliers: 2.016 on 4096² at 2 bits. On a small matrix the codebooks would outweigh the codes, so its vectors are
shorter; where rows are short, they share one scale. Costs about a dozen products of out × in², and the search.

Where we differ: the paper fits codebooks again by gradient descent on the layer's outputs; we do it by conjugate
gradients on a sample of the rows, and then choose every input's codes once more, with all others fixed. It scales
columns and adds biases to them, which paid for its bits on none of our matrices; scales of rows did. At 3 and 4 bits it
has two codebooks of up to 65,536 words, which add half a bit on 4096²; ours are as many codebooks of 256 as it takes.
Fine-tuning of whole models is not done: a codec sees one matrix.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from pytest_quantbench.errors import QuantbenchError
from pytest_quantbench.quantizers.layer import Codebooks, Columns, Layer
from pytest_quantbench.quantizers.numerics import codebook_fitting, vector_codes
from pytest_quantbench.quantizers.numerics.codebook_fitting import Coder, Index, Problem
from pytest_quantbench.quantizers.numerics.vector_codes import Layout
from pytest_quantbench.quantizers.protocol import Array, Arrays, Calibration, Quantizer, Statistics

WARM_UP = 3  # sweeps of a sample of the rows before all rows are coded


@dataclass(frozen=True, slots=True, kw_only=True)
class Vptq(Quantizer):
    """Codebooks of 256 words, each for what those before it left over, for vectors of 8 outputs."""

    bits: int
    vector: int = 8
    codebook_bits: int = 8
    codebook_share: float = vector_codes.BOOK_SHARE  # the most that codebooks may add to the codes' own bits
    outlier_bits: float = 0.008  # the most that outliers may add, over all weights
    beam: int = 8
    rounds: int = 2

    name: ClassVar[str] = "vptq"
    version: ClassVar[int] = 2
    calibration: ClassVar[Calibration] = "hessian"

    def __post_init__(self) -> None:
        vector_codes.check(self.name, bits=self.bits, vector=self.vector, codebook_bits=self.codebook_bits)

    def note(self, weight_shape: tuple[int, int], arrays: Mapping[str, Array]) -> str:
        """What was done otherwise for an (out, in) matrix, such as shorter vectors; empty if nothing."""
        return vector_codes.note(self._layout(*weight_shape), self.vector, self.bits, weight_shape)

    def _layout(self, outs: int, ins: int) -> Layout:
        length, stages, width = vector_codes.fit(
            self.bits, outs * ins, self.vector, self.codebook_bits, self.codebook_share
        )
        return Layout(inputs=1, outputs=length, stages=stages, width=width)

    def encode(self, weight: Array, statistics: Statistics | None, seed: int) -> Arrays:
        """(out, in) float → `codes` (bytes,) uint8: input by input, vector by vector, codebook by codebook;
        `codebooks` (codebooks, words, vector) float16; `scales` (out,) or (1,) bfloat16; `shape` (2,) int32.

        With outliers also their `outliers` (count,) int32, `outlier_codes` and `outlier_codebooks`.
        """
        if statistics is None:
            raise QuantbenchError("vptq needs calibration: give it a text, or choose a method without, such as hqq.")
        outs, ins = weight.shape
        layout, rng = self._layout(outs, ins), np.random.default_rng(seed)
        problem = codebook_fitting.prepare(weight.astype(np.float32), statistics.hessian, layout)
        scale = vector_codes.scales(problem.weight, vector_codes.row_scales(self.bits, ins))
        cost, outliers = problem.metric.ravel(), self._outliers(problem, layout)
        parts = [(layout, np.delete(np.arange(ins), outliers)), (self._outlier_layout(layout), outliers)]
        coders = [
            codebook_fitting.start(problem, part, blocks, scale, cost[blocks], self.beam, rng)
            for part, blocks in parts[: 2 if len(outliers) else 1]
        ]
        codebook_fitting.solve(problem, coders, WARM_UP, self.rounds, rng)
        arrays = {
            **_arrays(problem, coders[0], ""),
            "scales": (scale[0, :outs] * problem.unit).astype(ml_dtypes.bfloat16),
            "shape": np.array([outs, ins], np.int32),
        }
        if len(outliers):
            arrays |= _arrays(problem, coders[1], "outlier_")
            arrays["outliers"] = np.sort(problem.order[outliers]).astype(np.int32)
        return arrays

    def _outlier_layout(self, layout: Layout) -> Layout:
        """Twice the bits, in one codebook of at most 256 words where that can be."""
        length = min(layout.outputs, max(1, 4 // self.bits))
        return Layout(inputs=1, outputs=length, stages=1, width=2 * self.bits * length)

    def _outliers(self, problem: Problem, layout: Layout) -> Index:
        """The inputs that deserve twice the bits: the error falls by more than if all weights shared what they cost.

        The error Σ d falls by 2 ln 2 · Σ d with a bit more on every weight, and by nearly d_j with twice the bits on
        input j. Each outlier must be worth its codes, and all together their codebook. None from 5 bits on.
        """
        cost, fine = problem.metric.ravel(), self._outlier_layout(layout)
        count = int(self.outlier_bits / self.bits * len(cost)) if self.bits <= 4 else 0
        most = np.argsort(-cost, kind="stable")[:count]
        bit = 2 * math.log(2) * np.delete(cost, most).mean()  # worth of a bit on each weight of an ordinary input
        gain = cost[most] - self.bits * bit
        codebook = 16 * 2**fine.width * fine.length / problem.weight.shape[1]  # bits for each weight of one input
        return np.sort(most[gain > 0]) if gain[gain > 0].sum() > codebook * bit else most[:0]

    def decode(self, arrays: Mapping[str, Array]) -> NDArray[np.float32]:
        """The dense (out, in) weight in float32."""
        outs, ins = arrays["shape"].tolist()
        outliers = _places(arrays)
        dense = np.empty((ins, outs), np.float32)
        dense[np.delete(np.arange(ins), outliers)] = _decoded(arrays, "", ins - len(outliers), outs)
        if len(outliers):
            dense[outliers] = _decoded(arrays, "outlier_", len(outliers), outs)
        dense *= arrays["scales"].astype(np.float32)
        return np.ascontiguousarray(dense.T)

    def layer(self, arrays: Mapping[str, Array]) -> Layer:
        """The codebooks, with vectors along the outputs; the outliers are columns of decoded weights."""
        outs, ins = arrays["shape"].tolist()
        books, outliers = arrays["codebooks"], _places(arrays)
        read = vector_codes.read(arrays["codes"], _stored_layout(books), ins - len(outliers), outs)
        codes = np.zeros((ins, *read.shape[1:]), read.dtype)
        codes[np.delete(np.arange(ins), outliers)] = read
        grid = Codebooks(
            codes=codes.T.copy(),
            words=books,
            scales=arrays["scales"],
            along="outputs",
            out_features=outs,
            in_features=ins,
        )
        if not len(outliers):
            return Layer(grid=grid)
        values = _decoded(arrays, "outlier_", len(outliers), outs) * arrays["scales"].astype(np.float32)
        return Layer(grid=grid, columns=Columns(places=outliers, values=np.ascontiguousarray(values.T)))


def _arrays(problem: Problem, coder: Coder, prefix: str) -> Arrays:
    """A coder's codes, its inputs in their original order, and codebooks."""
    codes = coder.codes[np.argsort(problem.order[coder.blocks])]
    return {
        f"{prefix}codes": vector_codes.stored(codes, coder.layout.width),
        f"{prefix}codebooks": coder.books.astype(np.float16),
    }


def _places(arrays: Mapping[str, Array]) -> NDArray[np.int32]:
    """The inputs that are outliers, ascending."""
    return arrays["outliers"] if "outliers" in arrays else np.zeros(0, np.int32)


def _stored_layout(books: Array) -> Layout:
    stages, words, length = books.shape
    return Layout(inputs=1, outputs=length, stages=stages, width=words.bit_length() - 1)


def _decoded(arrays: Mapping[str, Array], prefix: str, ins: int, outs: int) -> vector_codes.Matrix:
    """(in, out) without scales. Outliers have shorter vectors than the others, of as many outputs as the others'."""
    books = arrays[f"{prefix}codebooks"].astype(np.float32)
    whole = arrays["codebooks"].shape[2]
    padded = -(-outs // whole) * whole
    return vector_codes.decoded(arrays[f"{prefix}codes"], books, _stored_layout(books), ins, padded)[:, :outs]
