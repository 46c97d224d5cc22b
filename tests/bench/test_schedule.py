"""T2 and T3 of several cells along one walk: what each gets, and who is told what when one cannot be measured."""

import dataclasses

import mlx.core as mx
import numpy as np
import pytest

from pytest_quantbench.bench import artifacts
from pytest_quantbench.bench.subject import Subject
from pytest_quantbench.bench.wants import Want
from pytest_quantbench.catalog.models import TINY_DIRECTORY, user_model
from pytest_quantbench.catalog.recipes import recipe
from pytest_quantbench.catalog.settings import Settings
from pytest_quantbench.compress import pipeline
from pytest_quantbench.engines.mlx import engine, walk
from pytest_quantbench.engines.mlx.walk import Walk
from pytest_quantbench.engines.walk_proof import Anatomy, Proof
from pytest_quantbench.errors import CorpusError, ModelError, OfflineError, QuantbenchError, WeightError
from pytest_quantbench.measures.accuracy.measure import ACCURACY
from pytest_quantbench.measures.perplexity import contamination
from pytest_quantbench.measures.perplexity.measure import PERPLEXITY

pytestmark = pytest.mark.usefixtures("judged_unread")

T2, T3 = "perplexity", "accuracy"
RECIPES = ("bf16", "int4-rtn", "int3-rtn", "int2-rtn")


def recipe_of(name):
    return recipe(name)


@pytest.fixture
def open_subject(small_model, tmp_path):
    """A function that opens a random Llama on Tiny's text and tasks, with nothing measured."""
    directory = str(small_model())

    def opened(**changes):
        model = dataclasses.replace(user_model(directory), corpus="tiny-heldout", tasks=("tiny_facts", "tiny_endings"))
        return Subject(
            model, dataclasses.replace(Settings(cache=tmp_path / "cache", limit=10, tokens=128, fresh=True), **changes)
        )

    return opened


@pytest.fixture
def walks(monkeypatch):
    """How many tracks and batches every walk had."""
    seen = []
    run = Walk.run

    def counted(self, batches, what):
        seen.append((what, len(self._weights), len(batches)))
        return run(self, batches, what)

    monkeypatch.setattr(Walk, "run", counted)
    return seen


def expecting_all(subject, names=(T2, T3)):
    subject.expect([(recipe_of(each), name) for each in RECIPES for name in names])
    return subject


def grow(cells, measure, items):
    """More samples of some cells; returns how many the last one has."""
    scheduled = cells[0].schedule
    scheduled.ensure([Want(target=cell.target, measure=measure, items=items) for cell in cells])
    return [scheduled.samples.need(cell.target, measure) for cell in cells][-1]


def grow_tokens(cells, tokens):
    return grow(cells, PERPLEXITY, tokens).text_tokens


def grow_questions(cells, questions):
    return len(grow(cells, ACCURACY, questions).tasks["tiny_facts"].ids)


def samples_of(cell):
    answers = cell.samples("accuracy")
    return (
        cell.samples("perplexity").nll_nats,
        np.concatenate([np.concatenate(task.loglikelihoods) for task in answers.tasks.values()]),
    )


def test_one_walk_gives_every_recipe_what_it_gets_alone_to_the_last_bit(open_subject, walks):
    shared_walk = expecting_all(open_subject())
    shared = {name: samples_of(shared_walk.cell(recipe_of(name))) for name in RECIPES}
    ((what, tracks, _),) = walks
    assert what == "T2+T3 of llama-0-0, 4 recipes"
    assert tracks == len(RECIPES) + 1  # the noise floor's
    for name in RECIPES:
        cell = open_subject().cell(recipe_of(name))
        for mine, other in zip(shared[name], samples_of(cell), strict=True):
            np.testing.assert_array_equal(mine, other)
        mine, other = shared_walk.cell(recipe_of(name)), cell
        assert mine.samples("perplexity").weights_sha256 == other.samples("accuracy").weights_sha256
        if name != "bf16":
            fidelity, alone = (each.samples("perplexity").fidelity.kl_nats for each in (mine, other))
            np.testing.assert_array_equal(fidelity, alone)
    assert len(walks) > 1 + len(RECIPES)


def test_the_noise_floor_walks_along_and_is_the_same(open_subject):
    shared_walk, apart = expecting_all(open_subject()), open_subject()
    floors = []
    for subject in (shared_walk, apart):
        subject.cell(recipe_of("int4-rtn")).judge("perplexity", 1e6)
        subject.cell(recipe_of("int4-rtn")).judge("accuracy", 100.0)
        floors.append(subject.reference.record().noise_floor)
    assert floors[0] == floors[1]
    assert floors[0].perplexity_points > 0


