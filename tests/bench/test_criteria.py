"""Several texts and tasks, each judged by a limit of its own, on its own samples, until its own verdict stands."""

import dataclasses

import numpy as np
import pytest

from pytest_quantbench.bench.criteria import measured, refuse_unmeasured
from pytest_quantbench.bench.subject import Subject
from pytest_quantbench.catalog.criteria import Overrides
from pytest_quantbench.catalog.models import MODELS, TINY_DIRECTORY, user_model
from pytest_quantbench.catalog.recipes import recipe
from pytest_quantbench.catalog.settings import Settings
from pytest_quantbench.errors import ComparisonError, UnknownNameError
from pytest_quantbench.measures.accuracy.measure import ACCURACY
from pytest_quantbench.measures.perplexity.measure import PERPLEXITY

pytestmark = pytest.mark.usefixtures("judged_unread")
PPL, DROP = "perplexity_delta", "accuracy_drop_points"


@pytest.fixture
def opened(small_model, tmp_path):
    """A random Llama on two texts and two tasks, as a session with these settings opens it."""
    other = tmp_path / "other.txt"
    other.write_text((TINY_DIRECTORY / "heldout.txt").read_text()[20_000:60_000])
    model = dataclasses.replace(
        user_model(str(small_model())), corpus="tiny-heldout", tasks=("tiny_facts", "tiny_endings")
    )
    few = tmp_path / "endings.jsonl"
    few.write_text("".join((TINY_DIRECTORY / "endings.jsonl").read_text().splitlines(keepends=True)[:40]))
    usual = {"cache": tmp_path / "cache", "limit": 10, "tokens": 256, "most_tokens": 1024, "runs": 1}
    usual["task_files"] = {"tiny_endings": few}

    def open_with(criteria=None, **changes):
        criteria = Overrides(session=criteria or {})
        return Subject(model, Settings(other_corpora=(other,), criteria=criteria, **(usual | changes)))

    return open_with


def delta_of(subject, name):
    """How far the perplexity on a text is from the reference's, on what is read at first."""
    mine, before = (subject.cell(each).samples("perplexity").part(name).nll_nats for each in ("int4-rtn", "bf16"))
    return float(np.exp(mine.mean(dtype=float)) - np.exp(before.mean(dtype=float)))


def test_a_text_with_a_limit_of_its_own_is_read_on_until_it_is_decided(opened):
    limit = delta_of(opened(), "other.txt")  # where it surely is undecided
    subject = opened({PPL: 1e6, f"{PPL}.other.txt": limit})
    cell = subject.cell("int4-rtn")
    first, other = cell.judge_all("perplexity")
    assert (first.of, first.outcome, first.items) == ("tiny-heldout", "pass", 256)
    assert (other.of, other.limit, other.given) == ("other.txt", limit, False)
    assert [look.items for look in other.looks] == [256, 512, 1024]
    assert "windows of other.txt" in other.sentence
    samples, reference = cell.samples("perplexity"), subject.reference.samples("perplexity")
    assert [len(each.nll_nats) for each in (samples, samples.beside["other.txt"])] == [256, 1024]
    at_once = opened(tokens=1024, cache=subject.inputs.settings.cache / "new").cell("int4-rtn").samples("perplexity")
    losses = [each.beside["other.txt"].nll_nats for each in (samples, at_once)]
    np.testing.assert_allclose(*losses, rtol=1e-4, atol=1e-5)
    kl = [each.beside["other.txt"].fidelity.kl_nats for each in (samples, at_once)]
    np.testing.assert_allclose(*kl, rtol=1e-2, atol=1e-6)
    before = reference.beside["other.txt"].nll_nats
    assert other.reference_value == pytest.approx(np.exp(before.mean(dtype=float)), rel=1e-5)
    part = cell.record().perplexities["other.txt"]
    assert (part.tokens, part.delta) == (1024, pytest.approx(other.estimate))
    assert [(each.of, each.items) for each in cell.record().verdicts] == [("tiny-heldout", 256), ("other.txt", 1024)]


def test_a_reference_that_was_read_on_for_one_recipe_is_cut_for_the_next(opened):
    limit = delta_of(opened(), "other.txt")
    subject = opened({f"{PPL}.other.txt": limit})
    subject.cell("int4-rtn").judge_all("perplexity")
    next_one = subject.cell("int3-rtn")
    verdict = next_one.judge("perplexity", 1e6, of="other.txt")
    assert (verdict.items, verdict.outcome, verdict.given) == (256, "pass", True)
    assert next_one.record().perplexities["other.txt"].delta == pytest.approx(verdict.estimate)


