"""Two results folders, or two records, cell by cell: what got worse beyond the noise, over all of them at once."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pytest_quantbench.catalog.recipes import REFERENCE
from pytest_quantbench.errors import QuantbenchError, RecordError, unknown
from pytest_quantbench.judge.change import Change, Word, settle
from pytest_quantbench.judge.figures import FIGURES
from pytest_quantbench.record import comparison, folder, noise_floor, pairing
from pytest_quantbench.record.pairing import Measured, measured
from pytest_quantbench.record.schema import NoiseFloor, Record, file_stem, read

LESS_SNR_DB = 0.1  # of a matrix: less is not told
UNCOMPARED: tuple[Word, ...] = ("not compared", "not judged", "not in the base")


@dataclass(frozen=True, slots=True, kw_only=True)
class CellChange:
    """What became of one cell. `notes` are told and not judged: its matrices, how long compressing took, libraries."""

    name: str
    base_name: str  # another one where it is compared with a cell of another name
    changes: tuple[Change, ...]
    notes: tuple[str, ...] = ()

    @property
    def regressions(self) -> tuple[Change, ...]:
        """What got worse beyond the noise."""
        return tuple(change for change in self.changes if change.word == "regression")


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """All cells that both sides have, and the names of those that only one has."""

    cells: tuple[CellChange, ...]
    only_base: tuple[str, ...] = ()
    only_new: tuple[str, ...] = ()
    damaged: tuple[str, ...] = ()  # records of which the other folder has the counterpart

    @property
    def regressions(self) -> tuple[tuple[str, Change], ...]:
        """By the cell's name."""
        return tuple((cell.name, change) for cell in self.cells for change in cell.regressions)

    @property
    def compared(self) -> int:
        """How many figures were compared."""
        return sum(change.word not in UNCOMPARED for c in self.cells for change in c.changes)

    @property
    def uncompared(self) -> int:
        """How many figures of the base could not be compared, though they are judged."""
        return sum(change.word == "not compared" for c in self.cells for change in c.changes)

    @property
    def whole(self) -> bool:
        """Whether all of the base that is judged was compared, and anything at all."""
        return self.compared > 0 and not self.uncompared and not self.only_base and not self.damaged

    @property
    def least(self) -> Mapping[str, float]:
        """By figure: the smallest worsening that would have been seen in every cell in which any was looked for."""
        found: dict[str, float] = {}
        for cell in self.cells:
            for change in cell.changes:
                if change.detectable is not None and change.estimate is not None:
                    found[change.metric] = max(found.get(change.metric, 0.0), change.detectable)
        return {metric: found[metric] for metric in FIGURES if metric in found}


def opened(path: Path) -> list[Measured]:
    """The records of a results folder, or of one file of it, with their samples. Raises DiskError for a folder without
    records, RecordError for a file that is none.
    """
    if path.is_dir():
        return [measured(record, path) for record in folder.read_all(path)]
    if not path.is_file():
        raise RecordError(f"{path}: there is no such folder or file. Give a results folder, or a record of one.")
    return [measured(read(path), path.parent)]


def of_models(cells: Sequence[Measured], models: Sequence[str]) -> list[Measured]:
    """Those of these models; all, where none is named. Raises UnknownNameError for a model that no cell is of."""
    there = [*dict.fromkeys(each.record.model_id for each in cells)]
    for name in models:
        if name not in there:
            raise unknown("model", name, there)
    return [each for each in cells if not models or each.record.model_id in models]


def noise_of(record: Record, directory: Path) -> NoiseFloor | None:
    """The noise floor of a record's model, which its reference's record in the same folder has, if that is of the same
    engine, device and activations; None: not measured.
    """
    if record.noise_floor is not None:
        return record.noise_floor
    path = directory / f"{file_stem(record.model_id, REFERENCE.id, REFERENCE.bits)}.json"
    try:
        reference = read(path) if path.is_file() else None
    except RecordError:
        return None
    return None if reference is None or pairing.other_engine(reference, record) else reference.noise_floor


def compare(
    base: Path,
    new: Path,
    *,
    models: Sequence[str] = (),
    renamed: Mapping[str, str] | None = None,
    allowed: Mapping[str, float] | None = None,
    without: Sequence[str] = (),
) -> Comparison:
    """Every cell of two results folders, or of two records' files, which are compared whatever they are called.

    `models`: only theirs; `renamed`: by a recipe's or candidate's name in the base, what it is called in the new;
    `without`: figures that are left out. Raises UnknownNameError for a model that neither side has, and for a figure
    that there is not.
    """
    for name in without:
        if name not in FIGURES:
            raise unknown("figure to leave out", name, list(FIGURES))
    sides = opened(base), opened(new)
    if base.is_file() and new.is_file():
        matched, alone = [(sides[0][0], sides[1][0])], (list[str](), list[str]())
    else:
        wanted = {each.record.model_id for each in of_models([*sides[0], *sides[1]], models)}
        chosen = [[each for each in side if each.record.model_id in wanted] for side in sides]
        matched, alone = _matched(chosen[0], chosen[1], renamed or {})
    folders = [path if path.is_dir() else path.parent for path in (base, new)]
    floors = {
        id(pair[0]): noise_floor.larger(*(noise_of(e.record, d) for e, d in zip(pair, folders, strict=True)))
        for pair in matched
    }
    found = [
        [pair for pair in comparison.pairs(one, other, floors[id(one)], allowed) if pair.metric not in without]
        for one, other in matched
    ]
    settled = iter(settle([pair for pairs in found for pair in pairs]))
    cells = [
        CellChange(
            name=other.name,
            base_name=one.name,
            changes=tuple(next(settled) for _ in pairs),
            notes=tuple(notes(one, other)),
        )
        for (one, other), pairs in zip(matched, found, strict=True)
    ]
    damaged = tuple(_damaged(base, new, models))
    return Comparison(cells=tuple(cells), only_base=tuple(alone[0]), only_new=tuple(alone[1]), damaged=damaged)


