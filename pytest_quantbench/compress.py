"""Encode a checkpoint into an artifact, one decoder layer at a time, and say what was done to every parameter."""

import hashlib
import json
import math
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

import mlx.core as mx
import mlx.nn as nn
import msgspec

from pytest_quantbench import quantizers
from pytest_quantbench.artifacts import Artifact, Manifest, open_artifact
from pytest_quantbench.catalog import Recipe
from pytest_quantbench.checkpoint import Checkpoint, file_sha256
from pytest_quantbench.errors import DiskError, ModelError, QuantbenchError, WeightError
from pytest_quantbench.machine import describe
from pytest_quantbench.progress import track
from pytest_quantbench.quantizers import Annotated, MlxStored, Quantizer
from pytest_quantbench.record import Tensor
from pytest_quantbench.stream import decoder_layers, shapes

FORMAT = 1  # raised when the layout of an artifact changes
TOKENIZER_FILES = (
    "tokenizer*",
    "special_tokens_map.json",
    "vocab*",
    "merges.txt",
    "*.model",
    "*.jinja",
    "added_tokens*",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Planned:
    """One parameter of the model and what the recipe does to it."""

    name: str
    shape: tuple[int, ...]
    part: Literal["inner", "outer", "kept"]
    reason: str  # why it is kept
    group: int  # decoder layer, or −1: parameters of one group share a file


def plan(checkpoint: Checkpoint, recipe: Recipe) -> list[_Planned]:
    """Every parameter with its part of the recipe: linear layers inside decoder layers, embeddings and head, the rest.

    Raises ModelError for a matrix in a kind of layer that no codec here takes; nothing is passed over in silence.
    """
    modules = dict(checkpoint.model.named_modules())
    prefix = decoder_layers(checkpoint.model)[0] + "."
    planned = []
    for name, shape in shapes(checkpoint.model).items():
        owner = modules[name.rpartition(".")[0]]
        inside = name.startswith(prefix)
        group = int(name[len(prefix) :].partition(".")[0]) if inside else -1
        matrix = type(owner) in (nn.Linear, nn.Embedding) and name.endswith(".weight")
        if not matrix and math.prod(shape) > 64 * max(shape):
            raise ModelError(f"{name} {shape} is in a {type(owner).__name__}, which no quantizer here takes.")
        part: Literal["inner", "outer", "kept"] = ("inner" if inside else "outer") if matrix else "kept"
        reason = "" if matrix else f"{name.rpartition('.')[2]} of {type(owner).__name__}, {math.prod(shape)} values"
        planned.append(_Planned(name=name, shape=shape, part=part, reason=reason, group=group))
    return sorted(planned, key=lambda item: item.group)


def reference(checkpoint: Checkpoint, recipe: Recipe) -> Artifact:
    """The checkpoint itself as an artifact: identity on every matrix, nothing copied."""
    tensors = []
    for item in plan(checkpoint, recipe):
        size = checkpoint.tensor(item.name).nbytes
        tensors.append(_entry(item, size, (item.name,), "identity" if item.part != "kept" else None, ""))
    manifest = _manifest(checkpoint, recipe, checkpoint.sha256, tensors, {}, 0.0, True)
    return Artifact(manifest, checkpoint.config, None, checkpoint)


def _entry(item: _Planned, size: int, arrays: tuple[str, ...], quantizer: str | None, note: str) -> Tensor:
    return Tensor(
        name=item.name,
        quantizer=quantizer,
        shape=item.shape,
        stored_bytes=size,
        arrays=arrays,
        part=item.part,
        note=item.reason or note,
    )


def key_of(checkpoint: Checkpoint, recipe: Recipe, seed: int) -> str:
    """Hash of everything that the artifact's content depends on."""
    methods = [quantizers.get(part.quantizer) for part in (recipe.inner, recipe.outer)]
    parts = [(part.quantizer, sorted(part.parameters.items())) for part in (recipe.inner, recipe.outer)]
    content = [FORMAT, checkpoint.sha256, parts, [m.version for m in methods], seed, describe().versions["mlx"]]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:32]


def compress(checkpoint: Checkpoint, recipe: Recipe, seed: int, cache: Path) -> Artifact:
    """The artifact of a checkpoint and a recipe: found in the cache, or made one decoder layer at a time.

    Raises WeightError for NaN or infinite weights, DiskError where the cache cannot be written.
    """
    if recipe.inner.quantizer == recipe.outer.quantizer == "identity":
        return reference(checkpoint, recipe)
    directory = cache / "artifacts" / key_of(checkpoint, recipe, seed)
    if (found := open_artifact(directory)) is not None:
        return found
    building = directory.with_name(f".building-{directory.name}-{os.getpid()}")
    try:
        shutil.rmtree(building, ignore_errors=True)
        building.mkdir(parents=True)
        _build(checkpoint, recipe, seed, directory.name, building)
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


