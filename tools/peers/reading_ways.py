"""Ways of reading a checkpoint's bytes in the order of a walk, which `reading` compares."""

import mmap
import os
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pytest_quantbench.checkpoints.safetensors_header import data_start, read_header
from pytest_quantbench.checkpoints.shards import weight_files

BLOCK, HELD = 8 * 2**20, 8  # bytes of a mapped block, and how many are kept: 64 MB
AT_ONCE = 2**22  # bytes that a plain read takes
Range = tuple[int, int]  # begin and end in a file


def ranges(file: Path) -> dict[str, Range]:
    """Where each tensor lies in a file."""
    place, found = data_start(file), {}
    for name, tensor in read_header(file).items():
        found[name] = place, place + tensor.stored_bytes
        place += tensor.stored_bytes
    return found


def by_layer(files: Sequence[Path]) -> list[list[tuple[Path, Range]]]:
    """The bytes of each decoder layer, in the order of a walk; what is outside comes first."""
    found: dict[int, list[tuple[Path, Range]]] = {}
    for file in files:
        for name, place in ranges(file).items():
            parts = name.split(".")
            layer = int(parts[parts.index("layers") + 1]) if "layers" in parts else -1
            found.setdefault(layer, []).append((file, place))
    return [sorted(found[layer]) for layer in sorted(found)]


class Ahead:
    """What is done for the next layer before one is read: nothing, by default."""

    def __init__(self, layers: Sequence[Sequence[tuple[Path, Range]]]) -> None:
        self._layers = layers
        self._opened = {file: os.open(file, os.O_RDONLY) for each in layers for file, _ in each}

    def layer(self, index: int) -> None:
        """Have this one come."""


class Asked(Ahead):
    """The system is asked for it."""

    def layer(self, index: int) -> None:
        """Which returns at once where the system does it beside."""
        for file, (begin, end) in self._layers[index] if index < len(self._layers) else ():
            os.posix_fadvise(self._opened[file], begin, end - begin, os.POSIX_FADV_WILLNEED)


class Threaded(Ahead):
    """A thread reads it, into memory that is thrown away."""

    def layer(self, index: int) -> None:
        """Start reading, unless it is behind the last."""
        if index < len(self._layers):
            threading.Thread(target=self._read, args=(self._layers[index],), daemon=True).start()

    def _read(self, layer: Sequence[tuple[Path, Range]]) -> None:
        held = bytearray(AT_ONCE)
        for file, (begin, end) in layer:
            for place in range(begin, end, AT_ONCE):
                os.preadv(self._opened[file], [memoryview(held)[: min(AT_ONCE, end - place)]], place)


AHEAD: Mapping[str, type[Ahead]] = {"asked": Asked, "thread": Threaded}


class Mapped:
    """Copies out of one map for each file."""

    def __init__(self) -> None:
        self._maps: dict[Path, Any] = {}

    def __call__(self, file: Path, place: Range) -> None:
        if file not in self._maps:
            self._maps[file] = np.memmap(file, np.uint8, "r")
        self._maps[file][slice(*place)].copy()


class Plain:
    """Reads into an array."""

    def __call__(self, file: Path, place: Range) -> None:
        np.fromfile(file, np.uint8, place[1] - place[0], offset=place[0])


class Blocks:
    """Copies out of blocks that are mapped one by one; the one behind is asked for."""

    def __init__(self) -> None:
        self._held: OrderedDict[tuple[Path, int], mmap.mmap] = OrderedDict()

    def __call__(self, file: Path, place: Range) -> None:
        found, at = np.empty(place[1] - place[0], np.uint8), place[0]
        while at < place[1]:
            number, inside = divmod(at, BLOCK)
            block = self._block(file, number)
            self._block(file, number + 1)
            count = min(place[1] - at, BLOCK - inside)
            found[at - place[0] :][:count] = np.frombuffer(block, np.uint8, count, inside)
            at += count

    def _block(self, file: Path, number: int) -> Any:
        if (file, number) not in self._held:
            length = min(BLOCK, file.stat().st_size - number * BLOCK)
            if length <= 0:
                return None
            with file.open("rb") as opened:
                block = mmap.mmap(opened.fileno(), length, access=mmap.ACCESS_READ, offset=number * BLOCK)
            block.madvise(mmap.MADV_WILLNEED)
            self._held[file, number] = block
            if len(self._held) > HELD:
                self._held.popitem(last=False)
        self._held.move_to_end((file, number))
        return self._held[file, number]


COPIES: Mapping[str, type[Any]] = {"plain": Plain, "blocks": Blocks}


def alone(directory: Path, way: str) -> None:
    """Copy the bytes of each layer into memory of their own."""
    layers = by_layer(weight_files(directory))
    ahead, copy = AHEAD.get(way, Ahead)(layers), COPIES.get(way, Mapped)()
    for index, layer in enumerate(layers):
        ahead.layer(index + 1)
        for file, place in layer:
            copy(file, place)
