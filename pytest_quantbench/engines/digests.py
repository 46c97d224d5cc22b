"""What a walk says of the weights that it ran: one hash over paths, shapes and values, the same with every engine."""

import hashlib
from collections.abc import Callable, Sequence


class Digests:
    """Of so many tracks, the digest of every parameter that was filled in."""

    def __init__(self, tracks: int) -> None:
        self._digests: list[dict[str, str]] = [{} for _ in range(tracks)]

    def note(self, name: str, shape: Sequence[int], tracks: Sequence[int], values: Callable[[], memoryview]) -> None:
        """A parameter that these tracks share was filled in; `values` gives its float32 numbers, row after row."""
        if all(name in self._digests[track] for track in tracks):
            return
        digest = hashlib.sha256(f"{name}{tuple(shape)}".encode())
        digest.update(values())
        for track in tracks:
            self._digests[track][name] = digest.hexdigest()

    def sha256(self, track: int) -> str:
        """Hash over name, shape and float32 values of all weights that were filled in."""
        digests = sorted(self._digests[track].items())
        return hashlib.sha256("".join(f"{name}={value};" for name, value in digests).encode()).hexdigest()
