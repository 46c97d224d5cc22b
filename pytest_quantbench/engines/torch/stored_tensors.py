"""The tensors of a checkpoint's files as PyTorch sees them, by their published names: mapped, and read when used."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from pytest_quantbench.errors import ModelError


class StoredTensors(Mapping[str, torch.Tensor]):
    """Of several files. A tensor's memory is the file's, mapped; shapes and types are known without reading.

    Raises ModelError for a file that cannot be opened.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self._places: dict[str, Any] = {}
        for file in files:
            try:
                opened: Any = safe_open(file, framework="pt")
                self._places |= dict.fromkeys(opened.offset_keys(), opened)
            except (SafetensorError, OSError) as error:
                raise ModelError(f"{file} cannot be read: {error!s:.200}.") from error

    def __getitem__(self, name: str) -> torch.Tensor:
        tensor: torch.Tensor = self._places[name].get_tensor(name)
        return tensor

    def dtype(self, name: str) -> torch.dtype:
        """A tensor's type: it is mapped for that, and not read."""
        return self[name].dtype

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def let_go(self) -> None:
        """Close the files."""
        self._places = {}
