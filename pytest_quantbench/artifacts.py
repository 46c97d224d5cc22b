"""Compressed models on disk: encode, store, verify, open.

An artifact is a directory named by a hash of all that its content depends on. It holds one safetensors file per
decoder layer and one for the rest, the tokenizer, config.json and manifest.json; it is written under a temporary name
and renamed when complete, so it is either whole or not there. Stored names are `<module path>.<array>`; where all
encodings are what MLX itself stores, config.json says so and `mlx_lm.load` opens the directory too.

The reference (identity on every matrix) is not copied: its artifact is the checkpoint itself.
"""

import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlx.core as mx
import msgspec

from pytest_quantbench import quantizers
from pytest_quantbench.checkpoint import Checkpoint, file_sha256
from pytest_quantbench.coverage import Planned
from pytest_quantbench.errors import ModelError, RecordError
from pytest_quantbench.headers import StoredTensor, read_header, short
from pytest_quantbench.quantizers import InputRule, Quantizer, QuantizesInputs
from pytest_quantbench.recipes import Part
from pytest_quantbench.record import Tensor
from pytest_quantbench.skeleton import Config
from pytest_quantbench.storage import set_aside, unsealed

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What an artifact holds and what it was made from. Sizes in bytes; `files` maps each to its SHA-256."""

    key: str
    source: str
    revision: str | None
    source_sha256: str
    source_dtype: str
    recipe: str
    tensors: tuple[Tensor, ...]
    versions: Mapping[str, str]
    bf16_bytes: int
    stored_bytes: int
    opens_in_mlx_lm: bool
    seconds: float = 0.0
    files: Mapping[str, str] = field(default_factory=dict)
    calibration: Mapping[str, str | int] = field(default_factory=dict)  # empty: none was used


class Artifact:
    """An opened artifact: decodes one parameter at a time and keeps none."""

    def __init__(
        self, manifest: Manifest, config: Config, directory: Path | None, checkpoint: Checkpoint | None
    ) -> None:
        self.manifest = manifest
        self.config = config
        self.directory = directory  # None for the reference, which is the checkpoint itself
        self._checkpoint = checkpoint
        self._tensors = {tensor.name: tensor for tensor in manifest.tensors}
        self._lazy: dict[str, mx.array] = {}

    @property
    def names(self) -> Sequence[str]:
        """Every parameter's path in the mlx-lm model."""
        return list(self._tensors)

    def tensor(self, name: str) -> Tensor:
        """What is stored for a parameter."""
        return self._tensors[name]

    def arrays(self, name: str) -> dict[str, mx.array]:
        """The stored arrays of a parameter, lazily read: {array name: array}. They are not kept here."""
        stored = self._tensors[name].arrays
        if self._checkpoint is not None:
            return {name.rpartition(".")[2]: self._checkpoint.tensor(name)}
        if any(array not in self._lazy for array in stored):
            assert self.directory is not None
            for file in self.manifest.files:
                if file.endswith(".safetensors"):
                    self._lazy |= _load(self.directory / file)
        return {array.rpartition(".")[2]: self._lazy.pop(array) for array in stored}

    def quantizer(self, name: str) -> Quantizer | None:
        """The codec of a parameter; None where it was left as it was."""
        tensor = self._tensors[name]
        if tensor.quantizer is None:
            return None
        return quantizers.make(Part(quantizer=tensor.quantizer, parameters=tensor.parameters))

    def inputs(self, name: str) -> InputRule | None:
        """What is done to the inputs of the layer that owns this parameter; None: nothing."""
        quantizer = self.quantizer(name)
        return quantizer.inputs(self.arrays(name)) if isinstance(quantizer, QuantizesInputs) else None

    def dense(self, name: str) -> mx.array:
        """One parameter, decoded; (out, in) for a matrix."""
        quantizer, arrays = self.quantizer(name), self.arrays(name)
        return next(iter(arrays.values())) if quantizer is None else quantizer.decode(arrays)


def _load(file: Path) -> dict[str, mx.array]:
    loaded = mx.load(str(file))
    assert isinstance(loaded, dict)  # a safetensors file always is
    return loaded


