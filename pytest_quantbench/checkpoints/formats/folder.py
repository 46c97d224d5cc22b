"""A directory of config.json and safetensors files with a model in some quantized form: what such formats share."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from pytest_quantbench.checkpoints.config import read_table
from pytest_quantbench.checkpoints.formats.protocol import Claims, HeldTensor, Holding
from pytest_quantbench.checkpoints.hub_cache_file import is_of_hub
from pytest_quantbench.checkpoints.safetensors_header import ALL_BYTES, StoredTensor, short
from pytest_quantbench.checkpoints.shards import read_weights
from pytest_quantbench.checkpoints.tensor_file import read
from pytest_quantbench.errors import ModelError, WeightError
from pytest_quantbench.quantizers import Array, Arrays

QUANTIZATION = ("quantization", "quantization_config", "compression_config")
FLOATS = ("F16", "BF16", "F32")
READ = (".json", ".safetensors", ".md", ".txt", ".model", ".jinja")  # weights, configs, tokenizers, the card


def quantization_of(directory: Path) -> Mapping[str, Any]:
    """What config.json says of quantization; empty where it says nothing, or there is none. Raises ModelError."""
    if not (directory / "config.json").is_file():
        return {}
    config = read_table(directory / "config.json")
    for key in QUANTIZATION:
        if isinstance(found := config.get(key), dict) and found:
            return found
    return {}


class Folder:
    """Config and headers of a directory. Raises ModelError naming the file for what is missing or cut, and for a link
    that leads out of it.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        refuse_links_out(directory)
        self.config = read_table(directory / "config.json")
        self.quantization = quantization_of(directory)
        weights = read_weights(directory, ALL_BYTES)
        self.files, self.tensors = weights.files, weights.tensors
        self._file_of = weights.places

    def file_of(self, name: str) -> Path:
        """Where a stored tensor lies."""
        return self._file_of[name]

    def read(self, names: Iterable[str], *, opaque: Collection[str] = ()) -> Arrays:
        """Stored tensors by their names, read anew; `opaque`: codes, whatever numbers their type makes of them. Raises
        WeightError for one that holds NaN or infinity.
        """
        by_file: dict[Path, list[str]] = {}
        for name in names:
            by_file.setdefault(self._file_of[name], []).append(name)
        found: Arrays = {}
        for file, several in by_file.items():
            found |= read(file, several)
        for name, array in found.items():
            if name not in opaque and not is_finite(array):
                raise WeightError(f"{self._file_of[name]}: {short(name)} holds NaN or infinity. Fetch the model again.")
        return found

    def stored_bytes(self, names: Iterable[str]) -> int:
        """How many these take."""
        return sum(self.tensors[name].stored_bytes for name in names)

    def expect(self, name: str, *, dtypes: tuple[str, ...], shape: tuple[int, ...] | None = None) -> StoredTensor:
        """A stored tensor of one of these types, and of this shape. Raises ModelError naming file and tensor."""
        if name not in self.tensors:
            raise ModelError(f"{self.directory} lacks {short(name)}.")
        tensor = self.tensors[name]
        if tensor.dtype not in dtypes or (shape is not None and tensor.shape != shape):
            wanted = f"{' or '.join(dtypes)}{'' if shape is None else f' of shape {shape}'}"
            raise ModelError(
                f"{self._file_of[name]}: {short(name)} is {tensor.dtype} of shape {tensor.shape}, and {wanted} is "
                f"needed."
            )
        return tensor

    def plain(self, name: str) -> HeldTensor | None:
        """A tensor that is stored as it is, in 16 or 32 bits; None where there is none of this name."""
        if name not in self.tensors:
            return None
        tensor = self.expect(name, dtypes=FLOATS)

        def array() -> Arrays:
            return {"weight": self.read([name])[name]}

        return HeldTensor(
            name=name,
            shape=tensor.shape,
            stored_bytes=tensor.stored_bytes,
            kind=tensor.dtype,
            codec=None,
            read=array,
        )

    @cached_property
    def _generation(self) -> Mapping[str, Any]:
        file = self.directory / "generation_config.json"
        return read_table(file) if file.is_file() else {}

    def claims(self) -> Claims:
        """config.json without quantization, generation_config.json, and the original that the model card names."""
        config = {key: value for key, value in self.config.items() if key not in QUANTIZATION}
        return Claims(base_model=base_model_of(self.directory), config=config, generation=self._generation)


class OwnedParts(Holding):
    """What formats share whose matrix is several stored tensors, told by the ends of their names. Tensors that end in
    one of `_beside` belong to no matrix.
    """

    _folder: Folder
    _beside: Collection[str]

    @abstractmethod
    def _owner(self, name: str) -> str:
        """The name of the matrix that a stored tensor belongs to, or its own."""

    def _names(self) -> Sequence[str]:
        return [name for name in self._folder.tensors if name.rpartition(".")[2] not in self._beside]

    def stored(self) -> Sequence[HeldTensor]:
        """All of them."""
        names = dict.fromkeys(self._owner(name) for name in self._names())
        return [tensor for name in names if (tensor := self.tensor(name)) is not None]

    def left_over(self, names: Sequence[str]) -> Sequence[str]:
        """What has none of these names, nor belongs to what has."""
        known = set(names)
        return sorted(name for name in self._names() if self._owner(name) not in known)

    def claims(self) -> Claims:
        """What the directory's other files say."""
        return self._folder.claims()


def refuse_links_out(directory: Path) -> None:
    """Raise ModelError for a file of the model that is a link to what does not belong to it."""
    inside = Path(os.path.realpath(directory))  # which ends where links go in circles
    for file in sorted(directory.iterdir()) if directory.is_dir() else ():
        if file.suffix not in READ or not file.is_symlink() or is_of_hub(file):
            continue
        if not Path(os.path.realpath(file)).is_relative_to(inside):
            raise ModelError(f"{file} is a link out of its folder, to {file.readlink()}. Put the file itself there.")


# By type, the bits of a number in eight bits, and what they are in one that is not finite.
NOT_FINITE = {"float8_e4m3fn": (0x7F, 0x7F), "float8_e5m2": (0x7C, 0x7C), "float8_e8m0fnu": (0xFF, 0xFF)}


def is_finite(array: Array) -> bool:
    """Whether no number is NaN or infinite."""
    if array.dtype.name in NOT_FINITE:
        mask, wrong = NOT_FINITE[array.dtype.name]
        return not bool(((array.view(np.uint8) & np.uint8(mask)) == wrong).any())
    with np.errstate(invalid="ignore"):  # some NaN of bfloat16 make numpy warn of what is asked here
        return array.dtype.kind not in "fcV" or bool(np.isfinite(array).all())


def base_model_of(directory: Path) -> str | None:
    """`base_model` of a model card's front matter, or None. Never raises for a card that cannot be read."""
    card = directory / "README.md"
    try:
        lines = card.read_text(encoding="utf-8").splitlines() if card.is_file() else []
    except (OSError, ValueError):
        return None
    if not lines or lines[0].strip() != "---" or "---" not in (line.strip() for line in lines[1:]):
        return None
    import yaml

    end = next(number for number, line in enumerate(lines[1:], 1) if line.strip() == "---")
    try:
        found = yaml.safe_load("\n".join(lines[1:end]))
    except yaml.YAMLError:
        return None
    base = found.get("base_model") if isinstance(found, dict) else None
    first = base[0] if isinstance(base, list) and base else base
    return first if isinstance(first, str) else None
