"""Cells and their records, on small random models and on Tiny."""

import dataclasses
import json

import mlx.core as mx
import numpy as np
import pytest
from mlx_models import as_mlx

from pytest_quantbench import quantizers
from pytest_quantbench.bench.artifacts import Artifacts
from pytest_quantbench.bench.subject import Subject
from pytest_quantbench.catalog.candidates import Candidate
from pytest_quantbench.catalog.criteria import Overrides
from pytest_quantbench.catalog.models import MODELS, TINY_DIRECTORY, Model, user_model
from pytest_quantbench.catalog.recipes import recipe_of_candidate
from pytest_quantbench.catalog.settings import Settings
from pytest_quantbench.compress.artifact import Artifact
from pytest_quantbench.engines.protocol import Rounded
from pytest_quantbench.errors import ComparisonError, CorpusError, ModelError
from pytest_quantbench.measures import throughput_session
from pytest_quantbench.measures.accuracy.measure import ACCURACY
from pytest_quantbench.measures.perplexity.measure import PERPLEXITY

pytestmark = pytest.mark.usefixtures("judged_unread")


@pytest.fixture
def subject(small_model, tmp_path):
    """A random Llama on Tiny's text and tasks."""
    model = dataclasses.replace(
        user_model(str(small_model())), corpus="tiny-heldout", tasks=("tiny_facts", "tiny_endings")
    )
    return Subject(model, Settings(cache=tmp_path / "cache", limit=10, tokens=128, runs=1, new_tokens=8))


def cell_of(subject, recipe_id):
    return subject.cell(recipe_id)


def put(cell, measure, samples):
    """Samples that nobody has measured."""
    cell.schedule.samples.put(cell.target, measure, samples)


def adjusted(subject, **changes):
    subject.inputs.settings = dataclasses.replace(subject.inputs.settings, **changes)
    return subject


def test_the_reference_is_measured_once_for_all_recipes(subject, monkeypatch):
    """And once more with rounded activations, for the noise floor."""
    calls = []
    original = subject.inputs.engine.walk

    def counted(tracks, **rest):
        plain = [(track.weights, True) if isinstance(track, Rounded) else (track, False) for track in tracks]
        # an architecture is tried in small first, on weights that are no artifact
        calls.extend((each.manifest.recipe, rounding) for each, rounding in plain if isinstance(each, Artifact))
        return original(tracks, **rest)

    monkeypatch.setattr(subject.inputs.engine, "walk", counted)
    for name in ("int4-rtn", "int3-rtn"):
        cell_of(adjusted(subject, fixed=True), name).judge("perplexity")
    assert sorted(calls) == [("bf16", False), ("bf16", True), ("int3-rtn", False), ("int4-rtn", False)]


def test_an_undecided_check_goes_on_and_the_next_recipe_finds_the_reference_there(subject):
    first = cell_of(adjusted(subject, most_tokens=512), "int4-rtn")
    after, before = (np.exp(cell.samples("perplexity").nll_nats.mean()) for cell in (first, subject.reference))
    verdict = first.judge("perplexity", float(after - before))  # the limit is where 128 tokens say that it is
    assert [look.items for look in verdict.looks] == [128, 256, 512][: len(verdict.looks)]
    assert len(verdict.looks) > 1
    assert verdict.items == len(first.samples("perplexity").nll_nats)
    second = cell_of(adjusted(subject, fixed=True), "int3-rtn")
    assert second.judge("perplexity", 1e6).looks[0].items == 128
    assert second.record().perplexity.tokens == len(second.samples("perplexity").nll_nats) == 128
    assert len(subject.reference.samples("perplexity").nll_nats) > 128


def test_questions_are_added_until_it_is_decided(subject):
    cell = cell_of(adjusted(subject, limit=40), "int4-rtn")
    verdict = cell.judge("accuracy", 1.0)
    assert [look.items for look in verdict.looks] == [40, 80, 160, 320, 600][: len(verdict.looks)]
    assert len(verdict.looks) > 1
    part = cell.record().accuracy
    assert part.tasks["tiny_facts"].questions == verdict.items
    assert part.tasks["tiny_endings"].questions == 40  # is not judged
    assert len(set(cell.samples("accuracy").tasks["tiny_facts"].ids)) == verdict.items
    drop = part.tasks["tiny_facts"].drop_points
    assert drop.estimate == pytest.approx(verdict.estimate)


