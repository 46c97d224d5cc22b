"""Cocktail: more bits for the chunks of a context that matter to the query (Tao et al. 2025, arXiv 2503.23294).

The context is cut into chunks of 32 tokens, each is compared with the query, and the more alike they are the more bits
a chunk gets, keys and values alike: 16, 4 or 2. Here that is done for every 256 tokens when the last of them is there:
the query is the last chunk of the eight, and a chunk's relevance the cosine between its mean key and the mean query of
that chunk, for each head of the keys. The most relevant chunk stays in 16 bits, the next three get 4, the others 2.
Keys are rounded per channel over a chunk, values per token in groups of 32 channels, with a float16 scale and zero for
each group; two bits of each chunk say its width. Until its 256 tokens are there, a token stays as computed. Costs a
cosine for each chunk, and one pass over what is stored.

Where this differs: the paper has one query, the question behind the context, and rounds the context once, before the
answer is written. A running text has none, and what a token sees must not depend on tokens behind it, so the text's own
latest chunk stands for it: a chunk is never judged by a question that comes much later. The paper compares texts by an
encoder beside the model, here it is the model's keys and queries; the paper cuts the range of similarities at two
thresholds, here the counts are fixed, so that bits are known beforehand.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from pytest_quantbench.errors import QuantbenchError
from pytest_quantbench.quantizers.kv.grid import Grid, divisor, refuse_wider
from pytest_quantbench.quantizers.kv.protocol import CacheForm, Floats, KVQuantizer, Part, Stage, grouped_queries


@dataclass(frozen=True, slots=True, kw_only=True)
class RelevantChunks:
    """Of the chunks of every `token_group` tokens, `full` stay in 16 bits, `four` get 4, the others `bits`."""

    part: Part
    bits: int
    full: int
    four: int
    chunk: int
    group: int  # of channels, for values
    token_group: int
    looks: ClassVar[bool] = True

    def rounded(self, numbers: Floats, queries: Floats | None = None, keys: Floats | None = None) -> Floats:
        """(heads, tokens, channels) → the same, block after block."""
        if keys is None:
            raise QuantbenchError("cocktailkv needs keys and queries, which an engine did not give.")
        if not numbers.size:
            return numbers
        seen = grouped_queries(keys, queries)  # (heads, query heads of each, tokens, channels)
        high, low = (self._grid(bits).rounded(numbers) for bits in (4, self.bits))
        back = np.empty_like(numbers)
        for start in range(0, numbers.shape[1], self.token_group):
            block = slice(start, start + self.token_group)
            rank = np.repeat(self._ranks(keys[:, block], seen[:, :, block]), self.chunk, 1)
            rank = rank[:, : numbers[:, block].shape[1], None]  # (heads, tokens, 1)
            rounded = np.where(rank < self.full + self.four, high[:, block], low[:, block])
            back[:, block] = np.where(rank < self.full, numbers[:, block], rounded)
        return back

    def _grid(self, bits: int) -> Grid:
        if self.part == "keys":
            return Grid(bits=bits, group=self.chunk, along="tokens")
        return Grid(bits=bits, group=self.group)

    def _ranks(self, keys: Floats, queries: Floats) -> np.ndarray[tuple[int, ...], np.dtype[np.intp]]:
        """(heads, tokens, channels) and (heads, query heads, tokens, channels) → (heads, chunks): 0 for the one that is
        most like the last chunk's queries. Of two that are as like, the earlier comes first.
        """
        starts = range(0, keys.shape[1], self.chunk)
        means = np.stack([keys[:, start : start + self.chunk].mean(1) for start in starts], 1)
        asked = queries[:, :, starts[-1] :].mean((1, 2))[:, None]  # (heads, 1, channels)
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite stays so, for those who ask
            sizes = np.linalg.norm(means, axis=2) * np.linalg.norm(asked, axis=2)
            cosines = (means * asked).sum(2) / np.where(sizes == 0, np.float32(1), sizes)
        return np.argsort(np.argsort(-cosines, axis=1, kind="stable"), axis=1)

    def stored_bits(self, tokens: int, channels: int) -> float:
        """Of blocks, of which the last may not be full: then its first ranks are there."""
        return sum(
            self._block_bits(min(self.token_group, tokens - start), channels)
            for start in range(0, tokens, self.token_group)
        )

    def _block_bits(self, tokens: int, channels: int) -> float:
        chunks = -(-tokens // self.chunk)
        full = min(self.full, chunks)
        four = min(self.four, chunks - full)
        each = tokens / chunks  # tokens of a chunk
        rounded = sum(
            count * self._grid(bits).stored_bits(self.chunk, channels) * each / self.chunk
            for bits, count in ((4, four), (self.bits, chunks - full - four))
        )
        return 16 * full * each * channels + rounded + 2 * chunks


@dataclass(frozen=True, slots=True, kw_only=True)
class CocktailKV(KVQuantizer):
    """See the module. `full` and `four`: how many chunks of a block get 16 and 4 bits; the others get `bits`."""

    name: ClassVar[str] = "cocktailkv"
    version: ClassVar[int] = 1
    bits: int = 2
    full: int = 1
    four: int = 3
    chunk: int = 32
    block: int = 256
    group: int = 32

    def __post_init__(self) -> None:
        """Raise QuantbenchError for chunks that do not fill a block, or the least relevant in more bits than others."""
        refuse_wider(self.name, self.bits)
        chunks = self.block // self.chunk if self.chunk > 0 and self.block % self.chunk == 0 else -1
        if min(self.full, self.four) < 0 or self.full + self.four > chunks:
            raise QuantbenchError(
                f"cocktailkv cannot have blocks of {self.block} tokens in chunks of {self.chunk}, of which "
                f"{self.full} get 16 bits and {self.four} get 4."
            )

    def form(self, channels: int) -> CacheForm:
        """Groups of 32 channels of the values, or of the largest number below that divides a head."""
        keys, values = (
            Stage(
                rounding=RelevantChunks(
                    part=part,
                    bits=self.bits,
                    full=self.full,
                    four=self.four,
                    chunk=self.chunk,
                    group=divisor(channels, self.group),
                    token_group=self.block,
                ),
                chunk=self.block,
            )
            for part in ("keys", "values")
        )
        return CacheForm(keys=(keys,), values=(values,))
