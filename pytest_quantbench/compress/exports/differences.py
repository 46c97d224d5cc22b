"""How far an export is from the artifact, where a form cannot hold what was judged: told tensor by tensor and in sum.

The artifact itself is off from the original weights; what an export adds to that is what counts. So both errors are
measured against the original, as signal-to-noise ratios in dB, and the largest change of a single weight beside them.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pytest_quantbench.quantizers import Array

Values = NDArray[np.float32]
STRETCH = 2**20  # values that are compared at once


@dataclass(slots=True, kw_only=True)
class Difference:
    """What a form changed for one reason, in any number of tensors."""

    reason: str  # a whole sentence but for its figures and its full stop
    lines: list[str] = field(default_factory=list)
    largest: float = 0.0
    signal: float = 0.0  # sums of squares: of the original weights of these tensors,
    before: float = 0.0  # of the artifact's error,
    after: float = 0.0  # and of the export's

    def add(self, name: str, original: Array, judged: Array, exported: Array, what: str = "") -> None:
        """One tensor that differs: three arrays of one shape, of whatever types."""
        sums, largest = [0.0, 0.0, 0.0], 0.0
        for source, before, after in _parts(original, judged, exported):
            own = (_power(source), _power(before - source), _power(after - source))
            sums = [whole + part for whole, part in zip(sums, own, strict=True)]
            largest = max(largest, float(np.abs(after - before).max()))
        self.signal, self.before, self.after = (
            whole + own for whole, own in zip((self.signal, self.before, self.after), sums, strict=True)
        )
        self.largest = max(self.largest, largest)
        self.lines.append(f"{name}{what and f' ({what})'}: {_figures(largest, *sums)}")

    @property
    def sentence(self) -> str:
        """All of it in one sentence; empty where no tensor differs."""
        if not self.lines:
            return ""
        figures = _figures(self.largest, self.signal, self.before, self.after)
        count = f"{len(self.lines)} tensor{'s' * (len(self.lines) > 1)}"
        return f"{self.reason} in {count}: {figures}."


def told(differences: list[Difference]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The sentences of those that there are, and the lines of all tensors."""
    sentences = tuple(each.sentence for each in differences if each.lines)
    return sentences, tuple(line for each in differences for line in each.lines)


def differ(judged: Array, exported: Array) -> bool:
    """Whether two arrays of one shape, of whatever types, are not the same numbers."""
    return any(bool((before != after).any()) for before, after in _parts(judged, exported))


def _parts(*arrays: Array) -> Iterator[tuple[Values, ...]]:
    """The same stretch of each array, in float32: embeddings are large, and four copies of them larger."""
    flat = [array.reshape(-1) for array in arrays]
    for start in range(0, flat[0].size, STRETCH):
        yield tuple(array[start : start + STRETCH].astype(np.float32, copy=False) for array in flat)


def _power(values: Values) -> float:
    return float(np.square(values, dtype=np.float64).sum())


def _figures(largest: float, signal: float, before: float, after: float) -> str:
    """An artifact without any error has no ratio to compare with."""
    instead = f" instead of {_decibels(signal, before)}" if before else ""
    return f"largest change {largest:.3g}, SNR {_decibels(signal, after)}{instead}"


def _decibels(signal: float, noise: float) -> str:
    if not noise:
        return "infinite"
    return f"{10 * math.log10(signal / noise):.2f} dB" if signal else "0 dB"
