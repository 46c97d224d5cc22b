"""PM-KVQ: a token's bits are halved again and again as it ages (Liu et al. 2025, arXiv 2505.18610, section 3.1).

A cache that is rounded to few bits at once makes errors that later tokens inherit, while there is memory enough for
more bits. So every token is first held in 16 bits, and its codes are halved to 8, 4 and 2 bits later, from the codes
that are there: q of 2b bits becomes q / (2^b + 1), rounded, and the scale is multiplied by 2^b + 1, which leaves both
ends of the grid where they are (the paper's equivalent right shift). Groups are of 128 channels of a token, with a
scale and a zero, both bfloat16. The first token, to which much attention goes, stays in full, and so do the newest
until 128 are there. Costs one pass over what is stored for each halving.

Where this differs: the paper halves the bits of all tokens of a layer when the cache reaches the memory it may have,
and gives layers different budgets by their sensitivity, which needs gradients. Here a token's bits are halved by its
own age, in all layers alike, so memory depends on the length alone. The paper rescales channels of keys by calibration
first; that is left out.
"""

from dataclasses import dataclass
from typing import ClassVar

import ml_dtypes
import numpy as np

from pytest_quantbench.errors import QuantbenchError
from pytest_quantbench.quantizers.kv.grid import divisor
from pytest_quantbench.quantizers.kv.protocol import CacheForm, Floats, KVQuantizer, Stage

WIDTHS = (8, 4, 2)
MOST = np.float32((2 - 2**-7) * 2.0**127)  # the largest bfloat16


@dataclass(frozen=True, slots=True, kw_only=True)
class Halved:
    """Codes of 16 bits for `group` channels of a token, halved until they have `bits`."""

    bits: int
    group: int
    token_group: ClassVar[int] = 1
    looks: ClassVar[bool] = False

    def rounded(self, numbers: Floats, queries: Floats | None = None, keys: Floats | None = None) -> Floats:
        """(heads, tokens, channels) → the same from these codes."""
        groups = numbers.reshape(*numbers.shape[:2], numbers.shape[2] // self.group, self.group)
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite stays so, for those who ask
            low, high = groups.min(3, keepdims=True, initial=np.inf), groups.max(3, keepdims=True, initial=-np.inf)
            zeros, scales = _short(low), _short((high - low) / 65535)
            steps = np.where(scales == 0, np.float32(1), scales)
            codes = np.clip(np.rint((groups - zeros) / steps), 0, 65535)
            for width in WIDTHS[: WIDTHS.index(self.bits) + 1]:
                codes = np.rint(codes / np.float32(2**width + 1))
                scales = _short(scales * np.float32(2**width + 1))
            back: Floats = (codes * scales + zeros).reshape(numbers.shape)
        return back

    def stored_bits(self, tokens: int, channels: int) -> float:
        """Codes, and 32 bits for each group."""
        return tokens * channels * (self.bits + 32 / self.group)


@dataclass(frozen=True, slots=True, kw_only=True)
class PmKvq(KVQuantizer):
    """See the module. A token is held in 8 bits from when its chunk of `window` tokens is full, in 4 bits when `four`
    tokens have been stored behind it, in 2 bits at `two`.
    """

    name: ClassVar[str] = "pmkvq"
    version: ClassVar[int] = 1
    four: int = 512
    two: int = 2048
    window: int = 128
    sinks: int = 1
    group: int = 128

    def __post_init__(self) -> None:
        """Raise QuantbenchError where bits would not fall with age."""
        if not 0 < self.four < self.two:
            raise QuantbenchError(f"pmkvq cannot have four = {self.four} and two = {self.two}: bits fall with age.")

    def form(self, channels: int) -> CacheForm:
        """Groups of 128 channels, or of the largest number below that divides a head."""
        group = divisor(channels, self.group)
        stages = tuple(
            Stage(rounding=Halved(bits=bits, group=group), age=age, chunk=self.window)
            for bits, age in zip(WIDTHS, (0, self.four, self.two), strict=True)
        )
        return CacheForm(keys=stages, values=stages, sinks=self.sinks)


def _short(numbers: Floats) -> Floats:
    """Rounded to bfloat16, within its range."""
    return np.clip(numbers, -MOST, MOST).astype(ml_dtypes.bfloat16).astype(np.float32)
