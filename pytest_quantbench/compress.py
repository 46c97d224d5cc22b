"""Encode a checkpoint into an artifact, one decoder layer at a time, and say what was done to every parameter.

A calibrated recipe carries the calibration text along: the layers before have been encoded when a layer's inputs are
observed, so every layer is fitted to the inputs that it will really get.
"""

import hashlib
import json
import math
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import mlx.core as mx
import msgspec

from pytest_quantbench import coverage, quantizers
from pytest_quantbench.artifacts import Artifact, Manifest, open_artifact
from pytest_quantbench.calibration import CalibrationSet, Observer
from pytest_quantbench.checkpoint import Checkpoint, file_sha256
from pytest_quantbench.coverage import OUTSIDE, Planned
from pytest_quantbench.errors import DiskError, QuantbenchError, WeightError
from pytest_quantbench.machine import backend, describe
from pytest_quantbench.progress import track
from pytest_quantbench.quantizers import Annotated, InputRule, MlxStored, Quantizer, QuantizesInputs, Statistics
from pytest_quantbench.recipes import Recipe
from pytest_quantbench.record import Tensor
from pytest_quantbench.stream import Walk
from pytest_quantbench.tokens import load_tokenizer

FORMAT = 2  # raised when the layout of an artifact changes
TOKENIZER_FILES = (
    "tokenizer*",
    "special_tokens_map.json",
    "vocab*",
    "merges.txt",
    "*.model",
    "*.jinja",
    "added_tokens*",
)
Encoding = tuple[Quantizer, dict[str, mx.array]]


def reference(checkpoint: Checkpoint, recipe: Recipe) -> Artifact:
    """The checkpoint itself as an artifact: identity on every matrix, nothing copied."""
    tensors = [
        item.tensor(checkpoint.tensor(item.name).nbytes, (item.name,), "") for item in coverage.plan(checkpoint, recipe)
    ]
    stored = sum(tensor.stored_bytes for tensor in tensors)
    manifest = _manifest(checkpoint, recipe, tensors, key=checkpoint.sha256, stored_bytes=stored, opens_in_mlx_lm=True)
    return Artifact(manifest, checkpoint.config, None, checkpoint)


def compress(
    checkpoint: Checkpoint,
    recipe: Recipe,
    seed: int,
    cache: Path,
    calibration: Callable[[], CalibrationSet] | None = None,
) -> Artifact:
    """The artifact of a checkpoint and a recipe: found in the cache, or made one decoder layer at a time.

    `calibration` gives the calibration text when a method wants one; None: there is none, which only methods that
    need none accept. Raises WeightError for NaN or infinite weights, QuantbenchError for a method without the
    calibration that it needs, DiskError where the cache cannot be written.
    """
    if recipe.is_identity:
        return reference(checkpoint, recipe)
    wishes = {quantizers.get(part.quantizer).calibration for part in recipe.parts}
    if calibration is None and "hessian" in wishes:
        raise QuantbenchError(f"{recipe.id} needs calibration: give a text with --calibration FILE.")
    used = calibration() if calibration is not None and wishes != {"none"} else None
    directory = cache / "artifacts" / key_of(checkpoint, recipe, seed, used)
    if (found := open_artifact(directory)) is not None:
        return found
    building = directory.with_name(f".building-{directory.name}-{os.getpid()}")
    try:
        shutil.rmtree(building, ignore_errors=True)
        building.mkdir(parents=True)
        _Build(checkpoint, recipe, seed, building, used).run(directory.name)
        building.rename(directory)
    except OSError as error:
        if (found := open_artifact(directory)) is not None:  # somebody else made the same one meanwhile
            return found
        raise DiskError(f"Cannot write {directory}: {error}. Set QUANTBENCH_CACHE to another folder.") from error
    finally:
        shutil.rmtree(building, ignore_errors=True)
    made = open_artifact(directory)
    assert made is not None
    return made


def key_of(checkpoint: Checkpoint, recipe: Recipe, seed: int, calibration: CalibrationSet | None) -> str:
    """Hash of everything that the artifact's content depends on."""
    parts = [
        (part.quantizer, sorted(part.parameters.items()), quantizers.get(part.quantizer).version)
        for part in recipe.parts
    ]
    text = calibration.describe() if calibration else {}
    content = [FORMAT, checkpoint.sha256, parts, recipe.mix, text, seed, describe().versions["mlx"]]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:32]


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


class _Build:
    """One compression, from an empty directory to a complete artifact."""

    def __init__(
        self, checkpoint: Checkpoint, recipe: Recipe, seed: int, directory: Path, calibration: CalibrationSet | None
    ) -> None:
        self.checkpoint, self.recipe, self.seed, self.directory = checkpoint, recipe, seed, directory
        self.calibration = calibration
        self.tensors: list[Tensor] = []
        self.native: dict[str, Any] = {}  # the `quantization` table of an MLX config.json, None where it has no entry
        self.progress = _Progress(checkpoint)
        self.walk = None if calibration is None else Walk(self.progress, host=backend() == "cpu")

    def run(self, key: str) -> None:
        """Encode group by group, then write everything that is not weights."""
        began = time.perf_counter()
        planned = coverage.plan(self.checkpoint, self.recipe)
        groups = [list(items) for _, items in groupby(planned, key=lambda item: item.group)]
        for number, items in enumerate(track(groups, what=f"encoding {self.recipe.id}", unit="layer"), 1):
            name = f"model-{number:05d}-of-{len(groups):05d}.safetensors"
            stored = self._encode_group(items)
            mx.save_safetensors(str(self.directory / name), stored, metadata={"format": "mlx"})
            self._carry_on(items[0].group)
            mx.clear_cache()
        self._write_config()
        self._write_manifest(key, time.perf_counter() - began)

    def _encode_group(self, items: Sequence[Planned]) -> dict[str, mx.array]:
        statistics = self._observe(items[0].group)
        self.progress.encoded = {}
        stored: dict[str, mx.array] = {}
        for item in items:
            arrays, note = self._encode(item, statistics.get(item.path))
            prefix = item.name.removesuffix("weight") if item.codec else ""
            named = {prefix + array: value for array, value in arrays.items()}
            self.tensors.append(item.tensor(sum(value.nbytes for value in named.values()), tuple(named), note))
            stored |= named
        return stored

    def _encode(self, item: Planned, statistics: Statistics | None) -> tuple[dict[str, mx.array], str]:
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
        self.native[item.path] = codec.mlx_parameters(arrays) if isinstance(codec, MlxStored) else None
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
            config["quantization"] = {**list(self.native.values())[-1], **self.native}  # the last is the default
        (self.directory / "config.json").write_text(json.dumps(config, indent=2))
        for pattern in TOKENIZER_FILES:
            for file in self.checkpoint.directory.glob(pattern):
                shutil.copy(file, self.directory / file.name)

    def _opens_in_mlx_lm(self) -> bool:
        return all(entry is not None for entry in self.native.values())

    def _write_manifest(self, key: str, seconds: float) -> None:
        written = sorted(self.directory.iterdir())
        manifest = _manifest(
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
        (self.directory / "manifest.json").write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=1))


def _manifest(checkpoint: Checkpoint, recipe: Recipe, tensors: Sequence[Tensor], **rest: Any) -> Manifest:
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
