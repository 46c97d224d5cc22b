"""Safetensors files of up to 5 GB, written tensor by tensor, with an index over them where there are several.

A safetensors file begins with its header, which says where every tensor lies. Here tensors come one after the other and
none is kept, so room for the header is left at the start of each file, and filled up with spaces at its end, as the
format allows. Names and index are those that Transformers and mlx-lm look for.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, Self

import numpy as np

from pytest_quantbench.checkpoints.shards import INDEX
from pytest_quantbench.checkpoints.tensor_file import NUMPY
from pytest_quantbench.quantizers import Array

MOST_BYTES = 5_000_000_000
ENTRY_BYTES = 160  # of a header, for a tensor beside its name
NAMES: Mapping[np.dtype[Any], str] = {np.dtype(kind): name for name, kind in NUMPY.items()}


class SafetensorsFiles:
    """The files of one directory. `names`: of all tensors that may come, for which headers have room; `form` is what
    the files say of themselves, `pt` or `mlx`. `finish` is called at the end, inside of the `with`.
    """

    def __init__(self, directory: Path, names: list[str], form: str, most_bytes: int = MOST_BYTES) -> None:
        self._directory, self._form, self._most = directory, form, most_bytes
        self._room = -(-(100 + sum(len(json.dumps(name)) + ENTRY_BYTES for name in names)) // 8) * 8
        self._file: BinaryIO | None = None
        self._header: dict[str, Any] = {}
        self._end = 0  # of the tensors in the present file
        self._parts: list[tuple[Path, list[str]]] = []
        self._total = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:  # after an error
            self._file.close()

    def add(self, name: str, array: Array) -> None:
        """Write a tensor. Raises OSError."""
        if self._file is None or (self._end and self._end + array.nbytes > self._most):
            self._end_file()
            self._begin_file()
        assert self._file is not None
        span = [self._end, self._end + array.nbytes]
        self._header[name] = {"dtype": NAMES[array.dtype], "shape": list(array.shape), "data_offsets": span}
        self._file.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
        self._end = span[1]
        self._total += array.nbytes

    def finish(self) -> int:
        """Give the files their names, and write the index; returns how many bytes the files take. Raises OSError."""
        self._end_file()
        named: dict[str, str] = {}
        for number, (part, tensors) in enumerate(self._parts, 1):
            count = len(self._parts)
            name = "model.safetensors" if count == 1 else f"model-{number:05d}-of-{count:05d}.safetensors"
            part.rename(self._directory / name)
            named |= dict.fromkeys(tensors, name)
        if len(self._parts) > 1:
            index = {"metadata": {"total_size": self._total}, "weight_map": named}
            (self._directory / INDEX).write_text(json.dumps(index, indent=2))
        return sum((self._directory / name).stat().st_size for name in set(named.values()))

    def _begin_file(self) -> None:
        part = self._directory / f"part-{len(self._parts) + 1}"
        self._file = part.open("wb")
        self._file.write(bytes(8 + self._room))
        self._header, self._end = {"__metadata__": {"format": self._form}}, 0

    def _end_file(self) -> None:
        """Write the header of the present file into the room that was left for it."""
        if self._file is None:
            return
        header = json.dumps(self._header, separators=(",", ":")).encode()
        assert len(header) <= self._room, "a tensor came that was not announced"
        self._file.seek(0)
        self._file.write(self._room.to_bytes(8, "little") + header.ljust(self._room))
        self._file.close()
        self._parts.append((Path(self._file.name), [name for name in self._header if name != "__metadata__"]))
        self._file = None
