"""AQLM: additive codebooks (Egiazarian et al. 2024, "Extreme Compression of Large Language Models via Additive
Quantization", arXiv 2401.06118).

Eight consecutive weights of a row are one vector. It is stored as one 8-bit code for each of `bits` codebooks, and
decodes to the sum of the words so named, times its row's scale; the codebooks are the matrix's own. Codes and words
minimise the output error tr((W − Ŵ) H (W − Ŵ)ᵀ) on the calibration inputs: a beam search over the codes of one group of
inputs after the other, all others fixed, then least squares for the words, all codes fixed, in turn until little is
gained.

Storage: bits + 16 / in for the scales + 16 × bits × 256 × 8 / (out × in) for the codebooks: 2.008 on 4096² at 2 bits.
On a small matrix the codebooks would outweigh the codes, so its vectors are shorter; where rows are short, they share
one scale. Costs a few dozen products of out × in², and as much again for the search.

Where we differ: the codes start from a sweep with error feedback, groups with the largest inputs first, and not from
k-means of the weights alone, which saves most of the rounds; words are fitted by conjugate gradients on a sample of
the rows, not by Adam; scales are the rows' root mean squares, in bfloat16 for its range. The paper's fine-tuning of
whole blocks is not done: a codec sees one matrix.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from pytest_quantbench.errors import QuantbenchError
from pytest_quantbench.quantizers.layer import Codebooks, Layer
from pytest_quantbench.quantizers.numerics import codebook_fitting, vector_codes
from pytest_quantbench.quantizers.numerics.vector_codes import Layout
from pytest_quantbench.quantizers.protocol import Array, Arrays, Calibration, Quantizer, Statistics

WARM_UP = 2  # sweeps of a sample of the rows before all rows are coded


@dataclass(frozen=True, slots=True, kw_only=True)
class Aqlm(Quantizer):
    """`bits` additive codebooks of 256 words for groups of 8 weights of a row, and a scale for every row."""

    bits: int
    group_size: int = 8
    codebook_bits: int = 8
    codebook_share: float = vector_codes.BOOK_SHARE  # the most that codebooks may add to the codes' own bits
    beam: int = 8
    rounds: int = 6

    name: ClassVar[str] = "aqlm"
    version: ClassVar[int] = 2
    calibration: ClassVar[Calibration] = "hessian"

    def __post_init__(self) -> None:
        vector_codes.check(self.name, bits=self.bits, group_size=self.group_size, codebook_bits=self.codebook_bits)

    def note(self, weight_shape: tuple[int, int], arrays: Mapping[str, Array]) -> str:
        """What was done otherwise for an (out, in) matrix, such as shorter vectors; empty if nothing."""
        return vector_codes.note(self._layout(*weight_shape), self.group_size, self.bits, weight_shape)

    def _layout(self, outs: int, ins: int) -> Layout:
        length, stages, width = vector_codes.fit(
            self.bits, outs * ins, self.group_size, self.codebook_bits, self.codebook_share
        )
        return Layout(inputs=length, outputs=1, stages=stages, width=width)

    def encode(self, weight: Array, statistics: Statistics | None, seed: int) -> Arrays:
        """(out, in) float → `codes` (bytes,) uint8: group by group, row by row, codebook by codebook; `codebooks`
        (bits, 256, 8) float16; `scales` (out,) or (1,) bfloat16; `shape` (2,) int32.
        """
        if statistics is None:
            raise QuantbenchError("aqlm needs calibration: give it a text, or choose a method without, such as hqq.")
        outs, ins = weight.shape
        layout, rng = self._layout(outs, ins), np.random.default_rng(seed)
        problem = codebook_fitting.prepare(weight.astype(np.float32), statistics.hessian, layout)
        scale = vector_codes.scales(problem.weight, vector_codes.row_scales(self.bits, ins))
        blocks = np.arange(len(problem.order))
        coder = codebook_fitting.start(problem, layout, blocks, scale, np.ones(len(blocks), np.float32), self.beam, rng)
        codebook_fitting.solve(problem, [coder], WARM_UP, self.rounds, rng)
        return {
            "codes": vector_codes.stored(coder.codes[np.argsort(problem.order)], layout.width),
            "codebooks": coder.books.astype(np.float16),
            "scales": (scale[0] * problem.unit).astype(ml_dtypes.bfloat16),
            "shape": np.array([outs, ins], np.int32),
        }

    def decode(self, arrays: Mapping[str, Array]) -> NDArray[np.float32]:
        """The dense (out, in) weight in float32."""
        outs, ins = arrays["shape"].tolist()
        books = arrays["codebooks"].astype(np.float32)
        dense = vector_codes.decoded(arrays["codes"], books, _stored_layout(books), ins, outs)[:ins]
        dense *= arrays["scales"].astype(np.float32)
        return np.ascontiguousarray(dense.T)

    def layer(self, arrays: Mapping[str, Array]) -> Layer:
        """The codebooks, with vectors along the inputs."""
        outs, ins = arrays["shape"].tolist()
        books = arrays["codebooks"]
        codes = vector_codes.read(arrays["codes"], _stored_layout(books), ins, outs)
        grid = Codebooks(
            codes=codes.T.copy(),
            words=books,
            scales=arrays["scales"],
            along="inputs",
            out_features=outs,
            in_features=ins,
        )
        return Layer(grid=grid)


def _stored_layout(books: Array) -> Layout:
    stages, words, length = books.shape
    return Layout(inputs=length, outputs=1, stages=stages, width=words.bit_length() - 1)
