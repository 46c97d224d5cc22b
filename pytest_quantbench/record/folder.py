"""The results folder: a JSON and an npz per cell, combined.json. Written all or nothing, and never emptied."""

import hashlib
import io
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from pytest_quantbench import measures
from pytest_quantbench.catalog.criteria import METRICS
from pytest_quantbench.catalog.models import MODELS
from pytest_quantbench.catalog.recipes import LEVEL_NAMES
from pytest_quantbench.errors import DiskError, RecordError
from pytest_quantbench.judge.verdict import Verdict
from pytest_quantbench.record.cost import priced_again
from pytest_quantbench.record.raw import texts_of
from pytest_quantbench.record.schema import SCHEMA, Record, read
from pytest_quantbench.storage.files import write_atomically
from pytest_quantbench.storage.locks import held_folder
from pytest_quantbench.storage.sealed_json import sealed

T = TypeVar("T")
log = logging.getLogger(__name__)
PARTS = tuple(name for name in measures.names() if name in {each.name for each in fields(Record)})  # what is measured
COMBINED = "combined.json"


def check_writable(directory: Path) -> None:
    """Raise DiskError now rather than after hours of measuring if the folder cannot be written."""
    probe = directory / ".writable"
    write_atomically(probe, b"")
    probe.unlink()


def save(record: Record, arrays: Mapping[str, Any], directory: Path) -> Path:
    """Write a cell's record and raw samples; returns the JSON's path.

    A part that this run did not measure is kept from the record that is there, if that is of the same weights on the
    same machine: measuring T2 again does not lose yesterday's T3. Workers of one session may each measure a part of a
    cell: one at a time writes. Raises DiskError where the folder cannot be written.
    """
    path, raw_path = directory / f"{record.file_stem}.json", directory / f"{record.file_stem}.npz"
    with held_folder(directory):
        old = _readable(path)
        record, arrays = completed_by(record, dict(arrays), old, _readable_arrays(raw_path, old))
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)
        raw = buffer.getvalue()
        write_atomically(raw_path, raw)
        write_atomically(path, sealed(replace(record, raw_sha256=hashlib.sha256(raw).hexdigest())))
    return path


def completed_by(
    record: Record,
    arrays: dict[str, Any],
    old: Record | None,
    old_arrays: Mapping[str, Any] | None,
    *,
    is_shard: bool = False,
) -> tuple[Record, dict[str, Any]]:
    """The record and its samples with what another session or worker has measured of the same cell. `is_shard`: the
    other is a part of the same run, whose verdicts all last.
    """
    if old is not None and old_arrays is not None and is_same_cell(old, record):
        same_session = old.session is not None and old.session == record.session
        together = same_session or is_shard
        grown = [part for part in PARTS if together and _holds_more(part, record, arrays, old, old_arrays)]
        lacking = [part for part in PARTS if getattr(record, part) is None and getattr(old, part) is not None]
        kept = [*lacking, *grown]
        arrays = {name: array for name, array in arrays.items() if _part(name) not in grown}
        # a verdict on samples that were measured anew would be of others, unless they are the same again
        still = {*kept, "size", *(part for part in PARTS if _same_part(part, record, arrays, old, old_arrays))}
        verdicts = _verdicts(record, old, still, same_session=same_session, is_shard=is_shard)
        record = replace(
            record,
            **{part: getattr(old, part) for part in kept},
            integrity_notes=old.integrity_notes if "integrity" in kept else record.integrity_notes,
            perplexities=old.perplexities if "perplexity" in kept else record.perplexities,
            cache=old.cache if "perplexity" in kept else record.cache,  # what it takes was seen along T2's walk
            noise_floor=_completed(record.noise_floor, old.noise_floor),
            coherence=_completed(record.coherence, old.coherence),
            compression=_completed(record.compression, old.compression),
            tokenizer=record.tokenizer or old.tokenizer,
            verdicts=verdicts,
            commands=_commands(old, record) if kept else record.commands,
            accelerator=("throughput" in kept and old.accelerator) or record.accelerator,
            cost=record.cost or (old.cost if "throughput" in kept else None),
            weights_sha256=record.weights_sha256 or old.weights_sha256,
        )
        measured = {_part(name) for name in arrays} | (set(PARTS) - set(kept))
        arrays = {name: array for name, array in old_arrays.items() if _part(name) not in measured} | arrays
    return replace(priced_again(record, arrays), verdicts=tuple(sorted(record.verdicts, key=_place))), arrays


def _commands(old: Record, new: Record) -> tuple[str, ...]:
    """Those of both, the newer ones last: parts of either are in the record."""
    return (*(command for command in old.commands if command not in new.commands), *new.commands)


def _verdicts(
    record: Record, old: Record, still: Collection[str], *, same_session: bool, is_shard: bool
) -> tuple[Verdict, ...]:
    """The record's verdicts with those of the old one by other criteria, as far as they still hold: of checks whose
    samples are those of then, or of this very session, where another worker judged the cell by another test. What
    failed once in a session, or in a shard, stays failed.
    """
    together = same_session or is_shard
    failed = {(each.criterion, each.limit) for each in old.verdicts if together and each.outcome == "fail"}
    mine = [verdict for verdict in record.verdicts if (verdict.criterion, verdict.limit) not in failed]
    now = {verdict.criterion for verdict in mine}
    # one by a test's own limit, or against a baseline, lasts as long as the session that had it
    lasts = is_shard or old.session == record.session
    lasting = [v if lasts else replace(v, baseline=()) for v in old.verdicts if lasts or not v.given]
    stays = {"fail"} if is_shard else set[str]()
    holding = [v for v in lasting if same_session or v.outcome in stays or METRICS[v.metric].measure in still]
    others = [each for each in holding if each.criterion not in now]
    return (*others, *mine)


