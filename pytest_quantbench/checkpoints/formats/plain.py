"""Safetensors in 16 or 32 bits: what `quantbench convert --to hf` writes, and any other model that is not quantized."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from pytest_quantbench.checkpoints.formats.folder import Folder, quantization_of
from pytest_quantbench.checkpoints.formats.protocol import Claims, HeldTensor, Holding


class Plain:
    """A `Format`."""

    name: ClassVar[str] = "plain"
    what: ClassVar[str] = "safetensors in BF16, F16 or F32"

    def recognizes(self, source: Path) -> bool:
        """A directory with a config.json that says nothing of quantization."""
        return (source / "config.json").is_file() and not quantization_of(source)

    def open(self, source: Path) -> Holding:
        """Open it."""
        return PlainHolding(Folder(source))


class PlainHolding(Holding):
    """Tensors as they are."""

    format, naming = "plain", "published"

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self.files = folder.files

    def tensor(self, name: str) -> HeldTensor | None:
        """The tensor of this name."""
        return self._folder.plain(name)

    def stored(self) -> Sequence[HeldTensor]:
        """All of them."""
        return [tensor for name in self._folder.tensors if (tensor := self._folder.plain(name)) is not None]

    def left_over(self, names: Sequence[str]) -> Sequence[str]:
        """What has none of these names."""
        return sorted(set(self._folder.tensors).difference(names))

    def claims(self) -> Claims:
        """What the directory's other files say."""
        return self._folder.claims()
