"""A cell's samples by the measure's name → its record. Each part is summarized in its own module; judges nothing."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from pytest_quantbench.catalog.models import Model
from pytest_quantbench.catalog.recipes import Recipe
from pytest_quantbench.checkpoints.checkpoint import Checkpoint
from pytest_quantbench.compress.candidate_facts import CandidateFacts
from pytest_quantbench.compress.manifest import Manifest
from pytest_quantbench.engines.accelerator import Accelerator
from pytest_quantbench.engines.machine import Machine
from pytest_quantbench.errors import ComparisonError
from pytest_quantbench.judge import coherence
from pytest_quantbench.judge.verdict import Verdict
from pytest_quantbench.record import (
    cache_summary,
    load_summary,
    perplexity_summary,
    retrieval_summary,
    runtime_summary,
    summary,
    sweep_summary,
    throughput_summary,
)
from pytest_quantbench.record.candidate_schema import candidate_file
from pytest_quantbench.record.publication import facts, recipe_parameters
from pytest_quantbench.record.schema import SCHEMA, NoiseFloor, Record

TESTS = ("throughput", "perplexity", "accuracy", "retrieval")  # they let the model read or write


def summarize(
    model: Model,
    recipe: Recipe,
    checkpoint: Checkpoint,
    manifest: Manifest,
    *,
    samples: Mapping[str, Any],
    reference: Mapping[str, Any] | None,
    verdicts: tuple[Verdict, ...],
    weights_sha256: str | None,
    calibration_ppl: float | None,
    noise_floor: NoiseFloor | None,
    around_texts: Callable[[], dict[str, tuple[str, ...]]],
    machine: Machine,
    accelerator: Accelerator | None,
    seed: int,
    session: str,
    candidate: CandidateFacts | None = None,
    command: str = "",
) -> Record:
    """What was measured of a cell, beside the `reference` that it is compared with; None: it is the reference. Parts
    that were not measured are null. The `accelerator` as it is now, unless T1 asked while it was at work.
    """
    timed = samples.get("throughput")
    return Record(
        schema=SCHEMA,
        model_id=model.name,
        bits=recipe.bits,
        timestamp=datetime.now(UTC).isoformat(timespec="seconds"),
        recipe=recipe.id,
        level=recipe.level,
        source="embedded" if model.name == "Tiny" else model.source,
        revision=checkpoint.revision,
        source_sha256=checkpoint.sha256,
        weights_sha256=weights_sha256,
        seed=seed,
        candidate=candidate_file(candidate),
        compression=summary.compression(manifest, calibration_ppl),
        verdicts=verdicts,
        machine=machine,
        accelerator=(timed and timed.accelerator) or accelerator,
        facts=facts(checkpoint.config, manifest),
        recipe_parameters=recipe_parameters(recipe),
        session=session,
        commands=(command,) if command else (),
        noise_floor=noise_floor if reference is None else None,
        tokenizer=around_texts() if any(name in samples for name in TESTS) else None,
        **(parts := _parts(samples, reference)),
        cache=cache_summary.cache(recipe, samples.get("perplexity"), parts.get("perplexity"), noise_floor),
        retrieval=retrieval_summary.retrieval(samples.get("retrieval"), (reference or {}).get("retrieval"), verdicts),
    )


def _parts(samples: Mapping[str, Any], reference: Mapping[str, Any] | None) -> dict[str, Any]:
    """The record's parts of what was measured, by name."""
    other, found = reference or {}, dict[str, Any]()
    if (runs := samples.get("throughput")) is not None:
        found["throughput"] = throughput_summary.throughput(runs, other.get("throughput"))
    if (swept := samples.get("sweep")) is not None:
        found["sweep"] = sweep_summary.sweep(swept, other.get("sweep"))
    if (losses := samples.get("perplexity")) is not None:
        paired = None if (before := other.get("perplexity")) is None else before.first(len(losses.nll_nats))
        found["perplexity"] = perplexity_summary.perplexity(losses, paired)
        found["perplexities"] = perplexity_summary.perplexities(losses, paired)
    if (ran := samples.get("runtime")) is not None and losses is not None and "perplexity" in other:
        found["runtime"] = runtime_summary.runtime(ran, losses, other["perplexity"])
    if (loaded := samples.get("load")) is not None:
        found["load"] = load_summary.load(loaded)
    if (answers := samples.get("accuracy")) is not None:
        known = None if (before := other.get("accuracy")) is None else before.as_far_as(answers)
        found["accuracy"] = summary.accuracy(answers, known)
    if (errors := samples.get("weights")) is not None:
        found["weights"] = summary.weights(errors)
    if (looked_at := samples.get("integrity")) is not None:
        found["integrity"] = looked_at.problems
        found["integrity_notes"] = looked_at.notes
    if runs is not None or answers is not None:
        compared = samples if reference is None else reference
        before = compared.get("throughput"), compared.get("accuracy")
        found["coherence"] = coherence.of(runs, answers, *before)
    return found


def evaluated_weights(cell: str, samples: Mapping[str, Any]) -> str | None:
    """Hash of the decoded weights that were evaluated. Raises ComparisonError if T2 and T3 saw different ones."""
    hashes = {samples[name].weights_sha256 for name in ("perplexity", "accuracy", "retrieval") if name in samples}
    if len(hashes) > 1:
        raise ComparisonError(f"{cell}: T2 and T3 evaluated different weights ({sorted(hashes)}).")
    return next(iter(hashes), None)