def _damaged(base: Path, new: Path, models: Sequence[str]) -> Iterator[str]:
    """The files of cells that both folders have and that cannot be read; of these models, or of all."""
    if not base.is_dir() or not new.is_dir():
        return
    names = sorted({path.name for path in base.glob("*.json")} & {path.name for path in new.glob("*.json")})
    for name in names:
        if name != folder.COMBINED and (not models or name.startswith(tuple(f"{model}_" for model in models))):
            for path in (base / name, new / name):
                try:
                    read(path)
                except RecordError:
                    yield str(path)


def _matched(
    base: Sequence[Measured], new: Sequence[Measured], renamed: Mapping[str, str]
) -> tuple[list[tuple[Measured, Measured]], tuple[list[str], list[str]]]:
    """The cells of both, by model and recipe, and the names of those that only one has; a cell that a renamed one is
    compared with is compared with no other. Raises QuantbenchError for a name to map that no cell has.
    """
    for side, names in ((base, renamed.keys()), (new, renamed.values())):
        for name in names:
            if not any(each.record.recipe == name for each in side):
                known = ", ".join(sorted({each.record.recipe for each in side}))
                raise QuantbenchError(f"--as: no cell is called {name}; those of that folder are {known}.")
    there = {(each.record.model_id, each.record.recipe): each for each in new}
    wanted = [(each, (each.record.model_id, renamed.get(each.record.recipe, each.record.recipe))) for each in base]
    by_option = {key for each, key in wanted if each.record.recipe in renamed}  # not for those of that name themselves
    pairs = {
        each.name: (each, there[key])
        for each, key in wanted
        if key in there and (each.record.recipe in renamed or key not in by_option)
    }
    sides = {each.name for each in base}, {each.name for each in new}
    taken = {other.name for _, other in pairs.values()}
    only_base = [each.name for each in base if each.name not in pairs and each.name not in sides[1]]
    only_new = [each.name for each in new if each.name not in taken and each.name not in sides[0]]
    return list(pairs.values()), (only_base, only_new)


def notes(base: Measured, new: Measured) -> list[str]:
    """What is told of two records and not judged."""
    return [told for told in (_matrices(base, new), _seconds(base, new), _versions(base.record, new.record)) if told]


def _matrices(base: Measured, new: Measured) -> str:
    """Which matrices are farther from the original's than they were."""
    names = [each.arrays.get("weights/names") for each in (base, new)]
    if names[0] is None or names[1] is None or not np.array_equal(names[0], names[1]):
        return _worst_matrix(base.record, new.record)
    before, after = (np.asarray(each.arrays["weights/snr_db"], np.float64) for each in (base, new))
    with np.errstate(invalid="ignore"):  # nothing was lost in either: ∞ − ∞
        lost = np.nan_to_num(before - after, nan=0.0)
    worse = int((lost > LESS_SNR_DB).sum())
    if not worse:
        return ""
    place = int(lost.argmax())
    most = f"{names[0][place]} {before[place]:.1f} → {after[place]:.1f} dB"
    return f"SNR: {worse} of {len(lost)} matrices are farther from the original's, most of all {most}"


def _worst_matrix(base: Record, new: Record) -> str:
    """The same of records that do not have every matrix."""
    parts = [record.weights for record in (base, new)]
    if parts[0] is None or parts[1] is None or parts[0].worst_snr_db is None or parts[1].worst_snr_db is None:
        return ""
    was, now = parts[0].worst_snr_db, parts[1].worst_snr_db
    return f"SNR: worst matrix {was:.1f} dB, now {now:.1f} ({parts[1].worst_tensor})" if was != now else ""


def _seconds(base: Measured, new: Measured) -> str:
    sizes = [each.record.compression for each in (base, new)]
    if sizes[0] is None or sizes[1] is None or sizes[0].time_sec == sizes[1].time_sec:
        return ""
    return f"compressing took {sizes[0].time_sec:.3g} s, now {sizes[1].time_sec:.3g} s"


def _versions(base: Record, new: Record) -> str:
    if base.machine is None or new.machine is None:
        return ""
    was, now = base.machine.versions, new.machine.versions
    changed = [
        f"{name} {was.get(name, '–')} → {now.get(name, '–')}"
        for name in {**was, **now}
        if was.get(name) != now.get(name)
    ]
    return f"libraries: {', '.join(changed)}" if changed else ""
