"""Cold and warm loads of a model and of its reference, in rounds, in an order drawn anew for each.

Before a cold load the files' pages are given back to the system, before a warm one they are read; then it is looked up
how much of them is in memory, for what another process has mapped stays there. Only the model's files are meant: the
libraries of Python's are in memory in both, as they are where a server is started again.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from pytest_quantbench.measures.load.samples import LoadSamples, OneLoad
from pytest_quantbench.measures.load.ways import Way, as_load
from pytest_quantbench.progress import track
from pytest_quantbench.storage import page_cache

Side = Literal["own", "reference"]
NOT_HERE = "This system cannot be told to give back single files' pages (posix_fadvise): no load is cold."
NONE_ASKED = "No cold load was asked for (--cold-loads 0)."


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """So many warm and cold loads; `drop_all`: pages of every file are given back, which takes root."""

    warm: int
    cold: int
    seed: int
    drop_all: bool = False

    @property
    def cold_lacks(self) -> str:
        """Why no load is cold; empty where some are."""
        if self.cold == 0:
            return NONE_ASKED
        return "" if self.drop_all or page_cache.can_drop() else NOT_HERE

    @property
    def cold_by(self) -> str:
        """How pages are given back; empty where none are."""
        if self.cold_lacks:
            return ""
        return "drop_caches" if self.drop_all else "posix_fadvise"


def order(asked: Asked, sides: Sequence[Side]) -> Iterator[tuple[int, Side, bool]]:
    """Round, side and whether cold, of every load: each round has one of each kind that is left, in random order."""
    cold = 0 if asked.cold_lacks else asked.cold
    for number in range(max(asked.warm, cold)):
        kinds = [*([False] if number < asked.warm else []), *([True] if number < cold else [])]
        tasks = [(number, side, is_cold) for side in sides for is_cold in kinds]
        random.Random(f"{asked.seed} {number}").shuffle(tasks)
        yield from tasks


def run(own: Way, reference: Way | None, asked: Asked, prompt_tokens: int, what: str) -> LoadSamples:
    """The samples; `what` names the bar of progress. Raises RunnerError where a process fails, and DiskError where
    pages cannot be given back as it was asked for.
    """
    ways: dict[Side, Way] = {"own": own}
    if reference is not None:
        ways["reference"] = reference
    found: dict[Side, list[OneLoad]] = {"own": [], "reference": []}
    began = time.monotonic()
    for number, side, cold in track(list(order(asked, list(ways))), what=what, unit="load"):
        _prepare(ways[side], cold, asked)
        share = page_cache.resident_share(ways[side].files)
        found[side].append(as_load(number, cold, share, ways[side].once()))
    return LoadSamples(
        loader=own.loader,
        file_bytes=_bytes(own),
        prompt_tokens=prompt_tokens,
        loads=tuple(found["own"]),
        reference_loader="" if reference is None else reference.loader,
        reference_file_bytes=0 if reference is None else _bytes(reference),
        reference_loads=tuple(found["reference"]),
        cold_by=asked.cold_by,
        cold_lacks=asked.cold_lacks,
        seconds=time.monotonic() - began,
    )


def _prepare(way: Way, cold: bool, asked: Asked) -> None:
    if not cold:
        page_cache.read(way.files)
    elif asked.drop_all:
        page_cache.drop_all()
    else:
        page_cache.drop(way.files)


def _bytes(way: Way) -> int:
    return sum(file.stat().st_size for file in way.files)