@pytest.mark.slow
def test_what_was_added_is_there_for_the_next_session(opened, monkeypatch):
    limits = {PPL: 1e6, f"{PPL}.other.txt": delta_of(opened(), "other.txt"), f"{DROP}.tiny_endings": 0.0}
    limits[DROP] = 100.0
    found = [opened(limits, **asked).cell("int4-rtn") for asked in ({}, {})]
    told = [[cell.judge_all("perplexity"), cell.judge_all("accuracy")] for cell in found[:1]]
    again = found[1].schedule.inputs.engine
    original = again.walk

    def small_only(tracks, **rest):  # an architecture is tried in small first, on weights that are no artifact
        assert all(type(track).__module__.startswith("pytest_quantbench.engines") for track in tracks)
        return original(tracks, **rest)

    monkeypatch.setattr(again, "walk", small_only)
    told += [[found[1].judge_all("perplexity"), found[1].judge_all("accuracy")]]
    assert told[0] == told[1]
    assert all(len(verdicts) == 2 for verdicts in told[1])


def test_a_task_with_a_limit_of_its_own_is_asked_on_until_it_is_decided(opened):
    subject = opened({DROP: 100.0, f"{DROP}.tiny_endings": 0.0})
    cell = subject.cell("int4-rtn")
    first, other = cell.judge_all("accuracy")
    assert (first.of, first.items) == ("tiny_facts", 10)
    assert other.of == "tiny_endings"
    assert other.items > 10
    assert [look.items for look in other.looks] == [10, 20, 40][: len(other.looks)]
    tasks = cell.samples("accuracy").tasks
    assert {name: len(task.ids) for name, task in tasks.items()} == {"tiny_facts": 10, "tiny_endings": other.items}
    new = subject.inputs.settings.cache / "new"
    at_once = opened(limit=other.items, cache=new).cell("int4-rtn").samples("accuracy").tasks["tiny_endings"]
    grown = [dict(zip(each.ids, each.correct, strict=True)) for each in (tasks["tiny_endings"], at_once)]
    assert grown[0] == grown[1]  # whatever their order


def test_without_a_limit_of_its_own_nothing_else_is_judged(opened):
    subject = opened({PPL: 1e6, DROP: 100.0})
    for check in ("perplexity", "accuracy", "size"):
        assert len(subject.cell("int4-rtn").judge_all(check)) == 1
    judged = opened({f"{PPL}.other.txt": "informational", f"{DROP}.tiny_endings": 50.0}).cell("int4-rtn")
    assert [verdict.of for verdict in judged.judge_all("perplexity")] == ["tiny-heldout"]
    reference = opened({f"{PPL}.other.txt": 1.0}).reference
    assert [verdict.outcome for verdict in reference.judge_all("perplexity")] == ["informational"]
    assert reference.limit("size_reduction_percent") is None


def test_a_text_is_named_or_it_is_the_first(opened):
    cell = opened({PPL: 1e6}, fixed=True).cell("int4-rtn")
    assert cell.judge("perplexity", of="tiny-heldout") == cell.judge("perplexity")
    assert cell.judge("perplexity", of="other.txt").outcome == "informational"
    with pytest.raises(UnknownNameError, match=r"Unknown text of the check perplexity 'c4'.*other\.txt, tiny-heldout"):
        cell.judge("perplexity", of="c4")
    with pytest.raises(UnknownNameError, match=r"Unknown task of the check accuracy 'mmlu'.*tiny_endings, tiny_facts"):
        cell.judge("accuracy", of="mmlu")
    with pytest.raises(UnknownNameError, match="The check size is of no text and no task: leave 'c4' out"):
        cell.judge("size", of="c4")


def test_the_first_text_may_have_a_limit_by_its_name(opened):
    named = opened({PPL: 3.0, f"{PPL}.tiny-heldout": 2.0}).cell("int4-rtn")
    assert (named.limit(PPL), named.limit(PPL, "other.txt")) == (2.0, None)
    assert named.criteria.others("perplexity") == []
    assert opened({f"{PPL}.tiny-heldout": 2.0}).cell("int4-rtn").limit(PPL) == 2.0


