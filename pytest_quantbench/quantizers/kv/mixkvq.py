"""MixKVQ: more bits for the channels of the keys on which scores depend (Zhang et al. 2025, arXiv 2512.19206).

How much a channel's rounding moves the scores is the product of two things: how coarse its grid is (the channel's range
over the tokens), and how large the queries are in that channel. For every 128 tokens of a head, channels are ranked by
range × mean |query|: the first 1/16 of them stays in 16 bits, the next 1/8 gets 4, the others 2 bits. Keys are rounded
per channel in groups of 32 tokens, values per token in groups of 32 channels to 2 bits; each group has a float16 scale
and zero, and each channel of 128 tokens two more bits that say its width. Costs a sort of the channels for every 128
tokens. With 64 channels that is 3.1 bits for a number of the keys before scales, and 2 for one of the values: 2.6,
where the paper has 2.3 to 2.7.

Where this differs: the paper compares the product with two thresholds found on calibration text, so that layers differ
in bits; here the shares are fixed, and bits are known beforehand. Its queries are all that have been there; here they
are those of the same 128 tokens, of all query heads that share the keys' head: when a query sees these tokens
rounded, they have been.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from pytest_quantbench.errors import QuantbenchError
from pytest_quantbench.quantizers.kv.grid import Grid, divisor, refuse_wider
from pytest_quantbench.quantizers.kv.protocol import CacheForm, Floats, KVQuantizer, Stage, grouped_queries


@dataclass(frozen=True, slots=True, kw_only=True)
class MixedChannels:
    """Of every `token_group` tokens, `full` channels stay in 16 bits, `four` get 4, the others `bits`."""

    bits: int
    full: int
    four: int
    group: int
    token_group: int
    looks: ClassVar[bool] = True

    def rounded(self, numbers: Floats, queries: Floats | None = None, keys: Floats | None = None) -> Floats:
        """(heads, tokens, channels) → the same, block after block."""
        if not numbers.size:
            return numbers
        seen = grouped_queries(numbers, queries)  # (heads, query heads of each, tokens, channels)
        back = np.empty_like(numbers)
        for start in range(0, numbers.shape[1], self.token_group):
            block = slice(start, start + self.token_group)
            back[:, block] = self._block(numbers[:, block], seen[:, :, block])
        return back

    def _block(self, keys: Floats, queries: Floats) -> Floats:
        """(heads, tokens, channels) and (heads, query heads, tokens, channels) → the keys of one block."""
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite stays so, for those who ask
            salience = (keys.max(1) - keys.min(1)) * np.abs(queries).mean((1, 2))  # (heads, channels)
        rank = np.argsort(np.argsort(-salience, axis=1, kind="stable"), axis=1)[:, None]
        low, high = (Grid(bits=bits, group=self.group, along="tokens").rounded(keys) for bits in (self.bits, 4))
        back: Floats = np.where(rank < self.full, keys, np.where(rank < self.full + self.four, high, low))
        return back

    def stored_bits(self, tokens: int, channels: int) -> float:
        """Codes, 32 bits for each group, and two bits for each channel of a block."""
        groups, low = -(-tokens // self.group), channels - self.full - self.four
        codes = tokens * (16 * self.full + 4 * self.four + self.bits * low)
        return codes + 32 * groups * (self.four + low) + 2 * channels * -(-tokens // self.token_group)


@dataclass(frozen=True, slots=True, kw_only=True)
class MixKvq(KVQuantizer):
    """See the module. `full` and `four`: which shares of the channels get 16 and 4 bits; the others get `bits`."""

    name: ClassVar[str] = "mixkvq"
    version: ClassVar[int] = 1
    bits: int = 2
    full: float = 1 / 16
    four: float = 1 / 8
    group: int = 32
    window: int = 128

    def __post_init__(self) -> None:
        """Raise QuantbenchError for shares that are none, or the least sensitive channels in more bits than others."""
        refuse_wider(self.name, self.bits)
        if min(self.full, self.four) < 0 or self.full + self.four > 1:
            raise QuantbenchError(f"mixkvq cannot have full = {self.full} and four = {self.four}: shares of one whole.")

    def form(self, channels: int) -> CacheForm:
        """Shares of the channels are rounded to whole ones."""
        full = round(self.full * channels)
        four = min(round(self.four * channels), channels - full)
        keys = MixedChannels(bits=self.bits, full=full, four=four, group=self.group, token_group=self.window)
        values = Grid(bits=self.bits, group=divisor(channels, self.group))
        return CacheForm(
            keys=(Stage(rounding=keys, chunk=self.window),), values=(Stage(rounding=values, chunk=self.window),)
        )
