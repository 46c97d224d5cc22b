"""Key-value caches as their papers tell them: filled token by token, rounded when the paper says so, number by number.

Nothing here asks a `CacheForm` or a `Grid`. A cache is of one head of the keys; `append` stores a token, and `seen`
says what the token's own query is then multiplied with.
"""

import math
from types import SimpleNamespace

import ml_dtypes
import numpy as np


def half(number):
    return np.float32(np.float16(min(max(number, np.float32(-65504)), np.float32(65504))))


def short(number):
    return np.float32(ml_dtypes.bfloat16(number))


def between_ends(group, bits):
    """A group of numbers on 2^bits levels from its smallest to its largest, one number after the other."""
    levels = np.float32(2**bits - 1)
    zero, step = half(min(group)), half((max(group) - min(group)) / levels)
    if step == 0:
        return [zero for _ in group]
    return [min(max(np.rint((each - zero) / step), np.float32(0)), levels) * step + zero for each in group]


def on_mlx(group, bits):
    """As `mlx.core.quantize` tells it: the end further from zero is on the grid, and zero is a whole number of steps
    from it.
    """
    low, high, levels = min(group), max(group), np.float32(2**bits - 1)
    edge = low if abs(low) > abs(high) else high
    step = max((high - low) / levels, np.float32(1e-7))
    step = step if edge == low and abs(low) > abs(high) else -step
    count = np.rint(edge / step)
    start = np.float32(0) if count == 0 else edge
    step = step if count == 0 else edge / count
    codes = [min(max(np.rint((each - start) / step), np.float32(0)), levels) for each in group]
    return [code * short(step) + short(start) for code in codes]


def pieces(row, size):
    return [row[start : start + size] for start in range(0, len(row), size)]


def along_channels(token, bits, size, way=between_ends):
    """One token (channels,) in groups of channels."""
    return np.array([each for piece in pieces(list(token), size) for each in way(piece, bits)], np.float32)


def along_tokens(tokens, bits, size):
    """(tokens, channels): each channel in groups of tokens."""
    columns = [
        [each for piece in pieces(list(column), size) for each in between_ends(piece, bits)]
        for column in zip(*tokens, strict=True)
    ]
    return [np.array(token, np.float32) for token in zip(*columns, strict=True)]


def largest_divisor(channels, most):
    return max(group for group in range(1, min(channels, most) + 1) if channels % group == 0)


class SlowCache:
    """Tokens in the order in which they came; what has been rounded replaces what was there."""

    def __init__(self, **parameters):
        self.keys, self.values, self.asked = [], [], []
        self.given = SimpleNamespace(**parameters)

    def append(self, key, value, queries):
        """(channels,), (channels,) and (query heads, channels) of one token."""
        self.keys.append(key)
        self.values.append(value)
        self.asked.append(queries)
        self.age()

    def age(self):
        """Rounds what is to be rounded when a token has come."""
        raise NotImplementedError

    def seen(self):
        return np.array(self.keys), np.array(self.values)


class Affine(SlowCache):
    def age(self):
        size = largest_divisor(len(self.keys[-1]), self.given.group)
        if self.given.rotated:
            turn = self.given.turn
            turned = along_channels(turn @ self.keys[-1], self.given.key_bits, size, on_mlx)
            self.keys[-1] = turn.T @ turned
        else:
            self.keys[-1] = along_channels(self.keys[-1], self.given.key_bits, size, on_mlx)
        self.values[-1] = along_channels(self.values[-1], self.given.value_bits, size, on_mlx)


class PerToken(SlowCache):
    def age(self):
        for held in (self.keys, self.values):
            held[-1] = along_channels(held[-1], self.given.bits, len(held[-1]))


class PerChannel(SlowCache):
    def age(self):
        if len(self.keys) % self.given.group == 0:
            for held in (self.keys, self.values):
                held[-self.given.group :] = along_tokens(held[-self.given.group :], self.given.bits, self.given.group)


class Kivi(SlowCache):
    """Algorithm 1: keys are rounded when `window` of them are there, of the values the one that leaves the window."""

    waiting = 0

    def age(self):
        self.waiting += 1
        if self.waiting == self.given.window:
            self.keys[-self.given.window :] = along_tokens(
                self.keys[-self.given.window :], self.given.bits, self.given.group
            )
            self.waiting = 0
        if len(self.values) > self.given.window:
            leaves = len(self.values) - self.given.window - 1
            size = largest_divisor(len(self.values[leaves]), self.given.group)
            self.values[leaves] = along_channels(self.values[leaves], self.given.bits, size)


