"""Hidden states of all batches of a walk: in memory up to a limit, the rest in temporary files that are mapped."""

import tempfile
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import numpy as np

from pytest_quantbench.errors import DiskError
from pytest_quantbench.quantizers import Array

State = TypeVar("State")  # an engine's own array


class HiddenStates(Generic[State]):
    """A list of arrays that keeps its first `memory_bytes` in memory. `TMPDIR` says where the files go.

    `to_host` gives an array's values in numpy, `from_host` makes an array of the engine's with a copy of
    them; both keep the type.
    """

    def __init__(
        self, memory_bytes: int, to_host: Callable[[State], Array], from_host: Callable[[Array], State]
    ) -> None:
        self._memory_bytes, self._to_host, self._from_host = memory_bytes, to_host, from_host
        self._bytes = 0
        self._held: list[State | np.memmap[Any, np.dtype[Any]]] = []

    def append(self, state: State) -> None:
        """Add a batch's states."""
        self._bytes += int(state.nbytes)  # type: ignore[attr-defined]
        if self._bytes <= self._memory_bytes:
            self._held.append(state)
            return
        rows = np.ascontiguousarray(self._to_host(state))
        try:
            with tempfile.TemporaryFile() as file:  # the mapping outlives the open file
                file.write(rows.view(np.uint8).data)  # written and not mapped: a full disk would end the process there
                file.flush()
                mapped = np.memmap(file, rows.dtype, "r+", shape=rows.shape)
        except OSError as error:
            raise DiskError(
                f"Hidden states cannot be written to {tempfile.gettempdir()}: {error.strerror}. Set TMPDIR to a larger "
                f"disk, or allow more memory with --memory GB."
            ) from error
        self._held.append(mapped)

    def __len__(self) -> int:
        return len(self._held)

    def __getitem__(self, batch: int) -> State:
        held = self._held[batch]
        return self._from_host(held) if isinstance(held, np.memmap) else held

    def put(self, batch: int, state: State) -> None:
        """In the place of what is there, or behind the last."""
        if batch == len(self):
            self.append(state)
        else:
            self[batch] = state

    def __setitem__(self, batch: int, state: State) -> None:
        held = self._held[batch]
        if isinstance(held, np.memmap):
            held[:] = self._to_host(state)
        else:
            self._held[batch] = state
