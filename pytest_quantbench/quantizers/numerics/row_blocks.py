"""A matrix taken a few rows at a time, on as many as four cores: what is worked on stays in the processor's cache.

Passes over a whole matrix of 4096 × 4096 float32 (64 MiB) wait for memory; over blocks of a megabyte they do not, and
numpy lets other threads run while it computes.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

BLOCK = 1 << 18  # weights worked on at a time: the few float32 buffers of this size stay in the cache
CORES = 4

Result = TypeVar("Result")


def places(rows: int, columns: int) -> list[slice]:
    """The blocks of a (rows, columns) matrix: whole rows, of about BLOCK weights together but at least one, in their
    order. They do not depend on the machine, and so no result does.
    """
    step = max(1, BLOCK // max(columns, 1))
    return [slice(first, min(first + step, rows)) for first in range(0, rows, step)]


def over_rows(work: Callable[[slice], Result], rows: int, columns: int) -> list[Result]:
    """What `work` returns for each block of rows of a (rows, columns) matrix, in their order.

    `work` gets the rows' place in the matrix, and may be called for several blocks at the same time: it writes, if at
    all, into those rows of an array that is there already. What it raises is raised here.
    """
    blocks = places(rows, columns)
    threads = min(CORES, os.cpu_count() or 1, len(blocks))
    if threads < 2:
        return [work(block) for block in blocks]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(work, blocks))
