"""GGUF files, which llama.cpp and what is built on it run: one file, or one model in several.

Source: ggml's specification of GGUF, and llama.cpp's conversion from the Hub's checkpoints. A file holds everything of
a model: its sizes, its tokenizer, and tensors in blocks of few bits (see gguf_header, gguf_codecs), under llama.cpp's
names (gguf_names), some of them in another order or with 1 added (gguf_transformations, which undoes it). Tensors are
read when they are asked for, one at a time, and nothing is kept; of a stack of experts only the one that is asked for.

Where we differ from llama.cpp: a file whose tensors do not fit what it says of itself is refused, not guessed at.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np

from pytest_quantbench.checkpoints.formats.gguf_claims import claims_of
from pytest_quantbench.checkpoints.formats.gguf_codecs import HALVES, PLAIN, GgufBlocks
from pytest_quantbench.checkpoints.formats.gguf_files import Model, is_gguf, read_model
from pytest_quantbench.checkpoints.formats.gguf_header import GgufTensor
from pytest_quantbench.checkpoints.formats.gguf_names import Names, Place, purpose
from pytest_quantbench.checkpoints.formats.gguf_rows import rows_of
from pytest_quantbench.checkpoints.formats.gguf_transformations import Undoing
from pytest_quantbench.checkpoints.formats.protocol import Claims, HeldTensor, Holding
from pytest_quantbench.checkpoints.safetensors_header import short
from pytest_quantbench.errors import ModelError
from pytest_quantbench.quantizers import Arrays

# What `general.type` or `general.architecture` call files that are no language models.
OTHERS = {
    "adapter": "an adapter (LoRA), which is nothing without the model that it changes",
    "imatrix": "an importance matrix, from which models are quantized",
    "mmproj": "the part of a model that sees or hears (mmproj)",
    "clip": "the part of a model that sees or hears (mmproj)",
}
MOST_BLOCKS = 512  # layers of a model


class Gguf:
    """A `Format`."""

    name: ClassVar[str] = "gguf"
    what: ClassVar[str] = f"GGUF files, one or split ({', '.join((*PLAIN, *HALVES))})"

    def recognizes(self, source: Path) -> bool:
        """A file that begins as GGUF files do or is called so; a directory with such files and no safetensors."""
        return is_gguf(source)

    def open(self, source: Path) -> GgufHolding:
        """Open it."""
        return GgufHolding(read_model(source))


class GgufHolding(Holding):
    """Tensors under the names that the original's have."""

    format, naming = "gguf", "published"

    def __init__(self, model: Model) -> None:
        self.model = model
        self.files = model.files
        first = model.files[0]
        _refuse_other(model)
        self._undoing = Undoing(first, model.values)
        blocks = model.values.get(f"{self._undoing.architecture}.block_count")
        if not isinstance(blocks, int) or not 0 < blocks <= MOST_BLOCKS:
            raise ModelError(
                f"{first} says {short(blocks)} of {self._undoing.architecture}.block_count, and models have 1 to "
                f"{MOST_BLOCKS} layers. Fetch it again."
            )
        self._names = Names(self._undoing.architecture, blocks, model.tensors)
        for tensor in model.tensors.values():
            self._check(tensor)

    def tensor(self, name: str) -> HeldTensor | None:
        """The tensor of this name in the original."""
        place = self._names.place(name)
        return None if place is None else self._held(name, place)

    def stored(self) -> Sequence[HeldTensor]:
        """All of them, whole stacks among them; `for` says of those that are no weights what they are."""
        return [self._held(name, Place(stored=(name,)), as_stored=True) for name in self.model.tensors]

    def left_over(self, names: Sequence[str]) -> Sequence[str]:
        """Weights of the file under none of these names, and matrices of stacks. Factors of rotary frequencies are no
        weights.
        """
        found = [place for name in names if (place := self._names.place(name)) is not None]
        used = {stored for place in found for stored in place.stored}
        left = sorted(name for name in set(self.model.tensors) - used if not purpose(name))
        whole = {stored for place in found if place.expert is None for stored in place.stored}
        experts = {(stored, place.expert) for place in found for stored in place.stored}
        for stack in sorted(used - whole):
            numbers = range(self.model.tensors[stack].shape[0])
            left += [f"expert {number} of {stack}" for number in numbers if (stack, number) not in experts]
        return left

    def claims(self) -> Claims:
        """What the header says."""
        return claims_of(self.model)

    def _check(self, tensor: GgufTensor) -> None:
        """Raise ModelError for a type that is not decoded, and for a shape that no weight has."""
        if tensor.kind not in (*HALVES, *PLAIN):
            raise ModelError(
                f"{tensor.file}: {short(tensor.name)} is in {tensor.kind}, which is not decoded. These are: "
                f"{', '.join((*PLAIN, *HALVES))}."
            )
        if tensor.kind in HALVES and len(tensor.shape) not in (2, 3):
            raise ModelError(
                f"{tensor.file}: {short(tensor.name)} of shape {tensor.shape} is in {tensor.kind}, and only matrices "
                f"and stacks of them are stored in blocks."
            )
        if tensor.kind in HALVES and f"{tensor.name.removesuffix('.weight')}.scale" in self.model.tensors:
            raise ModelError(
                f"{tensor.file}: {short(tensor.name)} has a scale of its own beside it, and that is not read."
            )
        self._undoing.check(tensor.name, tensor.shape[0] if tensor.shape else 1)

    def _held(self, name: str, place: Place, *, as_stored: bool = False) -> HeldTensor:
        parts = [self.model.tensors[stored] for stored in place.stored]
        shape = self._shape(name, parts, place.expert)
        share = 1 if place.expert is None else parts[0].shape[0]
        kind = parts[0].kind

        def arrays() -> Arrays:
            read = [rows_of(part, place.expert) for part in parts]
            if not as_stored:
                read = [self._undoing.undone(part.name, rows) for part, rows in zip(parts, read, strict=True)]
            whole = read[0] if len(read) == 1 else np.concatenate(read, axis=-2)
            return {"blocks": whole} if kind in HALVES else {"weight": whole.reshape(shape)}

        meant = purpose(parts[0].name)
        return HeldTensor(
            name=name,
            shape=shape,
            stored_bytes=sum(part.stored_bytes for part in parts) // share,
            kind=kind,
            codec=GgufBlocks(kind=kind) if kind in HALVES else None,
            read=arrays,
            parameters={"for": meant} if meant else {},
        )

    def _shape(self, name: str, parts: Sequence[GgufTensor], expert: int | None) -> tuple[int, ...]:
        """As the original has it. Raises ModelError for an expert that is not there and for parts that differ."""
        shape = parts[0].shape
        if any((part.kind, part.shape) != (parts[0].kind, shape) for part in parts):
            told = ", ".join(f"{part.name} {part.shape} {part.kind}" for part in parts)
            raise ModelError(f"{parts[0].file}: {short(name)} is made of tensors that are not alike: {told}.")
        if expert is not None:
            if len(shape) != 3 or expert >= shape[0]:
                raise ModelError(f"{parts[0].file}: {parts[0].name} of shape {shape} has no matrix of expert {expert}.")
            return shape[1:]
        if len(parts) > 1:
            return (*shape[:-2], shape[-2] * len(parts), shape[-1])
        is_row = name.endswith("shared_expert_gate.weight") and len(shape) == 1
        return (1, *shape) if is_row else shape  # conversion leaves out dimensions of 1


def _refuse_other(model: Model) -> None:
    """Raise ModelError for files that are no language model."""
    said = (model.values.get("general.type"), model.values.get("general.architecture"))
    for value in said:
        if isinstance(value, str) and value in OTHERS:
            raise ModelError(f"{model.files[0]} is {OTHERS[value]}. Give a model.")
    if "general.architecture" not in model.values:
        raise ModelError(f"{model.files[0]} names no general.architecture, so it is not known what model it holds.")
    if not model.tensors:
        raise ModelError(f"{model.files[0]} holds no tensors, only what is said of a model.")