def test_a_limit_below_the_noise_floor_of_its_text_is_refused_with_its_name(opened):
    subject = opened(fixed=True)
    cell = subject.cell("int4-rtn")
    cell.judge("perplexity", 1e6, of="other.txt")
    plain, rounded = (
        subject.schedule.samples.need(target, PERPLEXITY).beside["other.txt"].nll_nats
        for target in (subject.reference.target, cell.target.rounded)
    )
    floor = abs(float(np.exp(rounded.mean(dtype=float)) - np.exp(plain.mean(dtype=float))))
    told = rf"< {floor / 2:g} on other\.txt is tighter than the noise floor.* by {floor:.3g} "
    with pytest.raises(ComparisonError, match=told):
        cell.judge("perplexity", floor / 2, of="other.txt")
    assert cell.judge("perplexity", 2 * floor, of="other.txt").limit == 2 * floor


def test_a_bit_identical_text_beside_the_first_is_refused_too(opened):
    cell = opened(fixed=True).cell("int4-rtn")
    mine, before = cell.samples("perplexity"), cell.schedule.samples.need(cell.target.reference, PERPLEXITY)
    part = dataclasses.replace(mine.beside["other.txt"], nll_nats=before.beside["other.txt"].nll_nats)
    cell.schedule.samples.put(cell.target, PERPLEXITY, mine.with_part("other.txt", part))
    with pytest.raises(ComparisonError, match="bit-identical to the reference's"):
        cell.judge("perplexity", 1e6, of="other.txt")


def test_a_limit_of_what_this_session_does_not_measure_is_said_and_fails_nothing(opened, caplog):
    cell = opened({f"{PPL}.c4": 0.5}, fixed=True).cell("int4-rtn")
    assert len(cell.judge_all("perplexity")) == 1
    assert "is not judged by the limit on the perplexity delta vs BF16 of c4" in caplog.text
    assert "it measures tiny-heldout, other.txt. --corpus adds it." in caplog.text


def test_an_option_of_what_no_model_of_the_session_measures_is_refused(tmp_path):
    settings = Settings(other_corpora=(tmp_path / "mine.txt",), tasks=("mmlu",))
    models = [MODELS["Tiny"], MODELS["Qwen3-8B"]]
    assert measured("perplexity", MODELS["Tiny"], settings) == ("tiny-heldout", "mine.txt")
    assert measured("accuracy", MODELS["Tiny"], settings) == ("mmlu",)
    assert measured("size", MODELS["Tiny"], settings) == ()
    fine = {PPL: 1.0, f"{PPL}.wikitext2": 1.0, f"{PPL}.mine.txt": 2.0, f"{DROP}.mmlu": 2.0, "throughput_ratio": 1.0}
    refuse_unmeasured(Overrides(session=fine), models, settings)
    with pytest.raises(UnknownNameError, match=r"text c4, which .* its texts are tiny-heldout, mine\.txt, wikitext2"):
        refuse_unmeasured(Overrides(session={f"{PPL}.c4": 1.0}), models, settings)
    with pytest.raises(UnknownNameError, match=r"task hellaswag.* its tasks are mmlu\. Add it with --task"):
        refuse_unmeasured(Overrides(session={f"{DROP}.hellaswag": 1.0}), models, settings)
    with pytest.raises(UnknownNameError, match="text wikitext2"):
        refuse_unmeasured(Overrides(session={f"{PPL}.wikitext2": 1.0}), models[:1], settings)
    refuse_unmeasured(Overrides(selected={"int4": {f"{PPL}.c4": 1.0}}), models, settings)  # of another session, maybe


def test_the_noise_floor_is_expected_where_only_another_text_has_a_limit(opened):
    int8 = opened({f"{PPL}.other.txt": 1.0}, fixed=True)
    int8.expect([(recipe("int8"), "perplexity"), (recipe("int8"), "accuracy")])
    assert [want.target.rounds for want in int8.schedule.expected] == [False, True, False]


def test_a_task_keeps_its_answers_when_another_one_gets_more(opened):
    cell = opened().cell("int4-rtn")
    before = cell.samples("accuracy").tasks["tiny_facts"]
    cell.judge("accuracy", 0.0, of="tiny_endings")
    after = cell.schedule.samples.need(cell.target, ACCURACY)
    assert after.tasks["tiny_facts"].ids == before.ids
    assert list(after.tasks) == ["tiny_facts", "tiny_endings"]
