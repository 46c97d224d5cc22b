"""A fixed product as a clock of the machine's own speed: how many are asked for at once, and timed.

An accelerator is told to begin by its host, which takes 5 to 15 µs on CUDA and 150 to 300 µs on Metal. A product of
256² is done in 1 to 10 µs there: timed one by one, what is seen is the host, and calls behind each other are the host's
too. So one call multiplies a stack of 64 matrices (16 MB of 256², 2 GFLOP: 40 µs at 60 TFLOP/s), and 16 calls stand
before one wait: about a millisecond on a large device, some on a laptop's chip. The number is told by the side alone,
for one that were measured would differ from probe to probe. Nobody has tried it on an accelerator.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

STACK = 2**30  # multiplications with their sums in one call of an accelerator
CALLS = 16  # before one wait


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much one probe is: so many calls, each of a stack of so many products."""

    calls: int
    stacked: int


def size(side: int, *, on_cpu: bool) -> Size:
    """Of products of (side, side) matrices: a single one where the call itself computes."""
    return Size(calls=1, stacked=1) if on_cpu else Size(calls=CALLS, stacked=max(1, STACK // side**3))


def per_second(multiplied: Callable[[], object], of: Size, repeats: int) -> float:
    """Products per second, the best of a few times; `multiplied` computes all of a probe, and waits for them. An
    accelerator's are computed once before, so that what is compiled or woken up is not timed.
    """
    seconds = []
    if of.calls > 1:
        multiplied()
    for _ in range(repeats):
        began = time.perf_counter()
        multiplied()
        seconds.append(time.perf_counter() - began)
    return of.calls * of.stacked / min(seconds)