def test_only_what_is_expected_is_taken_along(open_subject, walks):
    subject = expecting_all(open_subject(), names=(T2,))
    _ = subject.reference.samples("perplexity")
    int4 = subject.cell(recipe_of("int4-rtn"))
    assert int4.schedule.samples.get(int4.target, ACCURACY) is None
    _ = subject.cell(recipe_of("int3-rtn")).samples("accuracy")
    assert [(what.split()[0], tracks) for what, tracks, _ in walks] == [("T2", 5), ("T3", 2)]  # with its reference


def test_both_grow_along_one_walk_and_one_that_is_ahead_waits(open_subject, walks):
    subject = expecting_all(open_subject(), names=(T2,))
    reference, first, second = (subject.cell(recipe_of(name)) for name in RECIPES[:3])
    _ = reference.samples("perplexity")
    assert grow_tokens((reference, first), 256) == 256
    assert grow_tokens((reference, second), 190) == 192  # only whole windows
    assert grow_tokens((reference, second), 400) == 448
    # two windows and two of the head, then what each lacks
    assert [(tracks, batches) for _, tracks, batches in walks] == [(5, 4), (2, 2), (1, 1), (1, 3), (1, 4)]
    whole = open_subject(tokens=400)
    for name in (RECIPES[0], RECIPES[2]):
        expected, grown = (each.cell(recipe_of(name)).samples("perplexity") for each in (whole, subject))
        np.testing.assert_allclose(grown.nll_nats, expected.nll_nats, atol=2e-5)
    kl = second.samples("perplexity").fidelity.kl_nats
    np.testing.assert_allclose(kl, whole.cell(recipe_of(RECIPES[2])).samples("perplexity").fidelity.kl_nats, atol=2e-5)


def test_questions_that_are_added_are_those_of_a_larger_limit(open_subject):
    subject, larger = open_subject(), open_subject(limit=30)
    cells = subject.reference, subject.cell(recipe_of("int4-rtn"))
    assert grow_questions(cells, 30) == 30
    task = cells[1].samples("accuracy").tasks["tiny_facts"]
    whole = larger.cell(recipe_of("int4-rtn")).samples("accuracy").tasks["tiny_facts"]
    grown = dict(zip(task.ids, task.loglikelihoods, strict=True))
    assert grown.keys() == set(whole.ids)
    for question, expected in zip(whole.ids, whole.loglikelihoods, strict=True):
        np.testing.assert_allclose(grown[question], expected, atol=1e-4)
    assert len(cells[1].samples("accuracy").tasks["tiny_endings"].ids) == 10


def test_a_recipe_that_cannot_be_compressed_is_left_out_and_told_when_it_asks(open_subject, walks):
    subject = open_subject(calibration="none")
    subject.expect([(recipe_of(name), T2) for name in ("int4-rtn", "int4-gptq")])
    assert len(subject.cell(recipe_of("int4-rtn")).samples("perplexity").nll_nats) == 128
    assert [tracks for _, tracks, _ in walks] == [3]
    with pytest.raises(QuantbenchError, match="int4-gptq needs calibration"):
        _ = subject.cell(recipe_of("int4-gptq")).samples("perplexity")


def test_questions_that_cannot_be_had_do_not_keep_t2_from_its_text(open_subject):
    subject = expecting_all(open_subject(offline=True))
    subject.inputs.settings = dataclasses.replace(subject.inputs.settings, tasks=("arc_easy",))
    cell = subject.cell(recipe_of("int4-rtn"))
    assert len(cell.samples("perplexity").nll_nats) == 128
    with pytest.raises(OfflineError, match="arc_easy"):
        _ = cell.samples("accuracy")


def test_a_recipe_whose_numbers_end_is_told_so_and_the_others_are_measured(open_subject, monkeypatch, walks):
    subject = expecting_all(open_subject())
    broken, whole = (subject.cell(recipe_of(name)) for name in ("int3-rtn", "int4-rtn"))
    dense = broken.artifact.dense

    def spoilt(name):
        return dense(name) * (mx.nan if "layers.1.mlp.down_proj" in name else 1)

    monkeypatch.setattr(broken.artifact, "dense", spoilt)
    assert np.isfinite(whole.samples("perplexity").nll_nats).all()
    for name in (T2, T3, T2):
        with pytest.raises(WeightError, match="llama-0-0 at int3-rtn: Decoder layer 1 gives values that are no num"):
            broken.samples(name)
    assert len(walks) == 1  # and it is not tried again


