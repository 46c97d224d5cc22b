"""The stored records that a run is held against: what is worse than they are, beyond the noise, is a regression.

A session's checks come one after the other, so that Holm's correction cannot wait for all of them. It is told how many
figures there will be, and counts those that are still to come as showing nothing: the first step of Holm's correction,
which finds a regression in a session exactly where the whole would find one.
"""

from collections.abc import Iterable
from pathlib import Path

from pytest_quantbench.errors import RecordError
from pytest_quantbench.judge.change import Change, Pair, settle
from pytest_quantbench.record import comparison, noise_floor
from pytest_quantbench.record.folder_comparison import noise_of
from pytest_quantbench.record.pairing import Measured, measured
from pytest_quantbench.record.schema import NoiseFloor, Record, read

FIGURES_OF = {"size": ("size",), "perplexity": ("perplexity", "kl"), "accuracy": ("accuracy",)}  # by the check


class Baseline:
    """A results folder of an earlier run, of which each cell's record is read when it is compared."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def record(self, file_stem: str) -> Record | None:
        """A cell's stored record; None where there is none. Raises RecordError for one that is damaged."""
        path = self.directory / f"{file_stem}.json"
        return read(path) if path.is_file() else None

    def figures(self, file_stems: Iterable[str]) -> int:
        """How many figures of these cells there are to be compared: those that their stored records have."""
        return sum(_figures(record) for stem in file_stems if (record := self._readable(stem)) is not None)

    def _readable(self, stem: str) -> Record | None:
        try:
            return self.record(stem)
        except RecordError:
            return None  # that it is damaged is said when it is compared

    def all_figures(self, model: str) -> int:
        """The same, of all stored cells of a model."""
        stems = [path.stem for path in self.directory.glob("*.json")]
        found = [record for stem in stems if (record := self._readable(stem)) is not None]
        return sum(_figures(record) for record in found if record.model_id == model)

    def changes(self, new: Measured, check: str, noise: NoiseFloor | None, figures: int | None) -> tuple[Change, ...]:
        """What became of the figures of one check, of so many in the session (None: all that the model has stored); one
        that says so where the folder has no record of the cell.
        """
        try:
            stored = self.record(new.record.file_stem)
        except RecordError as error:
            return (self._not_compared(check, f"{error}"),)
        if stored is None:
            return (self._not_compared(check, f"no record of {new.name} in the baseline {self.directory}."),)
        base = measured(stored, self.directory)
        floor = noise_floor.larger(noise, noise_of(stored, self.directory))
        figures = self.all_figures(new.record.model_id) if figures is None else figures
        wanted = FIGURES_OF.get(check, (check,))
        return tuple(settle([p for p in comparison.pairs(base, new, floor) if p.metric in wanted], figures))

    @staticmethod
    def _not_compared(check: str, why: str) -> Change:
        (change,) = settle([Pair(metric=check, why=why)])
        return change


def _figures(record: Record) -> int:
    """How many figures of a record a comparison of all of it has: size, T1's, and of every text and task."""
    texts = [part for part in (record.perplexity, *record.perplexities.values()) if part is not None]
    tasks = 0 if record.accuracy is None else len(record.accuracy.tasks)
    divergences = sum(part.divergence is not None for part in texts)
    return (record.compression is not None) + len(texts) + divergences + tasks + (record.throughput is not None)
