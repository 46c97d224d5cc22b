"""What an artifact is: its manifest, and whether the files beside it are what it says.

Hashes are no signatures: a manifest is not believed either where it names files outside of its directory, says
otherwise than the files' headers, or is of another model or recipe than is asked for.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from pytest_quantbench.catalog.recipes import Part
from pytest_quantbench.checkpoints.safetensors_header import StoredTensor, read_header, short
from pytest_quantbench.compress.assignment import Planned, Tensor
from pytest_quantbench.errors import RecordError
from pytest_quantbench.storage.cache import MANIFEST_FILE, MANIFESTS
from pytest_quantbench.storage.files import file_sha256, write_atomically
from pytest_quantbench.storage.sealed_json import read_sealed, sealed, unsealed


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


def verified_manifest(directory: Path, planned: Sequence[Planned] = ()) -> Manifest:
    """The manifest of a directory whose files are what it says, and what was planned. Raises RecordError, ModelError or
    OSError saying what differs.
    """
    manifest = written_manifest(directory)
    _check_files(directory, manifest)
    _check_tensors(directory, manifest, planned)
    return manifest


def written_manifest(directory: Path) -> Manifest:
    """The manifest in a directory, whatever the files beside it are. Raises RecordError for one that is damaged, and
    OSError where it cannot be read.
    """
    try:
        return msgspec.convert(unsealed((directory / MANIFEST_FILE).read_bytes()), Manifest)
    except msgspec.MsgspecError as error:
        raise RecordError(str(error)) from error


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
        if tensor.stored_bytes != sum(each.stored_bytes for each in held):
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


def save_manifest(cache: Path, manifest: Manifest) -> None:
    """Keep the manifest of an artifact that is not on disk. Raises DiskError where the cache cannot be written."""
    write_atomically(_manifest_path(cache, manifest.key), sealed(manifest))


def load_manifest(cache: Path, key: str) -> Manifest | None:
    """The kept manifest of this key; None where there is none, a damaged one, or one of another key."""
    found = read_sealed(_manifest_path(cache, key), Manifest)
    return found if found is not None and found.key == key else None


def _manifest_path(cache: Path, key: str) -> Path:
    return MANIFESTS.of(cache, key)
