"""The stored records that a run is held against: what is worse than they are, beyond the noise, is a regression.

A session's checks come one after the other, so that Holm's correction cannot wait for all of them. Each is told how
many figures there may be, and counts those that are still to come as showing nothing: the first step of Holm's
correction, which finds no regression that the whole would not find. At its end the session settles all of its figures
at once, as `quantbench compare` does, and its records then say what that found.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pytest_quantbench.catalog.criteria import METRICS
from pytest_quantbench.errors import QuantbenchError, RecordError
from pytest_quantbench.judge.change import Change, Pair, Word, settle
from pytest_quantbench.judge.verdict import Verdict
from pytest_quantbench.record import comparison, noise_floor
from pytest_quantbench.record.folder_comparison import CellChange, Comparison, noise_of
from pytest_quantbench.record.pairing import Measured, measured
from pytest_quantbench.record.schema import NoiseFloor, Record, read
from pytest_quantbench.storage.files import write_atomically
from pytest_quantbench.storage.sealed_json import sealed

NOTHING: tuple[Word, ...] = ("not compared", "not in the base")
FIGURES_OF = {"size": ("size",), "perplexity": ("perplexity", "kl"), "accuracy": ("accuracy",)}  # by the check


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What became of a whole session's cells since the baseline; `only_new` of the comparison are those that have no
    record there.
    """

    comparison: Comparison

    @property
    def uncompared(self) -> tuple[str, ...]:
        """Cells that have a record in the baseline, of whose figures not one could be held against it."""
        cells = self.comparison.cells
        return tuple(cell.name for cell in cells if all(each.word in NOTHING for each in cell.changes))

    @property
    def passes(self) -> bool:
        """Whether something was compared, of every cell that has a record there, and nothing is a regression."""
        return bool(self.comparison.cells) and not self.uncompared and not self.comparison.regressions


class Baseline:
    """A results folder of an earlier run, of which each cell's record is read when it is compared."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def record(self, file_stem: str) -> Record | None:
        """A cell's stored record; None where there is none. Raises RecordError for one that is damaged."""
        path = self.directory / f"{file_stem}.json"
        return read(path) if path.is_file() else None

    def refuse_strangers(self, file_stems: Sequence[str]) -> None:
        """Raise QuantbenchError if there is no readable record of any of these cells: nothing would be compared."""
        if not any(self._readable(stem) for stem in file_stems):
            there = [stem for stem in file_stems if (self.directory / f"{stem}.json").is_file()]
            why = f"{', '.join(there)} cannot be read" if there else f"it has none of {', '.join(file_stems)}"
            raise QuantbenchError(
                f"--baseline {self.directory} holds no readable record of any selected cell: {why}. Give the results "
                f"of a run of these cells, or leave --baseline out."
            )

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
        figures = self.all_figures(new.record.model_id) if figures is None else figures
        return tuple(settle(self._pairs(new, (check,), noise), figures))

    def settle_all(self, paths: Iterable[Path]) -> Held:
        """Every figure that a session's checks have compared, settled at once; `paths` are the records that it wrote,
        which say so from now on. Raises RecordError for one that cannot be read, DiskError where it cannot be written.
        """
        found = {path: record for path in paths if _checks(record := read(path))}
        pairs = {path: self._pairs_of(record, path.parent) for path, record in found.items()}
        settled = iter(settle([pair for each in pairs.values() for pair in each]))
        cells, new = [], []
        for path, record in found.items():
            changes = tuple(next(settled) for _ in pairs[path])
            _rewrite(path, record, changes)
            name = f"{record.model_id}-{record.recipe}"
            if (self.directory / path.name).is_file():
                cells.append(CellChange(name=name, base_name=name, changes=changes))
            else:
                new.append(name)
        return Held(comparison=Comparison(cells=tuple(cells), only_new=tuple(new)))

    def _pairs_of(self, record: Record, results: Path) -> list[Pair]:
        return self._pairs(measured(record, results), _checks(record), noise_of(record, results))

    def _pairs(self, new: Measured, checks: Sequence[str], noise: NoiseFloor | None) -> list[Pair]:
        """The figures of these checks; where there is no record that can be read, one for each check says so."""
        try:
            stored = self.record(new.record.file_stem)
        except RecordError as error:
            return [Pair(metric=check, why=f"{error}") for check in checks]
        if stored is None:
            why = f"no record of {new.name} in the baseline {self.directory}."
            return [Pair(metric=check, why=why) for check in checks]
        base = measured(stored, self.directory)
        floor = noise_floor.larger(noise, noise_of(stored, self.directory))
        wanted = [metric for check in checks for metric in FIGURES_OF.get(check, (check,))]
        return [pair for pair in comparison.pairs(base, new, floor) if pair.metric in wanted]


def _checks(record: Record) -> list[str]:
    """Those of which a session has held the figures against a baseline."""
    return list(dict.fromkeys(METRICS[each.metric].check for each in record.verdicts if each.baseline))


def _rewrite(path: Path, record: Record, changes: Sequence[Change]) -> None:
    """Let the first verdict of each check that was compared tell what became of the check's figures."""
    open_checks, verdicts = _checks(record), list[Verdict]()
    for verdict in record.verdicts:
        check, told = METRICS[verdict.metric].check, tuple[Change, ...]()
        if verdict.baseline and check in open_checks:
            open_checks.remove(check)
            told = tuple(each for each in changes if each.metric in FIGURES_OF.get(check, (check,)))
        verdicts.append(replace(verdict, baseline=told))
    if tuple(verdicts) != record.verdicts:
        write_atomically(path, sealed(replace(record, verdicts=tuple(verdicts))))


def _figures(record: Record) -> int:
    """How many figures of a record a comparison of all of it has: size, T1's, and of every text and task."""
    texts = [part for part in (record.perplexity, *record.perplexities.values()) if part is not None]
    tasks = 0 if record.accuracy is None else len(record.accuracy.tasks)
    divergences = sum(part.divergence is not None for part in texts)
    return (record.compression is not None) + len(texts) + divergences + tasks + (record.throughput is not None)
