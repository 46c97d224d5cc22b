"""A cell's samples and verdicts → its record, and the raw samples beside it. Computes no figure itself."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pytest_quantbench.bench.shared_walk import T2, T3
from pytest_quantbench.engines.machine import describe
from pytest_quantbench.judge import coherence
from pytest_quantbench.record import summary, text_summary
from pytest_quantbench.record.schema import SCHEMA, Record

if TYPE_CHECKING:
    from pytest_quantbench.bench.cell import Cell

T1 = "throughput_samples"
SESSION = os.environ.get("PYTEST_XDIST_TESTRUNUID") or uuid.uuid4().hex  # xdist's name for a run, or one of our own
RAW: Mapping[str, Callable[[Any], dict[str, Any]]] = {
    T1: summary.raw_throughput,
    T2: text_summary.raw_perplexity,
    T3: summary.raw_accuracy,
}


def summarize(cell: Cell) -> Record:
    """What this session measured of a cell. Parts that it was not asked for are null."""
    subject, checkpoint = cell.subject, cell.subject.checkpoint
    return Record(
        schema=SCHEMA,
        model_id=subject.model.name,
        bits=cell.recipe.bits,
        timestamp=datetime.now(UTC).isoformat(timespec="seconds"),
        recipe=cell.recipe.id,
        level=cell.recipe.level,
        source="embedded" if subject.model.name == "Tiny" else subject.model.source,
        revision=checkpoint.revision,
        source_sha256=checkpoint.sha256,
        weights_sha256=cell.weights_sha256(),
        seed=subject.settings.seed,
        compression=summary.compression(cell.artifact.manifest, _calibration_perplexity(cell)),
        verdicts=tuple(cell.verdicts.values()),
        machine=describe(subject.engine),
        session=SESSION,
        **_measured(cell),
    )


def raw(cell: Cell) -> dict[str, Any]:
    """The raw samples that this session measured, as named arrays: `part/name`."""
    arrays: dict[str, Any] = {}
    for name, arrays_of in RAW.items():
        arrays |= arrays_of(getattr(cell, name)) if cell.taken(name) else {}
    return arrays


def _measured(cell: Cell) -> dict[str, Any]:
    """The record's parts of what was measured, by name."""
    reference, alone = cell.reference, cell.is_reference
    found: dict[str, Any] = {}
    if cell.taken(T1):
        compared = None if alone else reference.throughput_samples
        found["throughput"] = summary.throughput(cell.throughput_samples, compared)
    if cell.taken(T2) and cell.source.readable(reference.perplexity_samples):
        scored = len(cell.perplexity_samples.nll_nats)
        tokens = None if alone else reference.perplexity_samples.first(scored)
        found["perplexity"] = text_summary.perplexity(cell.perplexity_samples, tokens)
        found["perplexities"] = text_summary.perplexities(cell.perplexity_samples, tokens)
    if cell.taken(T3):
        answers = None if alone else reference.accuracy_samples.as_far_as(cell.accuracy_samples)
        found["accuracy"] = summary.accuracy(cell.accuracy_samples, answers)
    if cell.taken("weight_samples"):
        found["weights"] = summary.weights(cell.weight_samples)
    if cell.taken("integrity"):
        found["integrity"] = cell.integrity.problems
    if cell.taken("floor"):
        found["noise_floor"] = cell.floor.figures()
    if any(cell.taken(name) for name in RAW):
        found["tokenizer"] = cell.subject.around_texts
    if cell.taken(T1) or cell.taken(T3):
        found["coherence"] = _coherence(cell)
    return found


def _calibration_perplexity(cell: Cell) -> float | None:
    return cell.calibration_perplexity if cell.taken("calibration_perplexity") else None


def _coherence(cell: Cell) -> coherence.Coherence:
    """Whether the model still makes sense, as far as T1 and T3 were measured."""
    mine, before = ([getattr(c, n) if c.taken(n) else None for n in (T1, T3)] for c in (cell, cell.reference))
    return coherence.of(*mine, *before)
