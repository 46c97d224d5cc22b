"""What a walk says of the weights that it ran: one hash over paths, shapes and values, the same with every engine.

Weights do not change, so those that are walked a second time are not hashed a second time.
"""

import hashlib
from collections.abc import Callable, Sequence
from weakref import WeakKeyDictionary

from pytest_quantbench.engines.protocol import Weights

_known: WeakKeyDictionary[Weights, dict[str, str]] = WeakKeyDictionary()  # path → digest, of this process


class Digests:
    """Of every track, the digest of each parameter that was filled in."""

    def __init__(self, tracks: Sequence[Weights]) -> None:
        self._tracks = tracks
        self._filled: list[dict[str, str]] = [{} for _ in tracks]

    def note(self, name: str, shape: Sequence[int], tracks: Sequence[int], values: Callable[[], memoryview]) -> None:
        """A parameter that these tracks share was filled in; `values` gives its float32 numbers, row after row."""
        known = _known.setdefault(self._tracks[tracks[0]], {})
        if name not in known:
            digest = hashlib.sha256(f"{name}{tuple(shape)}".encode())
            digest.update(values())
            known[name] = digest.hexdigest()
        for track in tracks:
            self._filled[track][name] = known[name]

    def sha256(self, track: int) -> str:
        """Hash over name, shape and float32 values of all weights that were filled in."""
        digests = sorted(self._filled[track].items())
        return hashlib.sha256("".join(f"{name}={value};" for name, value in digests).encode()).hexdigest()
