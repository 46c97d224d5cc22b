"""How far an export is from the artifact, where a form cannot hold what was judged: told tensor by tensor and in sum.

The artifact itself is off from the original weights; what an export adds to that is what counts. So both errors are
measured against the original, as signal-to-noise ratios in dB, and the largest change of a single weight beside them.
"""

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float32]


@dataclass(slots=True, kw_only=True)
class Difference:
    """What a form changed for one reason, in any number of tensors."""

    reason: str  # a whole sentence but for its figures and its full stop
    lines: list[str] = field(default_factory=list)
    largest: float = 0.0
    signal: float = 0.0  # sums of squares: of the original weights of these tensors,
    before: float = 0.0  # of the artifact's error,
    after: float = 0.0  # and of the export's

    def add(self, name: str, original: Matrix, judged: Matrix, exported: Matrix, what: str = "") -> None:
        """One tensor that differs: three arrays of one shape."""
        sums = [_power(original), _power(judged - original), _power(exported - original)]
        largest = float(np.abs(exported - judged).max())
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


def _power(values: Matrix) -> float:
    return float(np.square(values, dtype=np.float64).sum())


def _figures(largest: float, signal: float, before: float, after: float) -> str:
    """An artifact without any error has no ratio to compare with."""
    instead = f" instead of {_decibels(signal, before)}" if before else ""
    return f"largest change {largest:.3g}, SNR {_decibels(signal, after)}{instead}"


def _decibels(signal: float, noise: float) -> str:
    if not noise:
        return "infinite"
    return f"{10 * math.log10(signal / noise):.2f} dB" if signal else "0 dB"