def test_fixed_looks_once_and_a_spent_budget_ends_it(subject):
    once = cell_of(adjusted(subject, fixed=True), "int4-rtn").judge("accuracy", 0.0)
    assert [look.items for look in once.looks] == [10]
    late = cell_of(adjusted(subject, fixed=False, time_budget_seconds=1e-9), "int3-rtn").judge("accuracy", 0.0)
    assert [(look.items, look.last) for look in late.looks] == [(10, True)]


def test_two_widths_with_the_same_losses_are_an_error(subject):
    first, second = cell_of(adjusted(subject, fixed=True), "int4-rtn"), cell_of(subject, "int3-rtn")
    first.judge("perplexity", 1e6)
    put(second, PERPLEXITY, first.samples("perplexity"))
    with pytest.raises(ComparisonError, match=r"llama-0-0-int3-rtn and llama-0-0-int4-rtn .* bit-identical"):
        second.judge("perplexity", 1e6)


def test_a_record_that_has_grown_since_is_not_saved(subject):
    """The reference is saved when its own tests end; other cells then make it grow, and measure its noise floor."""
    reference = subject.reference
    reference.judge("perplexity")
    reference.saved()
    assert not reference.unsaved
    cell_of(adjusted(subject, most_tokens=256), "int4-rtn").judge("perplexity", 1e6)
    assert reference.unsaved
    assert reference.record().noise_floor.perplexity_points is not None
    reference.saved()
    assert not reference.unsaved


def test_judging_again_looks_from_the_start_again(subject):
    """Another limit has its own error probability, spent on the same first tokens as if nobody had looked before."""
    cell = cell_of(adjusted(subject, most_tokens=512), "int4-rtn")
    alone = cell_of(subject, "int3-rtn").judge("perplexity", 1e6)
    cell.judge("perplexity", 5.0)
    assert len(cell.samples("perplexity").nll_nats) > 128
    again = cell.judge("perplexity", 1e6)
    assert [look.items for look in again.looks] == [look.items for look in alone.looks]
    assert [look.alpha for look in again.looks] == [look.alpha for look in alone.looks]


def test_the_identity_never_passes_for_a_quantized_model(subject):
    reference = subject.reference
    cell = cell_of(adjusted(subject, fixed=True), "int4-rtn")
    put(cell, PERPLEXITY, reference.samples("perplexity"))
    with pytest.raises(ComparisonError, match="bit-identical"):
        cell.judge("perplexity", 1e6)


def test_a_limit_below_the_noise_floor_is_refused(subject):
    cell = cell_of(subject, "int4-rtn")
    cell.judge("perplexity", 1e6)
    floor = subject.reference.record().noise_floor.perplexity_points
    assert floor > 0
    with pytest.raises(ComparisonError, match="tighter than the noise floor"):
        cell.judge("perplexity", floor / 2)
    noise = subject.reference.record().noise_floor
    assert (noise.perplexity_points, noise.flipped_points) == (floor, None)


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
    fidelity = {f"perplexity/{name}" for name in ("kl_nats", "error_nats", "same_top", "likeliest")}
    names = ("nll_nats", "depths", "window_begins", "window_counts")
    own = {f"perplexity/{name}" for name in names} | fidelity
    beside = {name.replace("perplexity/", "perplexity/(head)/") for name in own if "window" not in name}
    assert set(cell.raw()) == own | beside
    divergence = record.perplexity.divergence
    assert 0 < divergence.kl_nats < divergence.kl_percentiles["99.9"]
    assert divergence.same_top.low < divergence.same_top.estimate == cell.raw()["perplexity/same_top"].mean()
    assert subject.reference.record().perplexity.divergence is None
    assert subject.reference.record().noise_floor.kl_nats < divergence.kl_nats


def test_accuracy_has_every_task_and_judges_the_first(subject):
    cell = cell_of(subject, "int2-rtn")
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


def quiet(monkeypatch, speed):
    """A machine of this speed that does nothing else, whatever else runs here."""
    monkeypatch.setattr(throughput_session.Session, "_probe", lambda self: speed)
    monkeypatch.setattr(throughput_session.Session, "_reading", lambda self, model: 1e10)
    monkeypatch.setattr(throughput_session, "observed", lambda once, engine, meter: once())


