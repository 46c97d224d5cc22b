"""One run of T1 after the other: what is timed, what is watched meanwhile, and in which order."""

import hashlib
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, ClassVar, Protocol, TypeVar

import numpy as np

from pytest_quantbench.checkpoints.tokenizer import frame_of
from pytest_quantbench.engines.energy import Meter
from pytest_quantbench.engines.protocol import Engine
from pytest_quantbench.engines.resident import Generator
from pytest_quantbench.measures.throughput_samples import Run, steady

MOST_WARM_UPS = 5
PROBE_SIDE, PROBES = 256, 3  # a fixed product, cheap enough to stand between all runs, and the best of so many
BUSY_SECONDS, BUSY_BYTES = 0.02, bytes(2**22)  # how long so many threads ask for a processor, and what they hash then
TABLE = re.compile(r"(.*\.)?(wpe|(embed_)?positions?(_embeddings?)?|pos_emb(ed|edding|eddings)?)\.weight")


class Watched(Protocol):
    """A run of which it is told what the machine did meanwhile: a frozen dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def cpu_share(self) -> float | None:
        """Processors' seconds over the clock's; None where an accelerator computes."""

    @property
    def joules(self) -> float | None:
        """What the machine took; None where nothing tells."""


R = TypeVar("R", bound=Watched)


def runs_for(items: int, prompts: int) -> int:
    """How many runs of each of so many prompts make so many runs in all."""
    return -(-items // prompts)


def observed(once: Callable[[], R], engine: Engine, meter: Meter | None) -> R:
    """A run, with what the processor's clock of this process and the meter tell of it."""
    before = None if meter is None else meter.joules()
    began, busy = time.perf_counter(), time.process_time()
    found = once()
    share = (time.process_time() - busy) / (time.perf_counter() - began)
    after = None if meter is None else meter.joules()
    return replace(
        found,
        cpu_share=share if engine.backend == "cpu" else None,
        joules=None if before is None or after is None else after - before,
    )


def processors_had(threads: int) -> float:
    """Of the processors' time that so many threads ask for at once, the share that they get right now: 1 where nothing
    else wants it. They hash, which needs no bandwidth and holds no lock.
    """
    together = threading.Barrier(threads)

    def busy() -> float:
        together.wait()
        began, had = time.perf_counter(), time.thread_time()
        while time.perf_counter() - began < BUSY_SECONDS:
            hashlib.sha256(BUSY_BYTES).digest()
        return (time.thread_time() - had) / (time.perf_counter() - began)

    with ThreadPoolExecutor(threads) as pool:
        return float(np.mean([each.result() for each in [pool.submit(busy) for _ in range(threads)]]))


def warmed(once: Callable[[], Run]) -> tuple[Run, ...]:
    """Runs until the rate is steady: until two in a row differ by at most 5 %, and no more than five."""
    runs = [once()]
    while len(runs) < MOST_WARM_UPS and not steady(runs):
        runs.append(once())
    return tuple(runs)


def reference_first(seed: int, rounds: int) -> tuple[bool, ...]:
    """In which of so many rounds the reference comes first: in one of every two, drawn by the seed. More rounds begin
    as fewer do.
    """
    rng = np.random.default_rng(seed)
    pairs = [first for _ in range(-(-rounds // 2)) for first in ((True, False), (False, True))[int(rng.integers(2))]]
    return tuple(pairs[:rounds])


def generate(model: Generator, tokenizer: Any, prompts: Sequence[str], prompt: int, new_tokens: int) -> Run:
    """One greedy generation of exactly `new_tokens` tokens from `prompts[prompt]`, timed token by token."""
    ids = frame_of(tokenizer).opened(tokenizer, prompts[prompt])
    found = model.timed(ids, new_tokens)
    return Run.of(prompt, len(ids), found, tokenizer.decode(found.tokens))


def learned_positions(shapes: Mapping[str, Sequence[int]]) -> int | None:
    """How many positions the model has learned embeddings of, by its parameters' shapes; None where it has none.

    Nothing stands behind that table: an engine that reads there computes with whatever lies in memory.
    """
    return min((int(shape[0]) for name, shape in shapes.items() if TABLE.fullmatch(name)), default=None)