@pytest.mark.parametrize("fresh", [False, True])
def test_what_an_earlier_session_measured_is_taken_from_there(open_subject, walks, fresh):
    """First looks, what was added to them, and the noise floor; nothing is walked, and everything is the same."""

    def session(**changes):
        subject = expecting_all(open_subject(limit=5, **changes))
        reference, cell = subject.cell(recipe_of("bf16")), subject.cell(recipe_of("int4-rtn"))
        _ = reference.samples("perplexity")
        grow_tokens((reference, cell), 256)
        grow_questions((reference, cell), 9)
        cell.judge("perplexity", 1e6)
        return subject, [samples_of(subject.cell(recipe_of(name))) for name in RECIPES], reference.record().noise_floor

    _, before, floor = session(fresh=True)
    walked = len(walks)
    subject, after, again = session(fresh=fresh)
    assert (len(walks) == walked) == (not fresh)
    assert floor == again
    for mine, other in zip(before, after, strict=True):
        for losses, expected in zip(mine, other, strict=True):
            np.testing.assert_array_equal(losses, expected)
    assert ("T2 of llama-0-0-int4-rtn" in subject.reused) == (not fresh)


def test_a_session_that_asks_for_more_walks_for_what_is_new_only(open_subject, walks):
    expecting_all(open_subject())
    _ = expecting_all(open_subject()).reference.samples("perplexity")
    walks.clear()
    more = open_subject(fresh=False)
    more.expect([(recipe_of(name), T2) for name in ("int4-rtn", "int8")])
    assert len(more.cell(recipe_of("int8")).samples("perplexity").nll_nats) == 128
    assert [(what, tracks) for what, tracks, _ in walks] == [("T2 of llama-0-0, int8", 1)]
    assert len(more.cell(recipe_of("int8")).samples("perplexity").fidelity.kl_nats) == 128


@pytest.mark.parametrize(
    "change",
    [
        {"tokens": 200},
        {"seed": 1, "limit": 9},
        pytest.param({"sampling": "head"}, marks=pytest.mark.slow),
        pytest.param({"context": 64}, marks=pytest.mark.slow),
        pytest.param({"corpus": "tiny-train"}, marks=pytest.mark.slow),
        pytest.param({"other_corpora": ("tiny-train",)}, marks=pytest.mark.slow),
    ],
)
def test_other_work_is_not_taken_for_it(open_subject, walks, change):
    for settings in ({}, {**change, "fresh": False}):
        walks.clear()
        samples_of(open_subject(**settings).reference)
        assert walks


def test_damaged_models_are_not_taken_for_whole_ones(open_subject):
    subject = open_subject(fresh=False)
    cell = subject.cell(recipe_of("int4-rtn"))
    whole = cell.samples("perplexity").nll_nats
    target = cell.target.damaged("one layer's weights zeroed")
    cell.schedule.ensure([Want(target=target, measure=PERPLEXITY)])
    damaged = cell.schedule.samples.need(target, PERPLEXITY).nll_nats
    assert np.abs(damaged - whole).max() > 0.01


def spoil(monkeypatch, cell, *names):
    """Make weights of these names no numbers."""
    dense = cell.artifact.dense
    monkeypatch.setattr(
        cell.artifact, "dense", lambda name: dense(name) * (mx.nan if any(n in name for n in names) else 1)
    )


def test_where_the_reference_ends_all_are_told_and_none_is_walked_twice(open_subject, monkeypatch, walks):
    subject = expecting_all(open_subject())
    spoil(monkeypatch, subject.reference, "lm_head", "embed_tokens")
    for cell in map(subject.cell, map(recipe_of, RECIPES)):
        with pytest.raises(WeightError, match="llama-0-0 at bf16: "):
            _ = cell.samples("perplexity")
    assert len(walks) == 1
    assert len(subject.cell(recipe_of("int4-rtn")).samples("accuracy").tasks) == 2  # which needs no reference


def test_where_everything_ends_the_place_is_named(open_subject, monkeypatch, walks):
    subject = expecting_all(open_subject())
    for name in RECIPES:
        spoil(monkeypatch, subject.cell(recipe_of(name)), "layers.0.mlp.down_proj")
    for cell in map(subject.cell, map(recipe_of, RECIPES)):
        for samples in (T2, T3):
            with pytest.raises(WeightError, match="Decoder layer 0 gives values that are no numbers"):
                cell.samples(samples)
    assert len(walks) == 1


def test_embeddings_that_are_no_numbers_are_named(open_subject, monkeypatch):
    subject = open_subject()
    spoil(monkeypatch, subject.reference, "embed_tokens")
    with pytest.raises(WeightError, match="The embeddings are no numbers"):
        _ = subject.reference.samples("perplexity")