def test_throughput_counts_runs_and_pairs_prompts(subject, monkeypatch):
    quiet(monkeypatch, 100.0)
    cell = cell_of(subject, "int4-rtn")
    verdict = cell.judge("throughput")
    part = cell.record().throughput
    assert (part.runs, part.total_runs) == (1, 5)
    assert 0 < part.p95_tps <= part.mean_tps
    assert part.ratio.low < verdict.estimate < part.ratio.high
    assert cell.figures("throughput")["total_runs"] == 5
    raw = cell.raw()
    assert raw["throughput/latencies_seconds"].shape == (5, 7)
    assert sorted(raw["throughput/prompt"]) == [0, 1, 2, 3, 4]


def test_runs_that_nobody_judges_stand_beside_the_references(subject, monkeypatch):
    quiet(monkeypatch, 100.0)
    cell = cell_of(subject, "int4-rtn")
    runs = cell.samples("throughput")
    part = cell.record().throughput
    assert part.mean_tps == pytest.approx(np.mean([run.tokens_per_second for run in runs.runs]))
    assert part.ratio.low < part.ratio.estimate < part.ratio.high


def test_runs_beside_which_the_machine_changed_its_speed_have_no_ratio(subject, monkeypatch):
    """The reference's may be of another day: kept samples have their probes with them."""
    quiet(monkeypatch, 100.0)
    _ = subject.reference.samples("throughput")
    quiet(monkeypatch, 60.0)
    later = Subject(subject.model, subject.inputs.settings)
    cell = cell_of(later, "int4-rtn")
    verdict = cell.judge("throughput")
    assert later.reused == [f"T1 of {subject.model.name}-bf16"]
    told = "the machine's own speed changed by -40% from the reference's runs to its own"
    assert told in verdict.sentence
    part = cell.record().throughput
    assert (part.ratio, part.ratio_suppressed) == (None, told)
    assert (part.probe_drift, part.reference_probe_drift, part.probe_change) == (0.0, 0.0, pytest.approx(-0.4))


def test_runs_of_an_earlier_session_are_taken_and_the_model_is_not_loaded(subject, monkeypatch):
    before = cell_of(subject, "int4-rtn").samples("throughput")
    started = []
    monkeypatch.setattr(throughput_session.Session, "start", lambda self: started.append(self))
    later = Subject(subject.model, dataclasses.replace(subject.inputs.settings, fresh=False))
    after = cell_of(later, "int4-rtn").samples("throughput")
    assert [run.tokens for run in after.runs] == [run.tokens for run in before.runs]
    assert later.reused == [f"T1 of {subject.model.name}-{name}" for name in ("int4-rtn", "bf16")]
    assert (cell_of(later, "int4-rtn").throughput_session, started) == (None, [])
    for changes in ({"runs": 2}, {"fresh": True}):
        settings = dataclasses.replace(later.inputs.settings, **changes)
        assert cell_of(Subject(subject.model, settings), "int4-rtn").throughput_session is not None


def test_different_weights_in_t2_and_t3_are_an_error(subject):
    cell = cell_of(subject, "int4-rtn")
    cell.judge("perplexity")
    cell.judge("accuracy")
    put(cell, ACCURACY, dataclasses.replace(cell.samples("accuracy"), weights_sha256="other"))
    with pytest.raises(ComparisonError, match="evaluated different weights"):
        cell.record()


def test_weights_say_what_was_lost(subject):
    cell = cell_of(subject, "int3-rtn")
    assert len(cell.samples("weights").tensors) == 3 * 7 + 2
    part = cell.record().weights
    assert part.worst_snr_db <= part.median_snr_db
    assert 0.9 < part.mean_cosine < 1
    assert subject.reference.record().weights is None
    _ = subject.reference.samples("weights")
    assert subject.reference.record().weights.median_snr_db is None


def test_criteria_may_be_overridden_per_cell(subject):
    cell = cell_of(subject, "int4-rtn")
    assert cell.limit("perplexity_delta") == 1.0
    adjusted(subject, criteria=Overrides(selected={"llama-0-0-int4-rtn": {"perplexity_delta": 0.25}}))
    assert cell.limit("perplexity_delta") == 0.25


def test_a_corpus_that_is_too_short_is_an_error_of_this_cell(subject, tmp_path):
    (tmp_path / "short.txt").write_text("too short")
    adjusted(subject, corpus=tmp_path / "short.txt")
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


