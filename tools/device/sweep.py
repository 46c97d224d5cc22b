"""A small sweep on a device: several texts at once, deeper texts, longer prompts, requests of unlike lengths.

The models are random ones, in BF16 and in four bits. No point is begun that would likely not end in time.
"""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from pytest_quantbench.engines.protocol import Engine
from tools.device.random_weights import WRONG, RandomWeights

Row: TypeAlias = dict[str, Any]
LEVELS = ("bf16", "int4")
COLUMNS = "| level | point | texts | tokens before | tokens/s | first token, ms | step |"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is run, of each level; `seconds` for all of it."""

    config: Mapping[str, Any]
    decode: Sequence[tuple[int, int]] = ((1, 512), (8, 512), (32, 512), (1, 2048))  # (texts, tokens before)
    prefill: Sequence[int] = (512, 8192)
    requests: int = 8
    new_tokens: int = 32
    seconds: float = math.inf

    def texts(self, rows: int, length: int) -> list[list[int]]:
        """Token ids, the same each time."""
        found: list[list[int]] = (
            np.random.default_rng(length).integers(0, self.config["vocab_size"], (rows, length)).tolist()
        )
        return found


def rows(engine: Engine, plan: Plan, device: str | None) -> Iterator[Row]:
    """Every point as soon as it is known. What one raises is its row."""
    began, longest = time.monotonic(), 0.0
    for level in LEVELS:
        model: Any = engine.load(RandomWeights(plan.config, level, device), "timed")
        for name, count, depth in _points(plan):
            before = time.monotonic()
            if before - began + longest > plan.seconds:
                return
            told = {"level": level, "point": name, "rows": count, "depth": depth}
            try:
                yield told | _measured(model, plan, name, count, depth)
            except WRONG as error:
                yield told | {"error": f"{type(error).__name__}: {error}"[:1000], "right": False}
            longest = max(longest, time.monotonic() - before)
        del model
        engine.release()


def _points(plan: Plan) -> list[tuple[str, int, int]]:
    found = [("decode", count, depth) for count, depth in plan.decode]
    found += [("prefill", 1, depth) for depth in plan.prefill]
    return [*found, ("requests", plan.requests, plan.decode[0][1])]


def _measured(model: Any, plan: Plan, name: str, rows: int, depth: int) -> Row:
    """The second of two runs; the first one compiles what the point takes."""
    texts = plan.texts(rows, depth)
    if name == "requests":
        uneven = [text[: depth // (place + 1) + 1] for place, text in enumerate(texts)]
        found = [model.timed_requests(uneven, plan.new_tokens) for _ in range(2)][1]
        seconds = max(each.seconds[-1] for each in found)
        first = float(np.median([each.seconds[0] for each in found]))
        return _row(rows * plan.new_tokens / seconds, first, "module by module")
    new_tokens = 1 if name == "prefill" else plan.new_tokens
    timed = [model.timed_batch(texts, new_tokens) for _ in range(2)][1]
    first = timed.seconds[0]
    rate = depth / first if name == "prefill" else rows * (new_tokens - 1) / (timed.seconds[-1] - first)
    return _row(rate, first, timed.step)


def _row(rate: float, first: float, step: str) -> Row:
    return {"tokens_per_second": rate, "first_token_ms": 1e3 * first, "step": step, "right": rate > 0}


def table(found: Sequence[Mapping[str, Any]]) -> str:
    """For reading."""
    lines = [COLUMNS, "|---|---|---:|---:|---:|---:|---|"]
    for row in found:
        place = f"| {row['level']} | {row['point']} | {row['rows']} | {row['depth']:,} |"
        told = row["error"].splitlines()[0].replace("|", "/") if "error" in row else ""
        figures = f" | | {told} |" if told else f" {row['tokens_per_second']:,.0f} | {row['first_token_ms']:,.1f} |"
        lines.append(place + figures + ("" if told else f" {row['step']} |"))
    return "\n".join(lines)
