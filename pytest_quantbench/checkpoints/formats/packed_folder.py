"""Directories in which a matrix is stored in several tensors beside each other, under its published name.

A format finds its packed matrices, checks that the parts of each fit together, and says which tensors these are. Every
other tensor of the directory is one of the model's in 16 or 32 bits: norms, embeddings, modules that were left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_quantbench.checkpoints.formats.folder import Folder
from pytest_quantbench.checkpoints.formats.protocol import Claims, HeldTensor, Holding, Naming
from pytest_quantbench.errors import ModelError
from pytest_quantbench.quantizers import Arrays, Codec

WHOLE_ROW = -1  # as the size of a group


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """One packed matrix: what it is to others, and the stored tensors that stand for it."""

    tensor: HeldTensor
    stored: Sequence[str]


def packed(
    folder: Folder,
    name: str,
    shape: tuple[int, ...],
    codec: Codec,
    parts: Mapping[str, str],
    parameters: Mapping[str, int | float | str],
    *,
    beside: Sequence[str] = (),
    opaque: Sequence[str] = (),
    note: str = "",
    check: Callable[[Arrays], None] = lambda arrays: None,
) -> Packed:
    """A matrix of this name and shape. `parts`: which stored tensor is which of the codec's arrays; `beside` are others
    that are stored for it and counted, but were read already. `check` raises ModelError for values that cannot be.
    """
    stored = [*parts.values(), *beside]

    def arrays() -> Arrays:
        found = folder.read(parts.values(), opaque=[parts[part] for part in opaque])
        named = {part: found[each] for part, each in parts.items()}
        check(named)
        return named

    tensor = HeldTensor(
        name=name,
        shape=shape,
        stored_bytes=folder.stored_bytes(stored),
        kind=codec.name,
        codec=codec,
        read=arrays,
        parameters=parameters,
        note=note,
    )
    return Packed(tensor=tensor, stored=stored)


def modules(folder: Folder, mark: str) -> list[str]:
    """The paths of modules that have a tensor of this last name, in the files' order."""
    return [name.removesuffix(f".{mark}") for name in folder.tensors if name.endswith(f".{mark}")]


def matrix_shape(folder: Folder, name: str, dtypes: tuple[str, ...]) -> tuple[int, int]:
    """Of a stored tensor of two dimensions, of one of these types. Raises ModelError naming file and tensor."""
    shape = folder.expect(name, dtypes=dtypes).shape
    if len(shape) != 2 or 0 in shape:
        raise ModelError(f"{folder.file_of(name)}: {name} has shape {shape}, which is no matrix's.")
    return shape[0], shape[1]


def wrong_setting(folder: Folder, key: str, value: Any, choices: Sequence[Any]) -> ModelError:
    """What is to be raised for a setting of config.json with which nothing can be read here."""
    listed = ", ".join(map(str, choices))
    return ModelError(f"{folder.directory} says {key} = {value!r:.80} of its quantization. What is read: {listed}.")


def checked_group(folder: Folder, group: Any) -> int:
    """The size of a group. Raises ModelError for what is none."""
    if not isinstance(group, int) or (group < 1 and group != WHOLE_ROW):
        raise wrong_setting(folder, "group_size", group, ("any number above 0", f"{WHOLE_ROW} for a whole row"))
    return group


class PackedHolding(Holding):
    """Packed matrices, and other tensors as they are. Raises ModelError where nothing is packed."""

    naming: Naming = "published"

    def __init__(self, name: str, folder: Folder, matrices: Sequence[Packed], looks: str) -> None:
        """`looks`: how the format's tensors are named, for who is told that there are none."""
        if not matrices:
            raise ModelError(
                f"{folder.directory} claims {name} in its quantization_config, and none of its tensors is packed so "
                f"({looks}). Fetch the packed model, or take that key out if the weights are in 16 bits."
            )
        self.format = name
        self.files = folder.files
        self._folder = folder
        self._packed = {each.tensor.name: each.tensor for each in matrices}
        self._parts = {name for each in matrices for name in each.stored}
        for twice in self._packed.keys() & folder.tensors.keys() - self._parts:
            raise ModelError(f"{folder.file_of(twice)}: {twice} is there in 16 bits, and packed as well. Remove one.")

    def tensor(self, name: str) -> HeldTensor | None:
        """The tensor of this name."""
        if name in self._packed:
            return self._packed[name]
        return None if name in self._parts else self._folder.plain(name)

    def stored(self) -> Sequence[HeldTensor]:
        """All of them, the packed ones first."""
        plain = [self._folder.plain(name) for name in self._folder.tensors if name not in self._parts]
        return [*self._packed.values(), *(tensor for tensor in plain if tensor is not None)]

    def left_over(self, names: Sequence[str]) -> Sequence[str]:
        """What has none of these names."""
        return sorted(({*self._packed} | {*self._folder.tensors} - self._parts).difference(names))

    def claims(self) -> Claims:
        """What the directory's other files say."""
        return self._folder.claims()
