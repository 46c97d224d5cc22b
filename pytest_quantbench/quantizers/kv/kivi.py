"""KIVI: keys per channel, values per token, the newest tokens in full (Liu et al. 2024, section 3 and algorithm 1).

Keys have a few channels that are far larger than the others, in the same places for all tokens; values have not. So 32
tokens of a channel of the keys share a grid, and 32 channels of a token of the values, from the smallest number of the
group to its largest, with a float16 scale and zero. The window of R = 128: keys are kept as computed until R of them
are there, and are then rounded together; of the values the newest R are as computed, and one token is rounded when
another comes. Needs no calibration, and costs one pass over what is stored.

Where this differs: the paper's prefill attends to keys and values as computed, and rounds them behind it. Here every
token is stored as while decoding, so a prompt's tokens see the cache, too. The paper has 32 ≤ R ≤ 128. Heads that 32
does not divide get the largest group of channels that does.
"""

from dataclasses import dataclass
from typing import ClassVar

from pytest_quantbench.errors import QuantbenchError
from pytest_quantbench.quantizers.kv.grid import Grid, divisor
from pytest_quantbench.quantizers.kv.protocol import CacheForm, KVQuantizer, Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class Kivi(KVQuantizer):
    """See the module. bits + 32 / group for each number that is not in the window."""

    name: ClassVar[str] = "kivi"
    version: ClassVar[int] = 1
    bits: int = 2
    group: int = 32
    window: int = 128

    def __post_init__(self) -> None:
        """Raise QuantbenchError for a window that is no multiple of the group."""
        if min(self.window, self.group) < 1 or self.window % self.group:
            raise QuantbenchError(
                f"kivi cannot have window = {self.window} and group = {self.group}: the window is whole groups."
            )

    def form(self, channels: int) -> CacheForm:
        """Keys in groups along tokens, values in groups along channels."""
        keys = Grid(bits=self.bits, group=self.group, along="tokens")
        values = Grid(bits=self.bits, group=divisor(channels, self.group))
        return CacheForm(
            keys=(Stage(rounding=keys, chunk=self.window),),
            values=(Stage(rounding=values, age=self.window),),
        )
