"""The weight files of a model directory: which there are, what the index over them says, what is in each."""

import json
import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_quantbench.checkpoints.safetensors_header import (
    DTYPE_BYTES,
    MOST_HEADER_BYTES,
    StoredTensor,
    corrupt,
    read_header,
    short,
)
from pytest_quantbench.errors import ModelError

INDEX = "model.safetensors.index.json"
GGUF_PART = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.gguf", re.DOTALL)
GGUF_BESIDE = re.compile(r"mmproj|imatrix", re.IGNORECASE)  # in names of files that lie beside models and are none
FILE_NAME = re.compile(r"[A-Za-z0-9_][\w.+-]*\.safetensors", re.ASCII)  # no path parts, nothing hidden


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """The weight files of a directory, by name, and every tensor in them."""

    files: Sequence[Path]
    tensors: Mapping[str, StoredTensor]
    places: Mapping[str, Path]  # of each tensor

    @property
    def elements(self) -> int:
        """How many numbers all tensors hold."""
        return sum(math.prod(tensor.shape) for tensor in self.tensors.values())


def read_weights(directory: Path, dtypes: Collection[str] = DTYPE_BYTES) -> Weights:
    """The directory's weight files with their headers, as the index says if there is one. Raises ModelError, also for
    tensors of other types than these.
    """
    files = weight_files(directory)
    tensors: dict[str, StoredTensor] = {}
    places: dict[str, str] = {}
    for file in files:
        for name, tensor in read_header(file, dtypes).items():
            if name in places:
                raise ModelError(f"{directory}: {places[name]} and {file.name} both hold {short(name)}. Remove one.")
            places[name] = file.name
            tensors[name] = tensor
    index = directory / INDEX
    for name, file_name in read_index(index).items() if index.is_file() else ():
        if places.get(name) != file_name:
            found = f"it is in {places[name]}" if name in places else "no file holds it"
            raise ModelError(f"{index} says that {short(name)} is in {file_name}, and {found}. Fetch the model again.")
    return Weights(files=files, tensors=tensors, places={name: directory / file for name, file in places.items()})


def weight_files(directory: Path) -> list[Path]:
    """The safetensors files that the index names; without one model*.safetensors, or else all. Raises ModelError."""
    index = directory / INDEX
    if index.is_file():
        files = [directory / name for name in sorted(set(read_index(index).values()))]
        for file in files:
            if not file.is_file():
                raise ModelError(f"{index} names {file.name}, which is not there. Fetch the model again.")
        return files
    names = [path.name for path in directory.iterdir()]
    chosen = chosen_names(names) or sorted(name for name in names if FILE_NAME.fullmatch(name))
    if not chosen:
        other = sorted(name for name in names if is_pickle(name))
        raise ModelError(f"{directory} has no *.safetensors file.{instead(other)}")
    return [directory / name for name in chosen]


def chosen_names(names: Iterable[str]) -> list[str]:
    """The weights among these names where there is no index: model.safetensors alone, or else model*.safetensors.

    Some repositories hold them twice: as model.fp16.safetensors, or as consolidated.safetensors.
    """
    found = sorted(name for name in names if name.startswith("model") and FILE_NAME.fullmatch(name))
    return ["model.safetensors"] if "model.safetensors" in found else found


def is_pickle(name: str) -> bool:
    """Whether a file holds weights in a form that is not read; most of them are pickles, which can run code."""
    return name.endswith((".bin", ".pt", ".pth", ".pkl", ".ckpt", ".gguf", ".h5", ".msgpack"))


def instead(others: Sequence[str]) -> str:
    """What to say of weights in other forms, as the rest of a sentence's line; nothing if there are none."""
    return f" It has {others[0]}, which is not read: convert it to safetensors." if others else ""


def read_index(file: Path) -> dict[str, str]:
    """The file name of every tensor. Raises ModelError unless all are plain names of safetensors files."""
    try:
        if (size := file.stat().st_size) > MOST_HEADER_BYTES:
            raise ModelError(
                f"{file} takes {size} bytes, and an index at most {MOST_HEADER_BYTES}. Do not use this model."
            )
        table = json.loads(file.read_bytes())
    except OSError as error:
        raise ModelError(f"{file} cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise corrupt(file, f"its JSON cannot be read: {error!s:.200}") from error
    names = table.get("weight_map") if isinstance(table, dict) else None
    if not isinstance(names, dict) or not names:
        raise ModelError(f"{file} has no weight_map with the tensors' files. Fetch the model again.")
    for tensor, name in names.items():
        if not isinstance(name, str) or not FILE_NAME.fullmatch(name):
            raise ModelError(
                f"{file} puts {short(tensor)} into {short(name)}, which is not the plain name of a safetensors file. "
                f"Do not use this model."
            )
    return names
