"""Cells and their records, on small random models and on Tiny."""

import dataclasses

import numpy as np
import pytest

from pytest_quantbench import bench, quantizers
from pytest_quantbench.catalog import MODELS, Model
from pytest_quantbench.errors import ComparisonError, CorpusError
from pytest_quantbench.recipes import recipe
from pytest_quantbench.settings import Settings, user_model


@pytest.fixture
def subject(small_model, tmp_path):
    """A random Llama on Tiny's text and tasks."""
    model = dataclasses.replace(
        user_model(str(small_model())), corpus="tiny-heldout", tasks=("tiny_facts", "tiny_endings")
    )
    return bench.Subject(model, Settings(cache=tmp_path / "cache", limit=10, tokens=128, runs=1))


def cell_of(subject, recipe_id):
    return subject.cell(recipe(recipe_id, quantizers.names()))


def test_the_reference_is_measured_once_for_all_recipes(subject, monkeypatch):
    calls = []
    original = bench.perplexity.measure
    monkeypatch.setattr(bench.perplexity, "measure", lambda *a, **k: calls.append(a[0]) or original(*a, **k))
    for name in ("int4-rtn", "int3-rtn"):
        cell_of(subject, name).judge("perplexity")
    assert [artifact.manifest.recipe for artifact in calls] == ["int4-rtn", "bf16", "int3-rtn"]


def test_a_record_holds_what_was_measured_and_null_for_the_rest(subject):
    cell = cell_of(subject, "int4-rtn")
    cell.judge("size")
    cell.judge("perplexity")
    record = cell.record()
    assert record.file_stem == "llama-0-0_4bit_rtn"
    assert record.perplexity.delta == pytest.approx(record.perplexity.ppl - record.perplexity.bf16_ppl)
    assert (record.accuracy, record.throughput, record.weights) == (None, None, None)
    assert [verdict.metric for verdict in record.verdicts] == ["size_reduction_percent", "perplexity_delta"]
    assert record.compression.quantized_fraction > 0.99
    assert record.weights_sha256 != subject.reference.record().weights_sha256
    assert set(cell.raw()) == {"perplexity/nll_nats"}


def test_accuracy_has_every_task_and_judges_the_first(subject):
    cell = cell_of(subject, "int2")
    assert cell.judge("accuracy").outcome == "informational"
    part = cell.record().accuracy
    assert list(part.tasks) == ["tiny_facts", "tiny_endings"]
    assert part.combined == pytest.approx(np.mean([task.accuracy for task in part.tasks.values()]))
    assert (part.arc_easy, part.chat_template) == (None, False)
    task = part.tasks["tiny_facts"]
    assert (task.questions, task.chance) == (10, 0.25)
    drop = 100 * (task.right_to_wrong - task.wrong_to_right) / 10
    assert task.drop_points.estimate == pytest.approx(drop)
    assert task.drop_points.low < drop < task.drop_points.high


def test_the_reference_has_figures_and_no_delta(subject):
    reference = subject.reference
    assert reference.judge("perplexity").outcome == "informational"
    part = reference.record().perplexity
    assert (part.bf16_ppl, part.delta, part.delta_interval) == (None, None, None)


def test_throughput_counts_runs_and_pairs_prompts(subject, monkeypatch):
    monkeypatch.setattr(bench, "NEW_TOKENS", 8)
    cell = cell_of(subject, "int4-rtn")
    verdict = cell.judge("throughput")
    part = cell.record().throughput
    assert part.runs == 5
    assert 0 < part.p95_tps <= part.mean_tps
    assert part.ratio.low < verdict.estimate < part.ratio.high
    assert cell.figures("throughput")["runs"] == 5
    raw = cell.raw()
    assert raw["throughput/latencies_seconds"].shape == (5, 7)
    assert sorted(raw["throughput/prompt"]) == [0, 1, 2, 3, 4]


def test_different_weights_in_t2_and_t3_are_an_error(subject):
    cell = cell_of(subject, "int4-rtn")
    cell.judge("perplexity")
    cell.judge("accuracy")
    cell.__dict__["accuracy_samples"] = dataclasses.replace(cell.accuracy_samples, weights_sha256="other")
    with pytest.raises(ComparisonError, match="evaluated different weights"):
        cell.record()


def test_weights_say_what_was_lost(subject):
    cell = cell_of(subject, "int3-rtn")
    assert len(cell.weight_samples.tensors) == 3 * 7 + 2
    part = cell.record().weights
    assert part.worst_snr_db <= part.median_snr_db
    assert 0.9 < part.mean_cosine < 1
    assert subject.reference.record().weights is None
    _ = subject.reference.weight_samples
    assert subject.reference.record().weights.median_snr_db is None


def test_criteria_may_be_overridden_per_cell(subject):
    cell = cell_of(subject, "int4-rtn")
    assert cell.limit("perplexity_delta") == 1.0
    subject.settings = dataclasses.replace(
        subject.settings, criteria={"llama-0-0-int4-rtn": {"perplexity_delta": 0.25}}
    )
    assert cell.limit("perplexity_delta") == 0.25


def test_a_corpus_that_is_too_short_is_an_error_of_this_cell(subject, tmp_path):
    (tmp_path / "short.txt").write_text("too short")
    subject.settings = dataclasses.replace(subject.settings, corpus=tmp_path / "short.txt")
    with pytest.raises(CorpusError, match=r"short\.txt has \d+ tokens"):
        cell_of(subject, "int4-rtn").judge("perplexity")


def test_the_catalogue_has_the_ten_models_and_tiny():
    assert len(MODELS) == 11
    hub = [model for model in MODELS.values() if model.name != "Tiny"]
    assert sum(model.gated for model in hub) == 3
    assert all(model.bf16_gb and model.parameters for model in hub)
    for model in hub:  # two bytes per parameter
        assert model.bf16_gb * 1e9 == pytest.approx(2 * model.parameters, rel=0.01)
    assert isinstance(MODELS["Tiny"], Model)
