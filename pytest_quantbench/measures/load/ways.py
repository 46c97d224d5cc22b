"""The ways from files to a first token, each in a process of its own: by the engine under test, or by the runtime that
a candidate's files are made for.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pytest_quantbench.catalog.corpora import PROMPTS
from pytest_quantbench.engines.runtimes import Process, Runtime
from pytest_quantbench.engines.runtimes.deployed import Deployed
from pytest_quantbench.measures.load.samples import OneLoad

if TYPE_CHECKING:
    from pytest_quantbench.catalog.settings import Settings

CHILD = "pytest_quantbench.measures.load.child"
PROMPT = PROMPTS[0]


class Way(Protocol):
    """How one model is loaded. `files` are what is read, `loader` is what reads them, with its version."""

    @property
    def files(self) -> Sequence[Path]:
        """Everything that a load reads of the model."""

    @property
    def loader(self) -> str:
        """What loads it."""

    def once(self) -> Mapping[str, Any]:
        """The fields of one `OneLoad` that the process tells. Raises RunnerError in one sentence where it fails, ends
        or does not answer in time.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class ByEngine:
    """By the engine of the session: an artifact's directory, or the original (`artifact` is empty)."""

    settings: Settings
    loader: str
    files: Sequence[Path]
    original: Path
    sha256: str
    artifact: str = ""

    def once(self) -> Mapping[str, Any]:
        """Load, and one token."""
        values = {
            "engine": self.settings.engine,
            "activations": self.settings.activations,
            "original": str(self.original),
            "sha256": self.sha256,
            "artifact": self.artifact,
            "prompt": PROMPT,
        }
        began = time.monotonic()
        with Process(f"loading by {self.loader}", CHILD) as process:
            told = process.ask("load", values).values
        return {
            "seconds": told["seconds"] | {"start": told["seconds"]["start"] + told["asked_at"] - began},
            "before_bytes": told["had_bytes"],
            "after_bytes": told["resident_bytes"],
            "peak_bytes": told["peak_bytes"],
            "device_bytes": told["device_bytes"],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ByRuntime:
    """By the runtime that a candidate's files are made for, which is given the prompt's token ids."""

    runtime: Runtime
    files: Sequence[Path]
    ids: Sequence[int] = field(default=(), repr=False)

    @property
    def loader(self) -> str:
        """Its name and version."""
        return f"{self.runtime.name} ({self.runtime.version})"

    def once(self) -> Mapping[str, Any]:
        """Load, and one token."""
        began = time.monotonic()
        with self.runtime.start() as process:
            loaded = Deployed(process, self.runtime.source(self.files), context=len(self.ids) + 1)
            first = loaded.timed(self.ids, 1).seconds[0]
            start = loaded.loaded_at - loaded.load_seconds - began
            return {
                "seconds": {"start": start, "weights": loaded.load_seconds, "first token": first},
                "before_bytes": loaded.had_bytes,
                "after_bytes": loaded.has_bytes,
                "peak_bytes": loaded.peak_bytes,
            }


def as_load(number: int, cold: bool, share: float | None, told: Mapping[str, Any]) -> OneLoad:
    """One load, of that round."""
    return OneLoad(round=number, cold=cold, resident_share=share, **told)
