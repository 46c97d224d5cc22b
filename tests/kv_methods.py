"""Methods for the key-value cache that are small enough to age within twenty tokens, one for each kind of form."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from pytest_quantbench.quantizers.kv import CacheForm, KVQuantizer, Stage
from pytest_quantbench.quantizers.kv.affine import Affine


@dataclass(frozen=True, slots=True, kw_only=True)
class PerChannel:
    """Every channel of `token_group` tokens on a grid from its smallest to its largest number."""

    levels: int
    token_group: int = 4

    def rounded(self, numbers, queries=None):
        found = np.empty_like(numbers)
        for first in range(0, numbers.shape[1], self.token_group):
            group = numbers[:, first : first + self.token_group].astype(np.float64)
            low, high = group.min(1, keepdims=True), group.max(1, keepdims=True)
            step = np.maximum((high - low) / (self.levels - 1), 1e-9)
            found[:, first : first + self.token_group] = np.rint((group - low) / step) * step + low
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


COARSE, FINE = PerChannel(levels=3), PerChannel(levels=17)
OLD_KEYS = (Stage(rounding=COARSE, age=5, chunk=4),)
PROGRESSIVE = (Stage(rounding=FINE, age=2, chunk=4), Stage(rounding=COARSE, age=9, chunk=8))
METHODS = {
    "kv4": Affine(key_bits=4, value_bits=4),
    "kv4-rot": Affine(key_bits=4, value_bits=4, rotated=True),
    "sinks": Formed(held=CacheForm(keys=Affine(key_bits=2).form(16).keys, values=Affine(value_bits=2).form(16).values, sinks=3)),
    "aging keys": Formed(held=CacheForm(keys=OLD_KEYS, values=Affine(value_bits=3).form(16).values)),
    "aging both": Formed(held=CacheForm(keys=OLD_KEYS, values=PROGRESSIVE)),
    "rotated and aging": Formed(held=CacheForm(keys=PROGRESSIVE, values=OLD_KEYS, rotates=True, sinks=2)),
}