def _part(array: str) -> str:
    """The measure that an array is of, which the record itself need not have a part of."""
    return array.partition("/")[0]


def _place(verdict: Verdict) -> tuple[int, str, bool, float]:
    """Where a verdict stands in a record: the cell's own criterion first, then those of tests by their limits."""
    return list(METRICS).index(verdict.metric), verdict.of, verdict.given, verdict.limit or 0.0


def _same_part(
    part: str, record: Record, arrays: Mapping[str, Any], old: Record, old_arrays: Mapping[str, Any]
) -> bool:
    """Whether a part was measured twice and gave the same, to the last sample."""
    if getattr(record, part) is None or getattr(record, part) != getattr(old, part):
        return False
    mine, others = ({n: a for n, a in each.items() if n.startswith(f"{part}/")} for each in (arrays, old_arrays))
    return mine.keys() == others.keys() and all(np.array_equal(mine[name], others[name]) for name in mine)


def _holds_more(
    part: str, record: Record, arrays: Mapping[str, Any], old: Record, old_arrays: Mapping[str, Any]
) -> bool:
    """Whether the old samples of a part are these with more behind them: another worker's check went on for longer."""
    if getattr(record, part) is None or getattr(old, part) is None:
        return False
    mine, others = ({n: a for n, a in each.items() if _part(n) == part} for each in (arrays, old_arrays))
    pairs = [(_items(array), _items(others[name])) for name, array in mine.items() if name in others]
    begins = len(pairs) == len(mine) and all(items == longer[: len(items)] for items, longer in pairs)
    return bool(mine) and begins and any(len(longer) > len(items) for items, longer in pairs)


def _items(array: NDArray[Any]) -> list[Any]:
    """An array's items, one of a single number, and texts one by one."""
    return texts_of(np.atleast_1d(array))


def _completed(new: T | None, old: T | None) -> T | None:
    """The new figures, and the old ones where there are no new ones."""
    if new is None or old is None:
        return new or old
    missing = [each.name for each in fields(new) if getattr(new, each.name) is None]  # type: ignore[arg-type]
    return replace(new, **{name: getattr(old, name) for name in missing})  # type: ignore[type-var]


def _readable(path: Path) -> Record | None:
    try:
        return read(path) if path.is_file() else None
    except RecordError:
        return None  # damaged or of another schema: it is replaced


def is_same_cell(old: Record, new: Record) -> bool:
    """Whether two records are of the same weights on the same machine, so that each may have parts of one."""
    hashes = {old.weights_sha256, new.weights_sha256} - {None}
    same = ("source_sha256", "recipe", "seed", "machine")
    artifacts = [record.compression and record.compression.artifact for record in (old, new)]
    return len(hashes) <= 1 and artifacts[0] == artifacts[1] and all(getattr(old, n) == getattr(new, n) for n in same)


def _readable_arrays(path: Path, record: Record | None) -> dict[str, Any] | None:
    """The raw samples of a record; None where there are none, or they are not those that it was written with."""
    raw = path.read_bytes() if record is not None and path.is_file() else b""
    if record is None or hashlib.sha256(raw).hexdigest() != record.raw_sha256:
        return None  # what it held is lost, and measured again
    with np.load(io.BytesIO(raw), allow_pickle=False) as old:
        return {name: old[name] for name in old.files}


def read_all(directory: Path | str) -> list[Record]:
    """Every record of a folder, in the catalogue's order, then by level and recipe.

    A file that is no record, or of another schema, is left out with a warning in the log. Raises DiskError where there
    is no such folder or no record in it.
    """
    found = []
    for path in sorted(Path(directory).glob("*.json")):
        if path.name == COMBINED:
            continue
        try:
            found.append(read(path))
        except RecordError as error:
            log.warning("Left out: %s", error)
    if not found:
        raise DiskError(f"{directory} holds no records. Run `quantbench run -k Tiny --results {directory}` first.")
    return in_order(found)


def read_arrays(record: Record, directory: Path | str) -> dict[str, Any]:
    """The raw samples of a record by `part/name`; empty where there are none, or they are not those that it was written
    with.
    """
    return whole_arrays(record, directory) or {}


def whole_arrays(record: Record, directory: Path | str) -> dict[str, Any] | None:
    """The same; None where they are not there, or not those that it was written with."""
    return _readable_arrays(Path(directory) / f"{record.file_stem}.npz", record)


def in_order(records: Sequence[Record]) -> list[Record]:
    """Records sorted as the catalogue has the models and levels."""
    models, levels = list(MODELS), LEVEL_NAMES

    def place(record: Record) -> tuple[int, str, int, str]:
        known = models.index(record.model_id) if record.model_id in models else len(models)
        level = levels.index(record.level) if record.level in levels else len(levels)
        return known, record.model_id, level, record.recipe

    return sorted(records, key=place)


def write_combined(records: Sequence[Record], directory: Path) -> Path:
    """combined.json: the schema number and all records."""
    path = directory / COMBINED
    write_atomically(path, sealed({"schema": SCHEMA, "records": msgspec.to_builtins(in_order(records))}))
    return path
