"""The affine cache of mlx-lm: each token's keys and values on grids of 64 channels (`mlx.core.quantize`).

Every group of channels of a token has a scale and a bias in 16 bits, here bfloat16, the type that models come in. Costs
one pass over what is stored. With `rotated`, keys and queries are rotated by a Hadamard matrix first, as QuaRot does
(Ashkboos et al. 2024, section 4), and values are not: that spreads the few large channels that keys have over all.

Where this differs: mlx-lm refuses heads that its group does not divide. Here they get the largest group that does.
"""

from dataclasses import dataclass
from typing import ClassVar

from pytest_quantbench.errors import QuantbenchError
from pytest_quantbench.quantizers.kv.grid import Grid, divisor
from pytest_quantbench.quantizers.kv.protocol import CacheForm, KVQuantizer, Stage
from pytest_quantbench.quantizers.numerics import hadamard

BITS = (2, 3, 4, 5, 6, 8)  # what `mlx.core.quantize` has


@dataclass(frozen=True, slots=True, kw_only=True)
class Affine(KVQuantizer):
    """See the module. `bits` are those of keys and values alike where they are not given for each."""

    name: ClassVar[str] = "affine"
    version: ClassVar[int] = 1
    bits: int = 8
    key_bits: int | None = None
    value_bits: int | None = None
    group: int = 64
    rotated: bool = False

    def __post_init__(self) -> None:
        """Raise QuantbenchError for widths that MLX does not have."""
        for bits in (self.bits, self.key_bits or self.bits, self.value_bits or self.bits):
            if bits not in BITS:
                raise QuantbenchError(f"{self.name} cannot have {bits} bits; MLX's affine grids have one of {BITS}.")

    def form(self, channels: int) -> CacheForm:
        """Groups of 64 channels, or of the largest number below that divides a head."""
        if self.rotated and hadamard.blocks(channels)[0] == channels:
            raise QuantbenchError(f"Heads of {channels} channels cannot be rotated: no Hadamard matrix divides them.")
        group = divisor(channels, self.group)
        keys, values = (
            (Stage(rounding=Grid(bits=bits or self.bits, group=group, kind="mlx")),)
            for bits in (self.key_bits, self.value_bits)
        )
        return CacheForm(keys=keys, values=values, rotates=self.rotated)
