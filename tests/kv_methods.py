"""Methods for the key-value cache that show which token was in which stage, and hide nothing behind a rounding.

Their roundings are continuous: what differs in a float's last bit before differs so behind. All age within twenty
tokens, one for each kind of form.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from pytest_quantbench.quantizers.kv import CacheForm, KVQuantizer, Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class Blend:
    """Every number a share of the way towards its channel's mean over `token_group` tokens; the first channel as large
    again, so that nothing is the same twice.
    """

    share: float
    token_group: int = 1
    looks: ClassVar[bool] = False

    def rounded(self, numbers, queries=None, keys=None):
        assert queries is keys is None
        found = numbers.copy()
        for first in range(0, numbers.shape[1], self.token_group):
            group = found[:, first : first + self.token_group]
            group += self.share * (group.mean(1, keepdims=True) - group)
            group[..., 0] *= 1 + self.share
        return found

    def stored_bits(self, tokens, channels):
        raise NotImplementedError


@dataclass(frozen=True, slots=True, kw_only=True)
class Looking:
    """Every number larger by a bend of the scores of its tokens' own queries and keys."""

    token_group: int = 4
    looks: ClassVar[bool] = True

    def rounded(self, numbers, queries=None, keys=None):
        found = numbers.copy()
        asked = queries.reshape(len(numbers), -1, *queries.shape[1:]).mean(1)  # (heads, tokens, channels)
        for first in range(0, numbers.shape[1], self.token_group):
            some = slice(first, first + self.token_group)
            scores = (asked[:, some] * keys[:, some]).mean((1, 2))
            found[:, some] *= 1 + np.tanh(scores)[:, None, None] / 2
        return found

    def stored_bits(self, tokens, channels):
        raise NotImplementedError


@dataclass(frozen=True, slots=True, kw_only=True)
class Formed(KVQuantizer):
    """A method that is a form."""

    name: ClassVar[str] = "formed"
    version: ClassVar[int] = 1
    held: CacheForm

    def form(self, channels):
        return self.held


AT_ONCE = (Stage(rounding=Blend(share=0.5)),)
OLD = (Stage(rounding=Blend(share=0.8, token_group=4), age=5, chunk=4),)
PROGRESSIVE = (
    Stage(rounding=Blend(share=0.3), age=2),
    Stage(rounding=Blend(share=0.6, token_group=4), age=4, chunk=4),
    Stage(rounding=Blend(share=0.9, token_group=2), age=9, chunk=8),
)
LOOKING = (Stage(rounding=Looking(), age=3, chunk=4),)
METHODS = {
    "at once": Formed(held=CacheForm(keys=AT_ONCE, values=AT_ONCE)),
    "at once, rotated, with sinks": Formed(held=CacheForm(keys=AT_ONCE, values=AT_ONCE, rotates=True, sinks=3)),
    "old keys": Formed(held=CacheForm(keys=OLD, values=AT_ONCE)),
    "progressive": Formed(held=CacheForm(keys=PROGRESSIVE, values=OLD)),
    "old, rotated, with sinks": Formed(held=CacheForm(keys=OLD, values=PROGRESSIVE, rotates=True, sinks=2)),
    "looking": Formed(held=CacheForm(keys=LOOKING, values=LOOKING)),
    "looking, rotated": Formed(held=CacheForm(keys=LOOKING, values=AT_ONCE, rotates=True)),
}
