"""Encode a checkpoint into an artifact, one decoder layer at a time, and say what was done to every parameter.

A calibrated recipe carries the calibration text along: the layers before have been encoded when a layer's inputs are
observed, so every layer is fitted to the inputs that it will really get.

What is done is written down layer by layer. A compression that was interrupted goes on where it was: finished layers
are taken up as they lie there, the calibration text is carried through them, and the rest comes out as it would have.
"""

import json
import math
import shutil
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import mlx.core as mx
import msgspec

from pytest_quantbench import coverage, quantizers
from pytest_quantbench.artifacts import Manifest
from pytest_quantbench.calibration import CalibrationSet, Observer
from pytest_quantbench.checkpoint import Checkpoint, file_sha256, tokenizer_files
from pytest_quantbench.coverage import OUTSIDE, Planned
from pytest_quantbench.errors import RecordError, WeightError
from pytest_quantbench.machine import backend, describe
from pytest_quantbench.progress import track
from pytest_quantbench.quantizers import Annotated, InputRule, MlxStored, Quantizer, QuantizesInputs, Statistics
from pytest_quantbench.recipes import Part, Recipe
from pytest_quantbench.record import Tensor
from pytest_quantbench.storage import free_bytes, sealed, unsealed, write_atomically
from pytest_quantbench.stream import Walk
from pytest_quantbench.tokens import load_tokenizer

NOTE = ".done"
Encoding = tuple[Quantizer, dict[str, mx.array]]
Native = dict[str, dict[str, int | str] | None]  # the `quantization` table of an MLX config.json; None: no entry


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What was made of one group of parameters, which lie in a file of this hash."""

    of_file: str
    tensors: tuple[Tensor, ...]
    native: Native
    seconds: float


class _Progress:
    """The model while it is compressed: weights of the group just encoded come out decoded, others as they are."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.config = checkpoint.config
        self.names = checkpoint.names
        self._checkpoint = checkpoint
        self.encoded: dict[str, Encoding] = {}

    def dense(self, name: str) -> mx.array:
        """One parameter."""
        if name not in self.encoded:
            return self._checkpoint.tensor(name)
        codec, arrays = self.encoded[name]
        return codec.decode(arrays)

    def inputs(self, name: str) -> InputRule | None:
        """What the parameter's codec does to its layer's inputs."""
        codec, arrays = self.encoded.get(name, (None, {}))
        return codec.inputs(arrays) if isinstance(codec, QuantizesInputs) else None


