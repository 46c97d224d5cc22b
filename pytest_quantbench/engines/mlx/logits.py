"""Logits that stay on an accelerator: of a vocabulary per position, only what is asked for comes to the host."""

from functools import cached_property

import mlx.core as mx
import numpy as np

from pytest_quantbench.engines.divergence import Distributions, Fidelity
from pytest_quantbench.engines.logits import BLOCK, Doubles, HostLogits, Logits, Tokens, compared
from pytest_quantbench.engines.mlx.host_products import backend, view


class DeviceLogits:
    """(n, vocabulary) float32 logits as MLX holds them: `HostLogits` to 1e-5 nats."""

    def __init__(self, rows: mx.array) -> None:
        self._rows = rows

    @cached_property
    def _log_sums(self) -> mx.array:
        """(n, 1). Blocks are added up first, and then their sums: one long sum in float32 drifts."""
        count, vocabulary = self._rows.shape
        largest = self._rows.max(axis=-1, keepdims=True)
        powers = mx.pad(mx.exp(self._rows - largest), [(0, 0), (0, -vocabulary % BLOCK)])
        return largest + mx.log(powers.reshape(count, -1, BLOCK).sum(axis=-1).sum(axis=-1, keepdims=True))

    def nll(self, tokens: Tokens) -> Doubles:
        chosen = mx.take_along_axis(self._rows, mx.array(tokens)[:, None], axis=-1)
        return np.array(self._log_sums - chosen)[:, 0].astype(np.float64)

    def likeliest(self) -> Tokens:
        return np.array(mx.argmax(self._rows, axis=-1))

    def compact(self, place: int) -> Distributions:
        """On the host: once for a model, whatever the number of its recipes, and the same on every machine."""
        return HostLogits(view(self._rows)).compact(place)

    def against(self, kept: Distributions) -> Fidelity:
        scores, above = self._rows - self._log_sums, np.zeros(len(kept.rest))
        theirs = scores
        if kept.tokens.size:
            theirs = mx.take_along_axis(scores, mx.array(kept.tokens.astype(np.int32)), axis=-1)
            high = scores > mx.array(kept.threshold)[:, None]
            above = np.array(mx.where(high, mx.exp(scores), 0).sum(axis=-1)).astype(np.float64)
        return compared(kept, np.array(theirs).astype(np.float64), above, self.likeliest())


def logits_of(rows: mx.array) -> Logits:
    """The form that suits where MLX computes."""
    return HostLogits(view(rows)) if backend() == "cpu" else DeviceLogits(rows)
