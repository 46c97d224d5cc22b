"""The rounding that most methods share: groups of numbers on evenly spaced levels, described by a few fields.

An engine may compute a `Grid` on arrays of its own from these fields; what is here is the definition. All arithmetic is
float32, rounding to nearest is to even, and scales and zeros are rounded to their 16 bits before codes are chosen, but
for `mlx`, which chooses the codes first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias

import ml_dtypes
import numpy as np

from pytest_quantbench.errors import QuantbenchError
from pytest_quantbench.quantizers.kv.protocol import Floats
from pytest_quantbench.quantizers.numerics import affine_rounding

Kind: TypeAlias = Literal["mlx", "range", "symmetric"]
HALF_MOST = np.float32(65504)  # the largest float16


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Groups of `group` numbers, each on a grid of its own: `along` the channels of a token, or the tokens of a
    channel, counted from the first; the last group of a row may be shorter. Kinds of grids, for b `bits`:

    - `range`: zero = the smallest number, scale = (largest − smallest) / (2^b − 1), both float16 and no further from
      zero than its largest; code = (number − zero) / scale, rounded and cut to 0 … 2^b − 1; back: code × scale + zero.
    - `symmetric`: scale = largest size / (2^(b − 1) − 1), as above; code = number / scale, rounded, cut to that size on
      both sides; back: code × scale.
    - `mlx`: `mlx.core.quantize`, of which `numerics.affine_rounding` tells all; scale and bias are bfloat16. Only along
      channels, and `group` divides them.

    Where a scale is zero, every code is zero.
    """

    bits: int
    group: int
    along: Literal["channels", "tokens"] = "channels"
    kind: Kind = "range"
    looks: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Raise QuantbenchError for what cannot be."""
        if not (1 + (self.kind == "symmetric") <= self.bits <= 8 and self.group >= 1):
            raise QuantbenchError(f"A {self.kind} grid cannot have {self.bits} bits and groups of {self.group}.")
        if self.kind == "mlx" and self.along == "tokens":
            raise QuantbenchError("MLX's grid is along channels.")

    @property
    def token_group(self) -> int:
        """Tokens that are rounded together."""
        return self.group if self.along == "tokens" else 1

    def rounded(self, numbers: Floats, queries: Floats | None = None, keys: Floats | None = None) -> Floats:
        """(heads, tokens, channels) → the same on the grid."""
        if self.along == "tokens":
            return np.ascontiguousarray(self._rows(numbers.swapaxes(1, 2)).swapaxes(1, 2))
        return self._rows(numbers)

    def stored_bits(self, tokens: int, channels: int) -> float:
        """Codes, and for each group a scale in 16 bits, and a zero in 16 unless it is symmetric."""
        length, rows = (channels, tokens) if self.along == "channels" else (tokens, channels)
        groups = rows * -(-length // self.group)
        return tokens * channels * self.bits + groups * (16 if self.kind == "symmetric" else 32)

    def _rows(self, rows: Floats) -> Floats:
        """(heads, rows, length) → each row in groups."""
        back = np.empty_like(rows)
        whole = rows.shape[2] // self.group * self.group
        for part in (slice(0, whole), slice(whole, rows.shape[2])):
            if rows[..., part].size:
                length = min(self.group, rows[..., part].shape[2])
                groups = np.ascontiguousarray(rows[..., part]).reshape(-1, length)
                with np.errstate(over="ignore", invalid="ignore"):  # what is not finite stays so, for those who ask
                    back[..., part] = self._groups(groups).reshape(rows[..., part].shape)
        return back

    def _groups(self, groups: Floats) -> Floats:
        """(groups, length) → the same on their grids."""
        if self.kind == "mlx":
            return self._mlx(groups)
        if self.kind == "symmetric":
            most = np.float32(2 ** (self.bits - 1) - 1)
            least, zeros = -most, np.zeros((len(groups), 1), np.float32)
            scales = _half(np.abs(groups).max(1, keepdims=True) / most)
        else:
            least, most = np.float32(0), np.float32(2**self.bits - 1)
            low, high = groups.min(1, keepdims=True), groups.max(1, keepdims=True)
            zeros, scales = _half(low), _half((high - low) / most)
        steps = np.where(scales == 0, np.float32(1), scales)
        codes = np.clip(np.rint((groups - zeros) / steps), least, most)
        back: Floats = codes * scales + zeros
        return back

    def _mlx(self, groups: Floats) -> Floats:
        codes, scales, biases = affine_rounding.rounded(groups, groups.shape[1], self.bits)
        scales, biases = (each.astype(ml_dtypes.bfloat16).astype(np.float32) for each in (scales, biases))
        back: Floats = codes * scales + biases
        return back


def refuse_wider(method: str, bits: int, most: int = 4) -> None:
    """Raise QuantbenchError where a method would hold what matters least in more bits than what matters more."""
    if bits > most:
        raise QuantbenchError(
            f"{method} cannot have {bits} bits: they are of what matters least, and what matters more has {most}. "
            f"Choose at most {most}, such as kv2-{method}."
        )


def divisor(channels: int, most: int) -> int:
    """The largest group of at most so many channels that divides a head. Raises QuantbenchError for groups of none."""
    if most < 1:
        raise QuantbenchError(f"A cache cannot be held in groups of {most} channels: give 1 or more.")
    return next(group for group in range(min(most, channels), 0, -1) if channels % group == 0)


def _half(numbers: Floats) -> Floats:
    """Rounded to float16, within its range."""
    return np.clip(numbers, -HALF_MOST, HALF_MOST).astype(np.float16).astype(np.float32)
