"""What a sweep measured: point by point, run by run, with the reference's runs beside and the probes between.

Four kinds of points. `decode`: so many texts of one depth go on together. `prefill`: one prompt is read, up to its
first new token. `end to end`: prompts of a list are answered, sampled at a temperature. `requests`: so many prompts of
unlike lengths are there at once, and go through the engine's own batching.
"""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Kind = Literal["decode", "prefill", "end to end", "requests"]
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """What is measured at one point. `rows`: texts that go on together; `depth`: tokens of a prompt, the most of any
    where they are of unlike lengths; `new_tokens`: of each.
    """

    kind: Kind
    rows: int
    depth: int
    new_tokens: int

    @property
    def name(self) -> str:
        """`decode 4 × 512`."""
        return f"{self.kind} {self.rows} × {self.depth}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PointRun:
    """One run of a point. `first_seconds`: until every text had its first new token; `gaps_seconds`: between tokens of
    a text, of all texts behind each other where they do not go on in step; `firsts_seconds`: until each request had its
    first new token; `prompt`: the number of the one that was answered, of a list.
    """

    first_seconds: float
    seconds: float
    gaps_seconds: Floats
    firsts_seconds: Floats = field(default_factory=lambda: np.zeros(0, np.float32))
    prompt: int = 0
    cpu_share: float | None = None  # processors' seconds over the clock's; None where an accelerator computes
    joules: float | None = None  # that the machine took meanwhile; None where nothing tells


@dataclass(frozen=True, slots=True, kw_only=True)
class PointSamples:
    """A point: its runs, and the reference's, of which there are none where both are not in memory together.

    `skipped`: why it was not measured; `lacked_bytes`: what its texts take, where that was more than memory had left.
    `reference_first`: of each pair of runs, which order they were in, by chance.
    Several times in front of each pair and behind the last stands a fixed matrix product (`probes_per_second`), and
    once how fast memory is read (`read_rates`, in bytes per second, of as many as a step of the model reads).
    """

    point: Point
    skipped: str = ""
    lacked_bytes: int = 0
    step: str = ""  # how steps were run
    runs: tuple[PointRun, ...] = ()
    reference_runs: tuple[PointRun, ...] = ()
    reference_first: tuple[bool, ...] = ()
    probes_per_second: tuple[float, ...] = ()
    read_rates: tuple[float, ...] = ()
    reference_read_rates: tuple[float, ...] = ()  # none: what the reference's step would read is not read
    processors_had: tuple[float, ...] = ()  # in front of each pair, of what so many threads ask for; empty: untold
    threads: int | None = None  # on which the engine computes; None where it does not tell
    seconds: float = 0.0  # that the point took, with what was compiled for it

    def rates(self, runs: tuple[PointRun, ...]) -> NDArray[np.float64]:
        """(runs,) tokens per second: of a decode point of its steps alone, of prefill those of the prompt, else all new
        tokens over all of the time.
        """
        point = self.point
        if point.kind == "prefill":
            return np.array([point.depth / run.first_seconds for run in runs])
        if point.kind == "decode":
            return np.array([point.rows * len(run.gaps_seconds) / (run.seconds - run.first_seconds) for run in runs])
        return np.array([point.rows * point.new_tokens / run.seconds for run in runs])


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepSamples:
    """All points, in the order in which they were measured. `seed` chose the order of runs, the lengths of requests and
    what was drawn at the temperature.
    """

    points: tuple[PointSamples, ...]
    seed: int
    temperature: float
    activations: str
    bytes_per_token: int  # of weights that one decode step reads
    cache_bytes_per_token: int  # of keys and values that it reads for each token of each text
    reference_bytes_per_token: int | None = None

    def at(self, point: Point) -> PointSamples | None:
        """The samples of a point; None where it was not measured."""
        found = (each for each in self.points if each.point == point and each.runs)
        return next(found, None)
