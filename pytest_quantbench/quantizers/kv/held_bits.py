"""What a key-value cache takes, counted from what is stored: codes, scales, zeros, indices, sinks, and what is as
computed in 16 bits. It depends on how many tokens are held, as the newest may not be rounded yet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pytest_quantbench.quantizers.kv.protocol import CacheForm, KVQuantizer, Part

FULL_BITS = 16  # of a number as computed


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldLayer:
    """What one layer hands its cache of each token: `heads` times a key and a value of so many channels. `window`: it
    keeps so many of the newest tokens; 0: all.
    """

    heads: int
    key_channels: int
    value_channels: int
    window: int = 0

    @property
    def numbers(self) -> int:
        """Of one token."""
        return self.heads * (self.key_channels + self.value_channels)

    def kept(self, tokens: int) -> int:
        """How many of so many tokens it holds."""
        return min(tokens, self.window or tokens)


def cache_bits(method: KVQuantizer, layers: Sequence[HeldLayer], tokens: int) -> float:
    """What the cache of `tokens` tokens takes in all layers."""
    return sum(
        layer.heads
        * (
            head_bits(method.form(layer.key_channels), "keys", tokens, layer.key_channels, layer.window)
            + head_bits(method.form(layer.value_channels), "values", tokens, layer.value_channels, layer.window)
        )
        for layer in layers
    )


def bits_per_token(method: KVQuantizer, layers: Sequence[HeldLayer], tokens: int) -> float:
    """What a token takes, averaged over the `tokens` that are held; at least one."""
    return cache_bits(method, layers, tokens) / tokens


def held_numbers(layers: Sequence[HeldLayer], tokens: int) -> int:
    """How many keys and values, number by number, the cache of `tokens` tokens holds."""
    return sum(layer.kept(tokens) * layer.numbers for layer in layers)


def bits_per_number(method: KVQuantizer, layers: Sequence[HeldLayer], tokens: int) -> float:
    """What each number of keys and values that is held takes: 16 without a method."""
    return cache_bits(method, layers, tokens) / held_numbers(layers, tokens)


def cache_bytes(method: KVQuantizer | None, layers: Sequence[HeldLayer], tokens: int) -> float:
    """What the cache of `tokens` tokens takes; `method` None: all in 16 bits."""
    if method is None:
        return held_numbers(layers, tokens) * FULL_BITS / 8
    return cache_bits(method, layers, tokens) / 8


def reduction(method: KVQuantizer, layers: Sequence[HeldLayer], tokens: int) -> float:
    """Which share of a cache in 16 bits is saved: 0.75 where it takes a quarter."""
    return 1 - cache_bytes(method, layers, tokens) / cache_bytes(None, layers, tokens)


def head_bits(form: CacheForm, part: Part, tokens: int, channels: int, window: int = 0) -> float:
    """What keys or values of one head take when there have been `tokens` tokens, of which so many of the newest are
    kept; 0: all.
    """
    kept = np.arange(max(tokens - window, 0) if window else 0, tokens)
    reached = form.reached(part, np.array([tokens - 1]), kept)[0]
    held = 0.0
    for index, stage in enumerate(form.stages(part)):
        count = int((reached == index).sum())
        if count and stage.rounding is not None:
            held += stage.rounding.stored_bits(count, channels)
        else:
            held += FULL_BITS * channels * count
    return held + FULL_BITS * channels * int((reached < 0).sum())
