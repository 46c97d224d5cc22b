"""Results folders of several machines or sessions → one: a run that was split into shards, put together again.

What each shard says of a cell is put together as sessions' parts of one folder are (see folder): parts of the same
weights on the same machine become one record, and of a part that several have measured the newest is taken, or the one
that went on for longer on the same items. What failed in one stays failed. The order in which folders are given does
not matter.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pytest_quantbench.errors import ComparisonError, DiskError, RecordError
from pytest_quantbench.record import folder, pairing
from pytest_quantbench.record.schema import Record, read

PIN = 12  # characters of a hash that are shown


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """One record of one folder, with its raw samples."""

    path: Path
    record: Record
    arrays: dict[str, Any]

    @property
    def age(self) -> tuple[str, str]:
        """By which the newest is found; of the same second by the content, so that it is the same one every time."""
        return self.record.timestamp, self.record.raw_sha256 or ""


@dataclass(slots=True, kw_only=True)
class Merged:
    """What was written, what is told of it, and what could not be taken."""

    written: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)


def merge(directories: Sequence[Path], output: Path) -> Merged:
    """Write the records of all folders and their samples to `output`, which has none yet.

    Raises DiskError for a folder without records and an output that has some, ComparisonError for a cell of which two
    folders have different weights; nothing is written then.
    """
    found = Merged()
    if any(output.glob("*.json")):
        raise DiskError(f"{output} holds records already. Give --output a new folder.")
    cells: dict[str, list[Shard]] = {}
    for directory in dict.fromkeys(each.resolve() for each in directories):
        for shard in _shards(directory, found):
            cells.setdefault(shard.record.file_stem, []).append(shard)
    if not cells:
        reasons = " ".join(each if each.endswith(".") else f"{each}." for each in found.lost)
        raise DiskError(f"Nothing of {', '.join(map(str, directories))} can be taken. {reasons}")
    for shards in cells.values():
        _refuse_other_weights(shards)
    for stem in sorted(cells):
        record, arrays = _together(cells[stem], found)
        found.written.append(folder.save(record, arrays, output))
    return found


def _shards(directory: Path, found: Merged) -> list[Shard]:
    """The records of one folder that can be read with their samples; the others are lost, which is said."""
    paths = [path for path in sorted(directory.glob("*.json")) if path.name != folder.COMBINED]
    if not paths:
        raise DiskError(f"{directory} holds no records. Give folders that `quantbench run --results DIR` wrote.")
    shards = []
    for path in paths:
        try:
            record = read(path)
        except RecordError as error:
            found.lost.append(str(error))
            continue
        arrays = folder.whole_arrays(record, directory)
        if arrays is None:
            found.lost.append(f"{path.with_suffix('.npz')} is not there, or not what {path.name} was written with.")
            continue
        shards.append(Shard(path=path, record=record, arrays=arrays))
    return shards


# What tells the weights of two records apart: in words, and where it stands.
COMPRESSED = "compressed weights"
SAME: tuple[tuple[str, Callable[[Record], str | None]], ...] = (
    ("originals", lambda record: record.source_sha256),
    (COMPRESSED, lambda record: record.compression.artifact if record.compression else None),
    ("evaluated weights", lambda record: record.weights_sha256),
    ("seeds", lambda record: str(record.seed)),
)


def _refuse_other_weights(shards: Sequence[Shard]) -> None:
    """Raise ComparisonError where two shards of a cell are not of the same weights and the same draws."""
    for what, of in SAME:
        values = {value: shard for shard in shards if (value := of(shard.record)) is not None}
        if len(values) > 1:
            (one, first), (other, second), *_ = sorted(values.items())
            made = _made_by(first.record, second.record) if what == COMPRESSED else ""
            raise ComparisonError(
                f"{first.path} and {second.path} are of different {what} ({one[:PIN]} and {other[:PIN]}){made}. Merge "
                f"the runs of one of them."
            )


def _made_by(one: Record, other: Record) -> str:
    """Which engines made the compressed weights of two records, where they are not one: each makes its own."""
    if one.machine is None or other.machine is None or not pairing.other_engine(one, other):
        return ""
    return f", made by {pairing.engine_of(one.machine)} and by {pairing.engine_of(other.machine)}"


def _together(shards: Sequence[Shard], found: Merged) -> tuple[Record, dict[str, Any]]:
    """One record of all shards of a cell, the newest first; what was measured twice is said."""
    newest, *others = sorted(shards, key=lambda shard: shard.age, reverse=True)
    record, arrays = newest.record, dict(newest.arrays)
    for other in others:
        own, theirs = _parts(record), _parts(other.record)
        if not folder.is_same_cell(other.record, record):
            told = f"{other.path} {_otherness(other.record, record)} than {newest.path}, which is newer and was taken"
            (found.lost if theirs - own else found.notes).append(f"{told}{_only(theirs - own)}.")
        else:
            before = record
            record, arrays = folder.completed_by(record, arrays, other.record, other.arrays, is_shard=True)
            found.notes += _twice(newest.path.stem, before, other.record, record)
        found.lost += _forgotten(other, record)
    return record, arrays


def _otherness(one: Record, other: Record) -> str:
    """In what a record that is not put together with another one differs from it."""
    machines = one.machine, other.machine
    if machines[0] is None or machines[1] is None:
        return "does not say, or is alone to say, what it ran on"
    if pairing.other_engine(one, other):
        return f"was measured by another engine ({pairing.engine_of(machines[0])})"
    if replace(machines[0], versions=machines[1].versions) != machines[1]:
        return "was measured on another machine"
    if machines[0] != machines[1]:
        names = {**machines[0].versions, **machines[1].versions}
        changed = [name for name in names if machines[0].versions.get(name) != machines[1].versions.get(name)]
        return f"was measured with other versions ({', '.join(changed)})"
    return "has another record of what was compressed"


def _twice(stem: str, newest: Record, other: Record, merged: Record) -> list[str]:
    """Which parts both have, and which of them was taken."""
    told = []
    both = sorted(_parts(newest) & _parts(other))
    longer = [part for part in both if getattr(merged, part) is not getattr(newest, part)]
    for parts, which in (([part for part in both if part not in longer], "newest"), (longer, "longest")):
        if parts:
            told.append(f"{stem}: {', '.join(parts)} measured more than once; the {which} was taken.")
    return told


def _forgotten(shard: Shard, merged: Record) -> list[str]:
    """What failed in a shard and does not stand as failed in the merged record."""
    failed = {each.criterion for each in merged.verdicts if each.outcome == "fail"}
    return [
        f"{shard.path}: what failed there was judged otherwise later, and is not in the merged record: {each.sentence}"
        for each in shard.record.verdicts
        if each.outcome == "fail" and each.criterion not in failed
    ]


def _parts(record: Record) -> set[str]:
    return {part for part in folder.PARTS if getattr(record, part) is not None}


def _only(parts: set[str]) -> str:
    return f"; its {', '.join(sorted(parts))} is lost" if parts else ""