class PmKvq(SlowCache):
    """Codes are kept, and halved where they lie."""

    def __init__(self, **parameters):
        super().__init__(**parameters)
        self.codes = {"keys": [], "values": []}  # by token: groups of (codes, scale, zero, bits)

    def append(self, key, value, queries):
        self.codes["keys"].append(self.coded(key))
        self.codes["values"].append(self.coded(value))
        super().append(key, value, queries)

    def coded(self, token):
        found = []
        for piece in pieces(list(token), largest_divisor(len(token), self.given.group)):
            zero, step = short(min(piece)), short((max(piece) - min(piece)) / np.float32(65535))
            codes = [0 if step == 0 else int(np.rint((each - zero) / step)) for each in piece]
            found.append(([min(max(code, 0), 65535) for code in codes], step, zero, 16))
        return found

    def age(self):
        count = len(self.keys)
        for part in ("keys", "values"):
            held = getattr(self, part)
            for token in range(self.given.sinks, count):
                chunk_is_full = count >= (token // self.given.window + 1) * self.given.window
                older = [
                    (count - age) // self.given.window * self.given.window > token
                    for age in (self.given.four, self.given.two)
                ]
                wanted = 2 if older[1] else 4 if older[0] else 8 if chunk_is_full else 16
                self.codes[part][token] = [self.halved(group, wanted) for group in self.codes[part][token]]
                if wanted < 16:
                    groups = self.codes[part][token]
                    held[token] = np.array(
                        [np.float32(q) * s + z for codes, s, z, _ in groups for q in codes], np.float32
                    )

    def halved(self, group, wanted):
        codes, step, zero, bits = group
        while bits > wanted:
            bits //= 2
            whole = 2**bits + 1
            codes = [
                (2 * code + whole) // (2 * whole) for code in codes
            ]  # the nearest: whole is odd, so none is between
            step = short(step * np.float32(whole))
        return codes, step, zero, bits


class MixKvq(SlowCache):
    def age(self):
        if len(self.keys) % self.given.window:
            return
        keys = self.keys[-self.given.window :]
        channels = len(keys[0])
        weight = []
        for channel in range(channels):
            column = [key[channel] for key in keys]
            sizes = [abs(query[channel]) for asked in self.asked[-self.given.window :] for query in asked]
            weight.append((max(column) - min(column)) * np.mean(np.array(sizes, np.float64)))
        best = sorted(range(channels), key=lambda channel: -weight[channel])
        full = round(self.given.full * channels)
        four = round(self.given.four * channels)
        rounded = np.array(along_tokens(keys, 2, self.given.group))
        finer = np.array(along_tokens(keys, 4, self.given.group))
        for rank, channel in enumerate(best):
            if rank < full:
                rounded[:, channel] = np.array(keys)[:, channel]
            elif rank < full + four:
                rounded[:, channel] = finer[:, channel]
        self.keys[-self.given.window :] = list(rounded)
        size = largest_divisor(channels, self.given.group)
        self.values[-self.given.window :] = [
            along_channels(value, 2, size) for value in self.values[-self.given.window :]
        ]


class Cocktail(SlowCache):
    def age(self):
        if len(self.keys) % self.given.block:
            return
        start = len(self.keys) - self.given.block
        chunks = [range(first, first + self.given.chunk) for first in range(start, len(self.keys), self.given.chunk)]
        query = np.mean([np.mean(self.asked[token], 0, dtype=np.float64) for token in chunks[-1]], 0)
        likeness = []
        for chunk in chunks:
            key = np.mean([self.keys[token].astype(np.float64) for token in chunk], 0)
            likeness.append(key @ query / math.sqrt(max((key @ key) * (query @ query), 1e-300)))
        best = sorted(range(len(chunks)), key=lambda index: -likeness[index])
        for rank, index in enumerate(best):
            if rank < self.given.full:
                continue
            bits, held = 4 if rank < self.given.full + self.given.four else 2, chunks[index]
            size = largest_divisor(len(self.values[0]), self.given.group)
            self.keys[held[0] : held[-1] + 1] = along_tokens(
                [self.keys[token] for token in held], bits, self.given.chunk
            )
            for token in held:
                self.values[token] = along_channels(self.values[token], bits, size)
