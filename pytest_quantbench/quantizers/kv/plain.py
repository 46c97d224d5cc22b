"""Plain rounding of the cache: each token on one grid, or each channel on a grid for every 64 tokens.

The two simplest ways, which papers compare themselves with. The grid goes from a group's smallest number to its
largest. Per token that is all the channels of a head: a channel that is far larger than the others takes the levels
from them, as keys have it (KIVI, Liu et al. 2024, section 3). Per channel such a channel has a grid of its own, and a
group needs several tokens: the newest up to 63 stay as computed until their group is full. Each group's scale and zero
are float16. Costs one pass over what is stored.

`symmetric`: levels on both sides of zero, and no zero is stored.
"""

from dataclasses import dataclass
from typing import ClassVar

from pytest_quantbench.quantizers.kv.grid import Grid, Kind
from pytest_quantbench.quantizers.kv.protocol import CacheForm, KVQuantizer, Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class PerToken(KVQuantizer):
    """All channels of a token of a head are one group. bits + 32 / channels for each number."""

    name: ClassVar[str] = "token"
    version: ClassVar[int] = 1
    bits: int = 8
    symmetric: bool = False

    def form(self, channels: int) -> CacheForm:
        """Keys and values alike."""
        stage = Stage(rounding=Grid(bits=self.bits, group=channels, kind=_kind(self.symmetric)))
        return CacheForm(keys=(stage,), values=(stage,))


@dataclass(frozen=True, slots=True, kw_only=True)
class PerChannel(KVQuantizer):
    """`group` tokens of a channel are one group. bits + 32 / group for each number of a full group."""

    name: ClassVar[str] = "channel"
    version: ClassVar[int] = 1
    bits: int = 8
    group: int = 64
    symmetric: bool = False

    def form(self, channels: int) -> CacheForm:
        """Keys and values alike."""
        grid = Grid(bits=self.bits, group=self.group, along="tokens", kind=_kind(self.symmetric))
        stage = Stage(rounding=grid, chunk=self.group)
        return CacheForm(keys=(stage,), values=(stage,))


def _kind(symmetric: bool) -> Kind:
    return "symmetric" if symmetric else "range"
