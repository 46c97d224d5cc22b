"""What an exporter is: it writes an artifact in a form that other programs read, and says what it could not keep.

An artifact's decoded weights are what was judged. An exporter writes exactly these wherever its form can hold them;
where it cannot, it writes the nearest that it has and measures how far that is, or refuses. It is silent about nothing.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, Protocol, TypeAlias

from pytest_quantbench.catalog.recipes import Recipe
from pytest_quantbench.compress.artifact import Artifact
from pytest_quantbench.engines.protocol import Architecture

Dtype: TypeAlias = Literal["bfloat16", "float32"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One export: the artifact, the opened checkpoint that it was made of, and what both are called.

    `base_model` is the original's Hub id, or its name where it has none; `dtype` that of decoded weights.
    """

    name: str  # `Tiny-int4`
    base_model: str
    recipe: Recipe
    artifact: Artifact
    source: Architecture
    dtype: Dtype = "bfloat16"


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What was written: `stored_bytes` of the weights' files, and what differs from the artifact, a sentence each.

    `details` has a line for every tensor that differs; empty where none does.
    """

    stored_bytes: int
    differences: tuple[str, ...] = ()
    details: tuple[str, ...] = ()


class Exporter(Protocol):
    """One form. `use` says how such a directory is opened, for who finds it."""

    name: ClassVar[str]
    use: ClassVar[str]

    @abstractmethod
    def check(self, recipe: Recipe, source: Architecture) -> None:
        """Raise QuantbenchError for a recipe or a model that the form cannot hold, before anything is compressed."""

    @abstractmethod
    def write(self, job: Job, directory: Path) -> Written:
        """Write weights, config and tokenizer into an empty directory, a layer in memory at a time. Raises
        QuantbenchError naming the tensor that cannot be written, and OSError where the disk is full.
        """
