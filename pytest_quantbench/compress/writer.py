"""Write the artifact of a checkpoint and a recipe, and say what was done to every parameter.

What is done is written down layer by layer. A compression that was interrupted goes on where it was: finished layers
are taken up as they lie there, the calibration text is carried through them, and the rest comes out as it would have.
"""

import json
import logging
import math
import shutil
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from pytest_quantbench.catalog.recipes import Recipe
from pytest_quantbench.checkpoints.checkpoint import tokenizer_files
from pytest_quantbench.checkpoints.layer_kinds import for_mlx_lm
from pytest_quantbench.checkpoints.tensor_file import load
from pytest_quantbench.compress.assignment import Planned, Tensor
from pytest_quantbench.compress.encoder import Encoder, Job, Native
from pytest_quantbench.compress.manifest import Manifest
from pytest_quantbench.engines.machine import versions
from pytest_quantbench.engines.protocol import Architecture
from pytest_quantbench.errors import RecordError
from pytest_quantbench.progress import track
from pytest_quantbench.storage.cache import MANIFEST_FILE
from pytest_quantbench.storage.files import file_sha256, write_atomically
from pytest_quantbench.storage.sealed_json import sealed, unsealed

NOTE = ".done"
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What was made of one group of parameters, which lie in a file of this hash."""

    of_file: str
    tensors: tuple[Tensor, ...]
    native: Native
    seconds: float


class Build:
    """One compression, from a directory that is empty, or was left behind, to a complete artifact."""

    def __init__(self, job: Job, directory: Path) -> None:
        self.source, self.recipe, self.calibration = job.source, job.recipe, job.calibration
        self.directory = directory
        self.encoder = Encoder(job)
        self.tensors: list[Tensor] = []
        self.native: Native = {}

    def run(self, key: str) -> None:
        """Encode group by group, then write everything that is not weights."""
        groups = self.encoder.groups
        files = [self.directory / f"model-{n:05d}-of-{len(groups):05d}.safetensors" for n, _ in enumerate(groups, 1)]
        self._clear(keep={*files, *map(_note, files)})
        began, earlier, taken_up = time.perf_counter(), 0.0, 0
        for file, items in zip(files, track(groups, what=f"encoding {self.recipe.id}", unit="layer"), strict=True):
            done = self._taken_up(file)
            earlier += done.seconds if done else 0.0
            taken_up += done is not None
            done = done or self._made(file, items)
            self.tensors += done.tensors
            self.native |= done.native
            self.encoder.carry_on(items)
            self.source.engine.release()
        if taken_up:
            cell = f"{self.source.checkpoint.directory.name} at {self.recipe.id}"
            log.warning("%s: %d of %d parts are those of an interrupted compression.", cell, taken_up, len(groups))
        self._write_config()
        self._write_manifest(key, time.perf_counter() - began + earlier)
        for file in files:
            _note(file).unlink()

    def _clear(self, keep: Collection[Path]) -> None:
        """Delete what else an earlier session has left in the directory."""
        for file in {*self.directory.iterdir()}.difference(keep):
            file.unlink()

    def _taken_up(self, file: Path) -> Done | None:
        """What an earlier session made of a group; None if it did not get so far, or the file is not what it wrote."""
        note = _note(file)
        if not (note.is_file() and file.is_file()):
            return None
        try:
            done = msgspec.convert(unsealed(note.read_bytes()), Done)
        except (msgspec.MsgspecError, RecordError):
            return None
        if file_sha256(file) != done.of_file:
            return None
        self.encoder.take_up(done.tensors, load(file))
        return done

    def _made(self, file: Path, items: Sequence[Planned]) -> Done:
        """Encode a group, and write down that it is done."""
        began = time.perf_counter()
        made = self.encoder.encode(items)
        self.source.engine.save(file, made.arrays)
        seconds = time.perf_counter() - began
        done = Done(of_file=file_sha256(file), tensors=made.tensors, native=made.native, seconds=seconds)
        write_atomically(_note(file), sealed(done))
        return done

    def _write_config(self) -> None:
        config = for_mlx_lm(self.source.config)
        if self._opens_in_mlx_lm():
            default = list(self.native.values())[-1]
            config["quantization"] = {**(default or {}), **self.native}
        (self.directory / "config.json").write_text(json.dumps(config, indent=2))
        for file in tokenizer_files(self.source.checkpoint.directory):
            shutil.copyfile(file, self.directory / file.name)

    def _opens_in_mlx_lm(self) -> bool:
        """Whether every matrix is stored as MLX does, under a name that mlx-lm knows."""
        return self.source.engine.paths_are_mlx_lms and None not in self.native.values()

    def _write_manifest(self, key: str, seconds: float) -> None:
        written = sorted(file for file in self.directory.iterdir() if file.suffix != NOTE)
        manifest = manifest_of(
            self.source,
            self.recipe,
            self.tensors,
            key=key,
            files={file.name: file_sha256(file) for file in written},
            stored_bytes=sum(file.stat().st_size for file in written if file.suffix == ".safetensors"),
            seconds=seconds,
            opens_in_mlx_lm=self._opens_in_mlx_lm(),
            calibration=self.calibration.describe() if self.calibration else {},
        )
        write_atomically(self.directory / MANIFEST_FILE, sealed(manifest))


def _note(file: Path) -> Path:
    """Where it is written down that a file is done."""
    return file.with_suffix(NOTE)


def manifest_of(source: Architecture, recipe: Recipe, tensors: Sequence[Tensor], **rest: Any) -> Manifest:
    """What an artifact of these tensors is, and of what it was made."""
    checkpoint = source.checkpoint
    return Manifest(
        source=str(checkpoint.directory),
        revision=checkpoint.revision,
        source_sha256=checkpoint.sha256,
        source_dtype=source.dtype,
        recipe=recipe.id,
        tensors=tuple(tensors),
        versions=versions(source.engine),
        bf16_bytes=2 * sum(math.prod(tensor.shape) for tensor in tensors),
        **rest,
    )