def test_two_gates_on_one_cell_are_two_entries_and_the_lax_one_covers_nothing_up(subject):
    cell = cell_of(adjusted(subject, fixed=True), "int4-rtn")
    delta = cell.judge("perplexity", 1e6).estimate
    floor = subject.reference.record().noise_floor.perplexity_points
    strict = floor + 1e-9
    outcomes = [cell.judge("perplexity", limit).outcome for limit in (strict, 1e6, None)]
    record = cell.record()
    told = {verdict.limit: verdict for verdict in record.verdicts}
    assert [told[strict].outcome, told[1e6].outcome, told[1.0].outcome] == outcomes
    assert (told[1e6].given, told[1.0].given, told[1.0].of) == (True, False, "tiny-heldout")
    part = record.perplexity
    assert told[1e6].value - told[1e6].reference_value == pytest.approx(delta) == pytest.approx(part.delta)
    assert cell.judge("perplexity", 1.0) == told[1.0]  # the cell's own criterion, by whatever way
    assert len(cell.record().verdicts) == 3


@pytest.fixture
def candidate(subject, monkeypatch):
    """A cell of a file that somebody else made: what it holds is what our own rounding makes."""
    ours = quantizers.recipe_of("int4-rtn")
    theirs = dataclasses.replace(ours, id="theirs", candidate=Candidate(name="theirs", source="theirs.gguf"))
    for name in ("of", "key"):
        original = getattr(Artifacts, name)

        def of_ours(self, target, original=original):
            recipe = ours if target.recipe == theirs else target.recipe
            return original(self, dataclasses.replace(target, recipe=recipe))

        monkeypatch.setattr(Artifacts, name, of_ours)
    return adjusted(subject, fixed=True).cell(theirs)


def better_by(cell, nats):
    """The reference's losses, so much lower on average, in the place of the cell's own."""
    before = cell.samples("perplexity")
    shift = np.random.default_rng(0).normal(-nats, 0.01, len(before.nll_nats))
    reference = cell.schedule.samples.need(cell.target.reference, PERPLEXITY).nll_nats[: len(shift)]
    put(cell, PERPLEXITY, dataclasses.replace(before, nll_nats=(reference + shift).astype(np.float32)))


def test_a_candidate_that_is_better_than_its_reference_is_anomalous(candidate, subject):
    better_by(candidate, 0.5)
    verdict = candidate.judge("perplexity", 1e6)
    assert verdict.outcome == "anomalous"
    floor = subject.reference.record().noise_floor.perplexity_points
    assert verdict.high < -floor
    assert f"beyond the noise floor of {floor:.3g}: another fine-tune" in verdict.sentence
    better_by(candidate, -0.5)
    assert candidate.judge("perplexity", 1e6).outcome == "pass"


def test_a_candidate_may_hold_what_a_recipe_of_another_width_was_decoded_to(candidate, subject):
    """As an export that is judged beside its recipe, or a file of the reference's own weights."""
    other = cell_of(subject, "int3-rtn")
    put(candidate, PERPLEXITY, other.samples("perplexity"))
    outcomes = {cell.judge("perplexity", 1e6).outcome for cell in (candidate, other)}
    assert outcomes == {"pass"}
    put(candidate, PERPLEXITY, subject.reference.samples("perplexity"))
    verdict = candidate.judge("perplexity", 1e6)
    assert (verdict.outcome, verdict.estimate) == ("pass", 0.0)
    assert "its decoded weights are the reference's to the last bit" in verdict.sentence


def test_of_a_candidate_the_noise_floor_is_measured_without_any_limit_too(candidate, subject):
    assert candidate.target.recipe.level == "int4"
    adjusted(subject, criteria=Overrides(candidates={"perplexity_delta": "informational"}))
    better_by(candidate, 0.5)
    verdict = candidate.judge("perplexity")
    assert (verdict.limit, verdict.outcome) == (None, "anomalous")


def test_a_candidate_that_is_better_on_another_text_is_anomalous_there(candidate, subject, tmp_path):
    other = tmp_path / "other.txt"
    other.write_text((TINY_DIRECTORY / "heldout.txt").read_text()[20_000:60_000])
    adjusted(subject, other_corpora=(other,), tokens=512)
    better_by(candidate, -0.5)
    mine, before = candidate.samples("perplexity"), subject.schedule.samples.need(subject.reference.target, PERPLEXITY)
    losses = before.beside["other.txt"].nll_nats
    shift = np.random.default_rng(0).normal(-0.5, 0.01, len(losses))
    part = dataclasses.replace(mine.beside["other.txt"], nll_nats=(losses + shift).astype(np.float32))
    put(candidate, PERPLEXITY, mine.with_part("other.txt", part))
    assert candidate.judge("perplexity", 1e6).outcome == "pass"
    verdict = candidate.judge("perplexity", of="other.txt")
    assert (verdict.of, verdict.outcome, verdict.limit) == ("other.txt", "anomalous", None)