def test_every_weight_is_read_once_with_the_noise_floor_along(open_subject, monkeypatch):
    subject, asked = expecting_all(open_subject(), names=(T2,)), []
    dense = subject.reference.artifact.dense
    monkeypatch.setattr(subject.reference.artifact, "dense", lambda name: asked.append(name) or dense(name))
    _ = subject.reference.samples("perplexity")
    layers = [name for name in asked if ".layers." in name]
    assert sorted(layers) == sorted(name for name in subject.reference.artifact.names if ".layers." in name)


def test_text_that_a_recipe_was_fitted_to_keeps_it_from_t2_only(open_subject, tmp_path):
    subject = open_subject(calibration="tiny-heldout", calibration_sequences=2)
    subject.expect([(recipe_of("int4-gptq"), name) for name in (T2, T3)])
    cell = subject.cell(recipe_of("int4-gptq"))
    assert len(cell.samples("accuracy").tasks) == 2
    with pytest.raises(CorpusError, match="share"):
        _ = cell.samples("perplexity")


def test_a_compression_that_fails_is_tried_once(open_subject, monkeypatch):
    tried, compress = [], pipeline.compress

    def counted(checkpoint, chosen, *given, **rest):
        tried.append(chosen.id)
        return compress(checkpoint, chosen, *given, **rest)

    monkeypatch.setattr(artifacts, "compress", counted)
    subject = open_subject(calibration="none")
    subject.expect([(recipe_of("int4-gptq"), name) for name in (T2, T3)])
    cell = subject.cell(recipe_of("int4-gptq"))
    for name in (T2, T3, T2):
        with pytest.raises(QuantbenchError, match="needs calibration"):
            cell.samples(name)
    assert tried.count("int4-gptq") == 1


@pytest.mark.parametrize(("tokens", "most"), [(None, 64), (200, None), (200, 64)])
def test_the_overlap_is_looked_for_as_far_as_is_read(open_subject, tmp_path, tokens, most):
    """What stands behind the first tokens counts where it is read."""
    (tmp_path / "late.txt").write_text((TINY_DIRECTORY / "heldout.txt").read_text()[300:1500])
    subject = open_subject(calibration=tmp_path / "late.txt", tokens=tokens, most_tokens=most, sampling="head")
    assert contamination.is_fitted_to(subject.inputs)


@pytest.fixture
def as_proven(monkeypatch):
    """A function that makes every architecture one with this proof."""

    def become(proof):
        for module in (walk, engine):
            monkeypatch.setattr(module, "prove", lambda *_: proof)

    return become


def test_an_architecture_without_a_way_for_choices_keeps_its_t2(open_subject, walks, as_proven):
    as_proven(Proof(architecture="odd", branching=None, unbranched="nothing fits."))
    subject = expecting_all(open_subject())
    cell = subject.cell(recipe_of("int4-rtn"))
    with pytest.raises(ModelError, match="'odd' cannot be asked for choices \\(T3\\): nothing fits"):
        _ = cell.samples("accuracy")
    assert len(cell.samples("perplexity").nll_nats) == 128
    assert [what.partition(" ")[0] for what, _, _ in walks] == ["T2"]


def test_an_architecture_that_cannot_be_walked_has_neither(open_subject, walks, as_proven):
    as_proven(Proof(architecture="odd", refused="its layers are apart."))
    cell = expecting_all(open_subject()).cell(recipe_of("int4-rtn"))
    for name in (T2, T3):
        with pytest.raises(ModelError, match="'odd' cannot be walked: its layers are apart"):
            cell.samples(name)
    assert not walks


@pytest.mark.parametrize("branching", ["even", "none"])
def test_answers_are_the_same_without_branches(open_subject, as_proven, branching):
    expected = samples_of(open_subject().cell(recipe_of("int4-rtn")))[1]
    as_proven(Proof(architecture="odd", branching=branching, unbranched="they do not fit."))
    found = samples_of(open_subject().cell(recipe_of("int4-rtn")))[1]
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_a_looped_architecture_is_not_calibrated_with_half_of_what_it_does(open_subject, as_proven):
    as_proven(Proof(architecture="odd", anatomy=Anatomy(loops=2)))
    cell = open_subject(calibration=TINY_DIRECTORY / "heldout.txt", calibration_sequences=1).cell(
        recipe_of("int4-gptq")
    )
    with pytest.raises(ModelError, match="'odd' goes 2 times through its decoder layers"):
        _ = cell.artifact
