"""Which points a sweep has, and which of them a model or the memory has no room for."""

from collections.abc import Iterator, Sequence

import numpy as np

from pytest_quantbench.measures.sweep.samples import Point

BATCHES = (1, 2, 4, 8, 16, 32)
BATCH_DEPTH = 512
DEPTHS = (0, 512, 2048, 8192)
PREFILLS = (128, 256, 512, 1024, 2048, 4096, 8192)
REQUESTS = (4, 16)
SHORTEST_REQUEST = 16
DECODED = 64  # new tokens of a text at a decode point
REQUESTED = 32  # and of a request


def points(positions: int | None, longest_prompt: int, prompts: int, new_tokens: int) -> list[Point]:
    """All of them, cheap ones first. `positions`: how many tokens the model takes, if that is known: where the depth of
    the batches has no room it is the largest power of two that has. `longest_prompt`, `prompts`, `new_tokens`: of the
    prompts that are answered end to end.
    """
    depth = batch_depth(positions)
    decode = {(1, each) for each in (*DEPTHS, depth)} | {(rows, depth) for rows in BATCHES}
    found = [Point(kind="decode", rows=rows, depth=each, new_tokens=DECODED) for rows, each in decode]
    found += [Point(kind="prefill", rows=1, depth=each, new_tokens=1) for each in PREFILLS]
    found.append(Point(kind="end to end", rows=1, depth=longest_prompt, new_tokens=new_tokens))
    found += [Point(kind="requests", rows=rows, depth=depth, new_tokens=REQUESTED) for rows in REQUESTS]
    kinds = ["decode", "prefill", "end to end", "requests"]
    return sorted(found, key=lambda each: (kinds.index(each.kind), each.rows * max(each.depth, 1), each.rows))


def batch_depth(positions: int | None) -> int:
    """The depth of the batches, or less where the model does not take so much."""
    if positions is None or positions >= BATCH_DEPTH + DECODED:
        return BATCH_DEPTH
    return 2 ** max(0, (positions - DECODED).bit_length() - 1) if positions > DECODED else 0


def too_long(point: Point, positions: int | None) -> str:
    """Why a model does not take a point; empty where it does."""
    needed = max(point.depth, 1) + point.new_tokens
    if positions is None or needed <= positions:
        return ""
    return f"it takes {needed:,} positions, and the model has {positions:,}"


def too_large(needed_bytes: int, free_bytes: int) -> str:
    """Why memory does not hold a point; empty where it does."""
    if needed_bytes <= free_bytes:
        return ""
    return f"it takes about {needed_bytes / 1e9:.2f} GB beside the weights, and {free_bytes / 1e9:.2f} GB are left"


def lengths(point: Point, seed: int) -> list[int]:
    """How many tokens the prompt of each text of a point has: of requests between 16 and its depth, by chance, evenly
    in their logarithm.
    """
    if point.kind != "requests":
        return [max(point.depth, 1)] * point.rows
    least = min(SHORTEST_REQUEST, max(point.depth, 1))
    shares = np.random.default_rng((seed, point.rows)).random(point.rows)
    return [round(least * (max(point.depth, 1) / least) ** share) for share in shares.tolist()]


def texts(stream: Sequence[int], wanted: Sequence[int]) -> Iterator[list[int]]:
    """Prompts of so many tokens each, of tokens that are gone round as often as it takes; each begins elsewhere."""
    for row, length in enumerate(wanted):
        begin = row * 7 % len(stream)
        turned = [*stream[begin:], *stream[:begin]]
        yield (turned * (length // len(turned) + 1))[:length]
