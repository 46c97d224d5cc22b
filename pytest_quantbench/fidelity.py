"""How far a model's predictions are from the reference's: KL divergence and the likeliest token, at every position.

The reference's distributions are kept as their largest log-probabilities and the mass of the rest, in one hundredth of
the size of all logits, so that later recipes need no second run of the reference. The rest counts as one outcome: by
the log-sum inequality the divergence comes out too small, never too large, and `missed_nats` bounds by how much.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TypeVar

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

SHARE = 0.01  # of the size of float32 logits
SMALLEST = 1e-7  # a mass below it is float32 rounding
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Distributions:
    """(n, K) token ids and natural log-probabilities of the likeliest tokens, largest first; (n,) mass of the rest."""

    tokens: NDArray[np.unsignedinteger]
    log_probabilities: Floats
    rest: Floats

    def part(self, start: int, stop: int) -> "Distributions":
        """Those of some positions."""
        return Distributions(
            tokens=self.tokens[start:stop],
            log_probabilities=self.log_probabilities[start:stop],
            rest=self.rest[start:stop],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Fidelity:
    """(n,) divergences in nats, what they are too small by at most, and whether the likeliest token is the same."""

    kl_nats: Floats
    missed_nats: Floats
    same_top: NDArray[np.bool_]


def kept_tokens(vocabulary: int) -> int:
    """How many of a position's log-probabilities fit into SHARE of its logits, at least one."""
    room = SHARE * 4 * vocabulary - 4  # the rest takes a float32
    return max(1, int(room // (4 + _id_type(vocabulary).itemsize)))


def _id_type(vocabulary: int) -> "np.dtype[np.unsignedinteger]":
    return np.dtype(np.uint16 if vocabulary <= 2**16 else np.uint32)


def compact(logits: mx.array) -> Distributions:
    """(n, vocabulary) float32 logits → what is kept of them."""
    vocabulary = logits.shape[-1]
    count = kept_tokens(vocabulary)
    scores = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
    places = mx.argpartition(-scores, kth=count, axis=-1)[:, :count] if count < vocabulary else mx.argsort(-scores)
    found = mx.take_along_axis(scores, places, axis=-1)
    order = mx.argsort(-found, axis=-1)
    largest = np.array(mx.take_along_axis(found, order, axis=-1))
    mass = 1 - np.exp(largest.astype(np.float64)).sum(-1)
    rest = np.where(mass > SMALLEST, mass, 0).astype(np.float32)
    tokens = np.array(mx.take_along_axis(places, order, axis=-1)).astype(_id_type(vocabulary))
    return Distributions(tokens=tokens, log_probabilities=largest, rest=rest)


def compare(kept: Distributions, logits: mx.array) -> Fidelity:
    """The divergence KL(kept ‖ softmax(logits)) at each of n positions; `logits` (n, vocabulary) float32."""
    scores = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
    places = mx.array(kept.tokens.astype(np.int32))
    theirs = np.array(mx.take_along_axis(scores, places, axis=-1)).astype(np.float64)  # (n, K)
    lowest = np.array(scores.min(axis=-1)).astype(np.float64)
    ours, rest = kept.log_probabilities.astype(np.float64), kept.rest.astype(np.float64)
    left = np.maximum(1 - np.exp(theirs).sum(-1), SMALLEST)
    whole = (np.exp(ours) * (ours - theirs)).sum(-1)
    together = np.where(rest > 0, rest * np.log(np.maximum(rest, SMALLEST) / left), 0.0)
    missed = np.maximum(rest * (ours[:, -1] - lowest) - together, 0.0)
    same = np.array(mx.argmax(logits, axis=-1)) == kept.tokens[:, 0]
    kl = np.maximum(whole + together, 0.0)
    return Fidelity(kl_nats=kl.astype(np.float32), missed_nats=missed.astype(np.float32), same_top=same)


Kept = TypeVar("Kept", Distributions, Fidelity)


def joined(parts: Sequence[Kept]) -> Kept:
    """One after the other."""
    columns = {each.name: [getattr(part, each.name) for part in parts] for each in fields(parts[0])}
    return type(parts[0])(**{name: np.concatenate(arrays) for name, arrays in columns.items()})
