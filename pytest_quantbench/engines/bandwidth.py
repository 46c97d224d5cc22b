"""Reading memory: how fast it goes, and how much of a model one token has to read. The roofline of T1 is made of both.

Decoding one token at a time multiplies every matrix with a single vector, so its weights are read once and used once:
tokens per second ≤ bytes per second / bytes per token (Williams, Waterman, Patterson, Roofline, CACM 52(4), 2009).
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from pytest_quantbench.engines.machine import available_bytes

LEAST_BYTES, MOST_BYTES = 2**20, 2**28  # read at once: what a model reads, but no more than tells memory from caches
SECONDS = 0.05  # of reading: longer than a system lets one program run before it looks for another
CHOSEN = (  # how configs call the number of experts that a token goes through
    "num_experts_per_tok",
    "num_experts_per_token",
    "experts_per_token",
    "top_k_experts",
    "moe_topk",
    "moe_k",
)


def rate(read: Callable[[], object], read_bytes: int) -> float:
    """Bytes per second over some time, after one read that is not counted: other load slows it as it does a model."""
    read()
    reads, began = 0, time.perf_counter()
    while (seconds := time.perf_counter() - began) < SECONDS or not reads:
        read()
        reads += 1
    return reads * read_bytes / seconds


def size(held: int, most: int, free: int) -> int:
    """How many bytes are read at once for a model of so many, in whole numbers of 8 bytes: no more than half of what is
    free, beside a model that may fill the memory. A small model stays in caches, which are read faster than memory: it
    is held against them.
    """
    return max(min(max(held, LEAST_BYTES), most, free // 2), 8) // 8 * 8


def on_one_thread(held: int) -> float:
    """Bytes per second that one thread reads of so many: numpy's largest number of an array."""
    numbers = np.ones(size(held, MOST_BYTES, available_bytes()) // 4, np.float32)
    return rate(numbers.max, numbers.nbytes)


def experts_read(config: Mapping[str, Any], experts: int) -> int:
    """How many of so many experts one token goes through, by its config; all of them where it does not say."""
    parts = [config, *(part for part in config.values() if isinstance(part, Mapping))]
    told: list[int] = [part[name] for part in parts for name in CHOSEN if isinstance(part.get(name), int)]
    return min([experts, *told[:1]])
