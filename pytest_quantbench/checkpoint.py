"""A model directory, checked before anything in it is trusted: config, safetensors files, names and shapes."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import mlx.core as mx
from safetensors import SafetensorError, safe_open

from pytest_quantbench.errors import ModelError
from pytest_quantbench.skeleton import Config, shapes, skeleton


class Checkpoint:
    """A directory with config.json and safetensors files, as mlx-lm sees it. Weights are read when asked for.

    Raises ModelError naming the file: no directory, no config, no weights, a truncated or corrupt file, an
    architecture mlx-lm does not have, weights missing or of another shape than the config says.
    """

    def __init__(self, directory: Path, revision: str | None = None) -> None:
        self.directory = directory
        self.revision = revision
        self.config: Config = read_config(directory)
        self.files = _weight_files(directory)
        self._lazy: dict[str, mx.array] = {}
        raw = {name: (1, 1) for file in self.files for name in _checked_names(file)}
        # Names first, for `sanitize` decides by them; then the real arrays, whose shapes are known without reading.
        self.model = skeleton(self.config, raw)
        self._read()
        self._check_shapes()

    @property
    def names(self) -> Sequence[str]:
        """Every parameter's path in the mlx-lm model."""
        return list(shapes(self.model))

    def tensor(self, name: str) -> mx.array:
        """One parameter as it is stored, lazily read, and not kept here afterwards."""
        if name not in self._lazy:
            self._read()
        return self._lazy.pop(name)

    @cached_property
    def sha256(self) -> str:
        """Hash of the config and all weight files; a file in the Hub's cache already carries its own."""
        digest = hashlib.sha256((self.directory / "config.json").read_bytes())
        for file in self.files:
            digest.update(f"{file.name}={file_sha256(file)};".encode())
        return digest.hexdigest()

    @cached_property
    def dtype(self) -> str:
        """The type in which most parameters are stored, such as `bfloat16`."""
        counts: dict[str, int] = {}
        for name in self.names:
            array = self.tensor(name)
            key = str(array.dtype).removeprefix("mlx.core.")
            counts[key] = counts.get(key, 0) + array.size
        return max(counts, key=lambda key: counts[key])

    def _read(self) -> None:
        weights: dict[str, mx.array] = {}
        for file in self.files:
            loaded = mx.load(str(file))
            assert isinstance(loaded, dict)  # a safetensors file always is
            weights |= loaded
        self._lazy = self.model.sanitize(weights) if hasattr(self.model, "sanitize") else weights

    def _check_shapes(self) -> None:
        wanted = shapes(self.model)
        missing = sorted(wanted.keys() - self._lazy.keys())
        extra = sorted(self._lazy.keys() - wanted.keys())
        if missing or extra:
            problem = f"lacks {missing[0]}" if missing else f"has {extra[0]}, which the architecture does not"
            more = f" (and {len(missing) + len(extra) - 1} more)" if len(missing) + len(extra) > 1 else ""
            raise ModelError(f"{self.directory} {problem}{more}: config.json and weights do not belong together.")
        for name, shape in wanted.items():
            if tuple(self._lazy[name].shape) != shape:
                found = tuple(self._lazy[name].shape)
                raise ModelError(f"{self.directory}: {name} has shape {found}, config.json says {shape}.")


def read_config(directory: Path) -> dict[str, Any]:
    """config.json of a model directory. Raises ModelError naming what is missing or wrong."""
    path = directory / "config.json"
    if not directory.is_dir():
        raise ModelError(f"{directory} is not a directory. Give a model directory or a Hub id like 'owner/name'.")
    if not path.is_file():
        raise ModelError(
            f"{directory} has no config.json. A model directory holds config.json, *.safetensors and a tokenizer."
        )
    try:
        config = json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ModelError(f"{path} is not valid JSON: {error}.") from error
    if not isinstance(config, dict) or "model_type" not in config:
        raise ModelError(f"{path} names no model_type.")
    _refuse_quantized(path, config)
    return config


def _refuse_quantized(path: Path, config: Mapping[str, Any]) -> None:
    for key in ("quantization", "quantization_config"):
        if config.get(key):
            raise ModelError(f"{path} has {key!r}: this model is already quantized. Give the BF16 original.")


def _weight_files(directory: Path) -> list[Path]:
    # Some repositories hold the weights twice, as model*.safetensors and as consolidated*.safetensors.
    files = sorted(directory.glob("model*.safetensors")) or sorted(directory.glob("*.safetensors"))
    if not files:
        other = sorted(path.name for path in directory.iterdir() if path.suffix in (".bin", ".pt", ".pth", ".gguf"))
        found = f" It has {other[0]}, which is not read: convert it to safetensors." if other else ""
        raise ModelError(f"{directory} has no *.safetensors file.{found}")
    return files


def _checked_names(file: Path) -> list[str]:
    try:
        with safe_open(file, framework="numpy") as opened:  # checks header, offsets and length
            return list(opened.keys())
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{file} is truncated or corrupt ({error}). Fetch it again.") from error


def file_sha256(file: Path) -> str:
    """SHA-256 of a file. In the Hub's cache a file is a link to a blob whose name is that hash."""
    blob = file.resolve().name
    if file.is_symlink() and len(blob) == 64 and set(blob) <= set("0123456789abcdef"):
        return blob
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
