"""Matrices of codebooks' words (AQLM, VPTQ) as a layer of MLX, by a kernel of ours for Metal: MLX has none of its own.

**The kernel has never run on Metal yet.** Tests compile its body as C++ and hold the numbers against the decoded
matrix; how fast it is, and that Apple's compiler takes it, is to be seen. It is used on Metal alone: elsewhere such a
layer runs decoded.

A group of 32 threads makes one row of the result, or `LENGTH` rows where vectors lie along the outputs. Its threads
take every 32nd vector, look its words up, and add up their sums in the end. Codes are read once, one thread beside the
other; words stay in the cache. More than a few tokens are a product with the decoded matrix, decoded anew each time.
"""

from functools import cache
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from pytest_quantbench.engines.mlx.arrays import to_mlx
from pytest_quantbench.engines.mlx.host_products import backend
from pytest_quantbench.quantizers import Layer
from pytest_quantbench.quantizers.layer import Codebooks
from pytest_quantbench.quantizers.layer_matrix import beyond_words

FEW = 8  # tokens that go through the kernel
LANES = 32
INPUTS = ("codes", "words", "scales", "x")
SIZES = ("ALONG_INPUTS", "STAGES", "LINES", "VECTORS", "WORDS", "LENGTH", "ROWS", "COLUMNS")
SOURCE = """
    uint lane = thread_position_in_grid.x;
    uint line = thread_position_in_grid.y;  // a row, or a block of LENGTH rows
    uint token = thread_position_in_grid.z;
    float total[LENGTH];
    for (uint i = 0; i < LENGTH; ++i) total[i] = 0;
    for (uint vector = lane; vector < VECTORS; vector += 32) {
        float word[LENGTH];
        for (uint i = 0; i < LENGTH; ++i) word[i] = 0;
        for (uint stage = 0; stage < STAGES; ++stage) {
            uint code = codes[(stage * LINES + line) * VECTORS + vector];
            for (uint i = 0; i < LENGTH; ++i) word[i] += float(words[(stage * WORDS + code) * LENGTH + i]);
        }
        for (uint i = 0; i < LENGTH; ++i) {
            uint column = ALONG_INPUTS ? vector * LENGTH + i : vector;
            if (column < COLUMNS) total[ALONG_INPUTS ? 0 : i] += word[i] * float(x[token * COLUMNS + column]);
        }
    }
    for (uint i = 0; i < (ALONG_INPUTS ? 1 : LENGTH); ++i) {
        float sum = simd_sum(total[i]);
        uint row = ALONG_INPUTS ? line : line * LENGTH + i;
        if (lane == 0 && row < ROWS) out[token * ROWS + row] = T(sum * scales[row]);
    }
"""


def runs_as_stored(layer: Layer) -> bool:
    """Whether the kernel takes a layer: codebooks of float16 with nothing around them but dense columns, on Metal."""
    beside = (layer.rotation, layer.input_rule, layer.input_scales, layer.scale, layer.sparse, layer.low_rank)
    if not isinstance(layer.grid, Codebooks) or any(part is not None for part in beside):
        return False
    return layer.grid.words.dtype == np.float16 and backend() == "metal"


class CodebookLinear(nn.Module):
    """(…, in) → (…, out). Words and scales are kept as integers' bits, so that `set_dtype` leaves them as they are."""

    def __init__(self, layer: Layer) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        grid = layer.grid
        assert isinstance(grid, Codebooks)
        stages, lines, vectors = grid.codes.shape
        self.weight = to_mlx(grid.codes.reshape(-1, vectors))
        self.words = to_mlx(grid.words.astype(np.float16)).view(mx.uint16)
        scales = np.resize(grid.scales.astype(np.float32), grid.out_features)
        self.scale_bits = to_mlx(scales).view(mx.uint32)
        if layer.columns is not None:
            self.places = to_mlx(layer.columns.places)
            self.columns = to_mlx(beyond_words(grid, layer.columns))  # (out, count)
        along_inputs, (_, words, length) = grid.along == "inputs", grid.words.shape
        sizes = (int(along_inputs), stages, lines, vectors, words, length, grid.out_features, grid.in_features)
        self._sizes = dict(zip(SIZES, sizes, strict=True))
        self.kernel = f"codebooks, {stages} of {words} × {length}"

    def __call__(self, x: mx.array) -> mx.array:
        """(…, in) → (…, out), in the type of the inputs."""
        flat = x.reshape(-1, x.shape[-1])
        product = self._by_kernel(flat) if len(flat) <= FEW else flat @ self.decoded().astype(x.dtype).T
        if "places" in self:
            product = product + (flat[:, self.places] @ self.columns.T).astype(x.dtype)
        y = product.reshape(*x.shape[:-1], -1)
        return y + self.bias if "bias" in self else y

    def _by_kernel(self, x: mx.array) -> mx.array:
        sizes = self._sizes
        (result,) = _compiled()(
            inputs=[self.weight, self.words.view(mx.float16), self.scale_bits.view(mx.float32), x],
            template=[("T", x.dtype), *sizes.items()],
            grid=(LANES, sizes["LINES"], len(x)),
            threadgroup=(LANES, 1, 1),
            output_shapes=[(len(x), sizes["ROWS"])],
            output_dtypes=[x.dtype],
        )
        found: mx.array = result
        return found

    def decoded(self) -> mx.array:
        """(out, in) float32: what the codes stand for, without dense columns."""
        sizes, words = self._sizes, self.words.view(mx.float16).astype(mx.float32)
        codes = self.weight.reshape(sizes["STAGES"], sizes["LINES"], sizes["VECTORS"])
        vectors = sum((words[stage][codes[stage]] for stage in range(1, len(codes))), words[0][codes[0]])
        if not sizes["ALONG_INPUTS"]:
            vectors = vectors.swapaxes(1, 2).reshape(-1, sizes["VECTORS"])
        dense = vectors.reshape(len(vectors), -1)[: sizes["ROWS"], : sizes["COLUMNS"]]
        return dense * self.scale_bits.view(mx.float32)[:, None]


@cache
def _compiled() -> Any:
    return mx.fast.metal_kernel(
        name="quantbench_codebooks", input_names=list(INPUTS), output_names=["out"], source=SOURCE
    )
