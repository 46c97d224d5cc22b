"""The affine cache of mlx-lm: each token's keys and values on grids of 64 channels (`mlx.core.quantize`).

Every group of channels of a token has a scale and a bias in 16 bits. Costs one pass over what is stored. With
`rotated`, keys and queries are rotated by a Hadamard matrix first, as QuaRot does (Ashkboos et al. 2024, section 4).
"""

from dataclasses import dataclass
from typing import ClassVar

import ml_dtypes
import numpy as np

from pytest_quantbench.quantizers.kv.protocol import CacheForm, Floats, KVQuantizer, Stage
from pytest_quantbench.quantizers.numerics import affine_rounding

GROUP = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class AffineRounding:
    """Groups of `group` channels of one token on MLX's affine grid."""

    bits: int
    group: int
    token_group: int = 1

    def rounded(self, numbers: Floats, queries: Floats | None = None) -> Floats:
        """(heads, tokens, channels) float32 → the same on the grid; scales and biases are bfloat16."""
        flat = numbers.reshape(-1, numbers.shape[-1])
        codes, scales, biases = affine_rounding.rounded(flat, self.group, self.bits)
        scales, biases = (each.astype(ml_dtypes.bfloat16).astype(np.float32) for each in (scales, biases))
        grouped = codes.reshape(*scales.shape, self.group) * scales[..., None] + biases[..., None]
        return grouped.reshape(numbers.shape).astype(np.float32)

    def stored_bits(self, tokens: int, channels: int) -> float:
        """Codes, and 32 bits for each group."""
        return tokens * channels * (self.bits + 32 / self.group)


@dataclass(frozen=True, slots=True, kw_only=True)
class Affine(KVQuantizer):
    """See the module."""

    name: ClassVar[str] = "affine"
    version: ClassVar[int] = 1
    key_bits: int = 8
    value_bits: int = 8
    rotated: bool = False

    def form(self, channels: int) -> CacheForm:
        """Groups of 64 channels, or of all where a head has fewer."""
        group = min(GROUP, channels)
        keys, values = (
            Stage(rounding=AffineRounding(bits=bits, group=group)) for bits in (self.key_bits, self.value_bits)
        )
        return CacheForm(keys=(keys,), values=(values,), rotates=self.rotated)
