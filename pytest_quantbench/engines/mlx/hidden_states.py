"""Hidden states of all batches of a walk: in memory up to a limit, the rest in temporary files that are mapped."""

import tempfile

import mlx.core as mx
import numpy as np

from pytest_quantbench.engines.mlx.host_products import view
from pytest_quantbench.errors import DiskError


class HiddenStates:
    """A list of float32 arrays that keeps its first `memory_bytes` in memory. `TMPDIR` says where the files go."""

    def __init__(self, memory_bytes: int) -> None:
        self._memory_bytes = memory_bytes
        self._bytes = 0
        self._held: list[mx.array | np.memmap[tuple[int, ...], np.dtype[np.float32]]] = []

    def append(self, state: mx.array) -> None:
        """Add a batch's states, evaluated."""
        mx.eval(state)
        self._bytes += state.nbytes
        if self._bytes <= self._memory_bytes:
            self._held.append(state)
            return
        try:
            with tempfile.TemporaryFile() as file:  # the mapping outlives the open file
                file.write(view(state).data)  # written and not mapped: a full disk would end the process there
                file.flush()
                mapped = np.memmap(file, np.float32, "r+", shape=tuple(state.shape))
        except OSError as error:
            raise DiskError(
                f"Hidden states cannot be written to {tempfile.gettempdir()}: {error.strerror}. Set TMPDIR to a larger "
                f"disk, or allow more memory with --memory GB."
            ) from error
        self._held.append(mapped)

    def __len__(self) -> int:
        return len(self._held)

    def __getitem__(self, batch: int) -> mx.array:
        held = self._held[batch]
        return held if isinstance(held, mx.array) else mx.array(held)

    def __setitem__(self, batch: int, state: mx.array) -> None:
        held = self._held[batch]
        if isinstance(held, mx.array):
            self._held[batch] = state
        else:
            held[:] = view(state)


def finite(states: mx.array) -> bool:
    """Whether all of them are numbers, by their sum."""
    with np.errstate(invalid="ignore"):  # +∞ and −∞ add up to no number, which is the answer
        return bool(np.isfinite(view(states).sum(dtype=np.float64)))