def open_artifact(directory: Path, config: Config | None = None, planned: Sequence[Planned] = ()) -> Artifact | None:
    """The artifact in a directory, every file's hash checked; None where there is none or it is damaged.

    Hashes are no signatures: a manifest is not believed either where it names files outside of the directory, says
    otherwise than the files' headers, or than `planned` and `config`, the model and the recipe that are asked for.
    """
    try:
        if not directory.exists():
            return None
        manifest = msgspec.convert(unsealed((directory / "manifest.json").read_bytes()), Manifest)
        _check_files(directory, manifest)
        _check_tensors(directory, manifest, planned)
        found = _read_config(directory, config)
    except (msgspec.MsgspecError, ModelError, RecordError, OSError) as error:
        aside = set_aside(directory)
        log.warning("The artifact %s was damaged (%s): moved to %s, made again.", directory.name, error, aside)
        return None
    return Artifact(manifest, found, directory, None)


def _check_files(directory: Path, manifest: Manifest) -> None:
    """Raise RecordError unless the manifest is of this directory, and all its files are in it with their hashes."""
    if manifest.key != directory.name:
        raise RecordError(f"manifest.json is of {short(manifest.key)}")
    for name, sha256 in {"config.json": "", **manifest.files}.items():
        file = directory / name
        if name != Path(name).name or "\0" in name or file.is_symlink() or not file.is_file():
            raise RecordError(f"{short(name)} is no file in it")
        if file_sha256(file) != sha256:
            raise RecordError(f"{name} has another hash")


def _check_tensors(directory: Path, manifest: Manifest, planned: Sequence[Planned]) -> None:
    """Raise RecordError unless the files hold what the manifest says of every tensor, and that is what was planned."""
    stored: dict[str, StoredTensor] = {}
    files = [directory / name for name in manifest.files if name.endswith(".safetensors")]
    for file in files:
        stored |= read_header(file)
    arrays = [array for tensor in manifest.tensors for array in tensor.arrays]
    if sorted(arrays) != sorted(stored):
        odd = sorted({*stored} ^ {*arrays}) or arrays
        raise RecordError(f"manifest.json and the files do not have the same arrays: {short(odd[0])}")
    for tensor in manifest.tensors:
        held = [stored[array] for array in tensor.arrays]
        if tensor.stored_bytes != sum(each.end - each.begin for each in held):
            raise RecordError(f"{short(tensor.name)} does not take {tensor.stored_bytes} bytes")
        if tensor.quantizer is None and [each.shape for each in held] != [tensor.shape]:
            raise RecordError(f"{short(tensor.name)} does not have shape {short(tensor.shape)}")
    wanted = [(item.name, item.codec, item.shape, item.part) for item in planned]
    found = [(tensor.name, _codec(tensor), tensor.shape, tensor.part) for tensor in manifest.tensors]
    if planned and found != wanted:
        raise RecordError("manifest.json is of another model or recipe")
    sizes = (manifest.bf16_bytes, manifest.stored_bytes)
    if sizes != (2 * sum(math.prod(item.shape) for item in manifest.tensors), sum(f.stat().st_size for f in files)):
        raise RecordError("its sizes are not those that manifest.json says")


def _codec(tensor: Tensor) -> Part | None:
    return None if tensor.quantizer is None else Part(quantizer=tensor.quantizer, parameters=tensor.parameters)


def _read_config(directory: Path, wanted: Config | None) -> Config:
    """The original model's config. Raises RecordError for a file that is none, or not the one that is wanted."""
    try:
        table = json.loads((directory / "config.json").read_bytes())
    except (ValueError, RecursionError) as error:
        raise RecordError(f"config.json is not valid JSON: {error}") from error
    if not isinstance(table, dict) or (wanted is not None and _plain(table) != _plain(wanted)):
        raise RecordError("config.json is of another model")
    return _plain(table)


def _plain(config: Config) -> dict[str, Any]:
    """Without what was said for `mlx_lm.load`."""
    return {key: value for key, value in config.items() if key != "quantization"}