def test_our_own_recipes_are_never_anomalous(subject):
    cell = cell_of(adjusted(subject, fixed=True), "int4-rtn")
    better_by(cell, 0.5)
    assert cell.judge("perplexity", 1e6).outcome == "pass"


def test_the_figures_of_a_verdict_are_of_its_own_look(subject):
    """The reference and the cell are read further for another limit; the first verdict keeps its own figures."""
    cell = cell_of(adjusted(subject, fixed=True), "int4-rtn")
    first = cell.judge("perplexity", 1e6)
    before = np.exp(cell.samples("perplexity").nll_nats.astype(np.float64).mean())
    adjusted(subject, fixed=False, most_tokens=512)
    cell.judge("perplexity", float(first.estimate))
    assert len(cell.samples("perplexity").nll_nats) > first.items
    (kept,) = (verdict for verdict in cell.record().verdicts if verdict.limit == 1e6)
    assert (kept.items, kept.value) == (first.items, pytest.approx(before))
    answers = cell.judge("accuracy", 50.0)
    assert answers.of == "tiny_facts"
    assert answers.value == cell.samples("accuracy").tasks["tiny_facts"].first(answers.items).correct.mean()
    assert answers.reference_value - answers.value == pytest.approx(answers.estimate / 100)


@pytest.fixture
def theirs(tmp_path):
    """A function that makes the cell of an MLX model of Tiny's, or of one that is given, beside Tiny."""

    def make(bits, original=TINY_DIRECTORY, **config):
        directory = as_mlx(original, tmp_path / f"q{bits}", bits=bits)
        table = json.loads((directory / "config.json").read_text())
        (directory / "config.json").write_text(json.dumps(table | config))
        settings = Settings(cache=tmp_path / "cache", limit=20, tokens=256, fixed=True)
        candidate = Candidate(name=f"q{bits}", source=str(directory))
        return Subject("Tiny", settings).cell(recipe_of_candidate(candidate, bits + 0.5))

    return make


def test_a_candidates_record_says_whose_file_it_is_and_what_differs(theirs):
    cell = theirs(4, max_position_embeddings=64)
    cell.judge("perplexity", 1.0)
    part = cell.record().candidate
    assert (part.name, part.format, part.compared_tokens, part.own_config) == ("q4", "mlx", 2048, False)
    assert part.stored_bits_per_weight == pytest.approx(4.5, abs=0.01)
    assert list(part.files) == ["model.safetensors"]
    assert 0.99 < part.least_cosine < part.median_cosine < 1
    assert [str(each) for each in part.differences] == ["context length: 64, the reference's 512"]
    assert cell.schedule.inputs.opened.config["max_position_embeddings"] == 512
    assert Subject("Tiny", cell.schedule.inputs.settings).reference.record().candidate is None


def test_a_candidate_in_float32_is_its_reference_and_passes(tmp_path):
    """BF16 in a wider type, as some GGUF files are; of another width than both, the same weights are no mix-up."""
    for file in TINY_DIRECTORY.glob("*.json"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    wide = {
        name: array.astype(mx.float32) for name, array in mx.load(str(TINY_DIRECTORY / "model.safetensors")).items()
    }
    mx.save_safetensors(str(tmp_path / "model.safetensors"), wide)
    subject = Subject("Tiny", Settings(cache=tmp_path / "cache", limit=20, tokens=256, fixed=True))
    for name, bits in (("wide", 32.0), ("said-to-have-4-bits", 4.0)):
        cell = subject.cell(recipe_of_candidate(Candidate(name=name, source=str(tmp_path)), bits))
        verdict = cell.judge("perplexity", 0.5)
        assert (verdict.outcome, verdict.estimate) == ("pass", 0.0)
        assert "its decoded weights are the reference's to the last bit" in verdict.sentence
        assert cell.record().weights_sha256 == subject.reference.record().weights_sha256


def test_a_wrong_reference_is_refused_before_anything_is_walked(theirs, small_model, monkeypatch):
    """A model of Tiny's shapes that has learned nothing."""
    config = json.loads((TINY_DIRECTORY / "config.json").read_text())
    same_shapes = {key: value for key, value in config.items() if key != "dtype"}
    cell = theirs(8, small_model(**same_shapes))
    monkeypatch.setattr(cell.schedule.inputs.engine, "walk", None)
    with pytest.raises(ModelError, match=r"The candidate's weights are not the reference's: the cosine of"):
        cell.judge("perplexity", 1.0)