def _build(checkpoint: Checkpoint, recipe: Recipe, seed: int, key: str, directory: Path) -> None:
    began = time.perf_counter()
    codecs = {"inner": quantizers.make(recipe.inner), "outer": quantizers.make(recipe.outer)}
    for codec in codecs.values():
        if codec.calibration != "none":
            raise QuantbenchError(f"{codec.name} needs calibration ({codec.calibration}), which is not here yet.")
    tensors: list[Tensor] = []
    native: dict[str, Any] = {}
    planned = plan(checkpoint, recipe)
    groups = [list(items) for _, items in groupby(planned, key=lambda item: item.group)]
    for number, items in enumerate(track(groups, what=f"encoding {recipe.id}", unit="layer"), 1):
        stored: dict[str, mx.array] = {}
        for item in items:
            arrays, tensor, mlx_entry = _encode(checkpoint, item, codecs.get(item.part), seed)
            stored |= arrays
            tensors.append(tensor)
            if item.part != "kept":
                native[item.name.removesuffix(".weight")] = mlx_entry
        name = f"model-{number:05d}-of-{len(groups):05d}.safetensors"
        mx.save_safetensors(str(directory / name), stored, metadata={"format": "mlx"})
        mx.clear_cache()
    opens = all(entry is not None for entry in native.values())
    config = dict(checkpoint.config) | ({"quantization": _mlx_config(native)} if opens else {})
    (directory / "config.json").write_text(json.dumps(config, indent=2))
    for pattern in TOKENIZER_FILES:
        for file in checkpoint.directory.glob(pattern):
            shutil.copy(file, directory / file.name)
    files = {file.name: file_sha256(file) for file in sorted(directory.iterdir())}
    manifest = _manifest(checkpoint, recipe, key, tensors, files, time.perf_counter() - began, opens, directory)
    (directory / "manifest.json").write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=1))


def _mlx_config(native: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The `quantization` table of an MLX config.json: an entry for every matrix, the last one also as the default."""
    return {**list(native.values())[-1], **native}


def _encode(
    checkpoint: Checkpoint, item: _Planned, codec: Quantizer | None, seed: int
) -> tuple[dict[str, mx.array], Tensor, Mapping[str, Any] | None]:
    weight = checkpoint.tensor(item.name)
    if not mx.all(mx.isfinite(weight)).item():
        raise WeightError(f"{item.name} of {checkpoint.directory} has NaN or infinite values: not a usable model.")
    if codec is None:
        return {item.name: weight}, _entry(item, weight.nbytes, (item.name,), None, ""), None
    encoded = codec.encode(weight, None, seed)
    mx.eval(encoded)
    arrays = {f"{item.name.removesuffix('weight')}{array}": value for array, value in encoded.items()}
    note = codec.note((item.shape[0], item.shape[1])) if isinstance(codec, Annotated) else ""
    tensor = _entry(item, sum(value.nbytes for value in arrays.values()), tuple(arrays), codec.name, note)
    return arrays, tensor, codec.mlx_parameters(encoded) if isinstance(codec, MlxStored) else None


def _manifest(
    checkpoint: Checkpoint,
    recipe: Recipe,
    key: str,
    tensors: Sequence[Tensor],
    files: Mapping[str, str],
    seconds: float,
    opens_in_mlx_lm: bool,
    directory: Path | None = None,
) -> Manifest:
    on_disk = (
        [(directory / name).stat().st_size for name in files if name.endswith(".safetensors")] if directory else []
    )
    return Manifest(
        key=key,
        source=str(checkpoint.directory),
        revision=checkpoint.revision,
        source_sha256=checkpoint.sha256,
        source_dtype=checkpoint.dtype,
        recipe=recipe.id,
        inner=recipe.inner,
        outer=recipe.outer,
        tensors=tuple(tensors),
        files=files,
        versions=describe().versions,
        bf16_bytes=2 * sum(math.prod(tensor.shape) for tensor in tensors),
        stored_bytes=sum(on_disk) if directory else sum(tensor.stored_bytes for tensor in tensors),
        seconds=seconds,
        opens_in_mlx_lm=opens_in_mlx_lm,
    )