class Build:
    """One compression, from a directory that is empty, or was left behind, to a complete artifact."""

    def __init__(
        self, checkpoint: Checkpoint, recipe: Recipe, seed: int, directory: Path, calibration: CalibrationSet | None
    ) -> None:
        self.checkpoint, self.recipe, self.seed, self.directory = checkpoint, recipe, seed, directory
        self.calibration = calibration
        self.tensors: list[Tensor] = []
        self.native: Native = {}
        self.progress = _Progress(checkpoint)
        self.walk = None if calibration is None else Walk(self.progress, host=backend() == "cpu")

    def run(self, key: str) -> None:
        """Encode group by group, then write everything that is not weights."""
        planned = coverage.plan(self.checkpoint, self.recipe)
        groups = [list(items) for _, items in groupby(planned, key=lambda item: item.group)]
        files = [self.directory / f"model-{n:05d}-of-{len(groups):05d}.safetensors" for n, _ in enumerate(groups, 1)]
        self._clear(keep={*files, *map(_note, files)})
        began, earlier = time.perf_counter(), 0.0
        for file, items in zip(files, track(groups, what=f"encoding {self.recipe.id}", unit="layer"), strict=True):
            done = self._taken_up(file)
            earlier += done.seconds if done else 0.0
            done = done or self._made(file, items)
            self.tensors += done.tensors
            self.native |= done.native
            self._carry_on(items[0].group)
            mx.clear_cache()
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
        self.progress.encoded = {}
        loaded: Any = mx.load(str(file)) if self.walk is not None else {}
        for tensor in done.tensors:
            if tensor.quantizer is not None and loaded:
                codec = quantizers.make(Part(quantizer=tensor.quantizer, parameters=tensor.parameters))
                arrays = {array.rpartition(".")[2]: loaded[array] for array in tensor.arrays}
                self.progress.encoded[tensor.name] = codec, arrays
        return done

    def _made(self, file: Path, items: Sequence[Planned]) -> Done:
        """Encode a group, and write down that it is done."""
        began = time.perf_counter()
        statistics = self._observe(items[0].group)
        self.progress.encoded = {}
        stored: dict[str, mx.array] = {}
        native: Native = {}
        tensors: list[Tensor] = []
        for item in items:
            arrays, note = self._encode(item, statistics.get(item.path), native)
            prefix = item.name.removesuffix("weight") if item.codec else ""
            named = {prefix + array: value for array, value in arrays.items()}
            tensors.append(item.tensor(sum(value.nbytes for value in named.values()), tuple(named), note))
            stored |= named
        _store(file, stored)
        done = Done(
            of_file=file_sha256(file), tensors=tuple(tensors), native=native, seconds=time.perf_counter() - began
        )
        write_atomically(_note(file), sealed(done))
        return done

    def _encode(self, item: Planned, statistics: Statistics | None, native: Native) -> tuple[dict[str, mx.array], str]:
        """The parameter's arrays, and what was done otherwise than the recipe says."""
        weight = self.checkpoint.tensor(item.name)
        if not mx.all(mx.isfinite(weight)).item():
            source = self.checkpoint.directory
            raise WeightError(f"{item.name} of {source} has NaN or infinite values: not a usable model.")
        if item.codec is None:
            return {item.name: weight}, ""
        codec = quantizers.make(item.codec)
        arrays = codec.encode(weight, statistics if codec.calibration != "none" else None, self.seed)
        mx.eval(arrays)
        self.progress.encoded[item.name] = codec, arrays
        native[item.path] = codec.mlx_parameters(arrays) if isinstance(codec, MlxStored) else None
        return arrays, codec.note((item.shape[0], item.shape[1]), arrays) if isinstance(codec, Annotated) else ""

    def _observe(self, group: int) -> Mapping[str, Statistics]:
        """Statistics by path of the layer's matrices, from its original weights and the encoded layers before it."""
        if self.walk is None or group == OUTSIDE:
            return {}
        observer = Observer(len(self.walk.batches), self.seed, host=backend() == "cpu")
        self.walk.observe(group, observer.wrap)
        return observer.statistics()

    def _carry_on(self, group: int) -> None:
        """Carry the calibration text through what has just been encoded."""
        if self.walk is None or self.calibration is None:
            return
        if group == OUTSIDE:
            tokenizer = load_tokenizer(self.checkpoint.directory)
            self.walk.begin(self.calibration.batches(tokenizer, self.checkpoint.config, self.seed))
        else:
            self.walk.advance(group)

    def _write_config(self) -> None:
        config = dict(self.checkpoint.config)
        if self._opens_in_mlx_lm():
            default = list(self.native.values())[-1]
            config["quantization"] = {**(default or {}), **self.native}
        (self.directory / "config.json").write_text(json.dumps(config, indent=2))
        for file in tokenizer_files(self.checkpoint.directory):
            shutil.copyfile(file, self.directory / file.name)

    def _opens_in_mlx_lm(self) -> bool:
        return all(entry is not None for entry in self.native.values())

    def _write_manifest(self, key: str, seconds: float) -> None:
        written = sorted(file for file in self.directory.iterdir() if file.suffix != NOTE)
        manifest = manifest_of(
            self.checkpoint,
            self.recipe,
            self.tensors,
            key=key,
            files={file.name: file_sha256(file) for file in written},
            stored_bytes=sum(file.stat().st_size for file in written if file.suffix == ".safetensors"),
            seconds=seconds,
            opens_in_mlx_lm=self._opens_in_mlx_lm(),
            calibration=self.calibration.describe() if self.calibration else {},
        )
        write_atomically(self.directory / "manifest.json", sealed(manifest))


def _note(file: Path) -> Path:
    """Where it is written down that a file is done."""
    return file.with_suffix(NOTE)


def _store(file: Path, arrays: dict[str, mx.array]) -> None:
    """Write a safetensors file. Raises OSError where that fails: MLX says it with a RuntimeError."""
    mx.eval(arrays)
    try:
        mx.save_safetensors(str(file), arrays, metadata={"format": "mlx"})
    except RuntimeError as error:
        free_mb = free_bytes(file.parent) / 1e6
        raise OSError(f"{file.name}: {str(error).rstrip('.')}, {free_mb:.0f} MB are free") from None


def manifest_of(checkpoint: Checkpoint, recipe: Recipe, tensors: Sequence[Tensor], **rest: Any) -> Manifest:
    """What an artifact of these tensors is, and of what it was made."""
    return Manifest(
        source=str(checkpoint.directory),
        revision=checkpoint.revision,
        source_sha256=checkpoint.sha256,
        source_dtype=checkpoint.dtype,
        recipe=recipe.id,
        tensors=tuple(tensors),
        versions=describe().versions,
        bf16_bytes=2 * sum(math.prod(tensor.shape) for tensor in tensors),
        **rest,
    )
