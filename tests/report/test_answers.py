"""The answer in sentences: what may ship, why not, what would settle it, and that many cells make few sentences."""

import dataclasses

import pytest
from builders import make_change, make_record, make_verdict
from hypothesis import given
from hypothesis import strategies as st

from pytest_quantbench.catalog.criteria import asked_of
from pytest_quantbench.engines.machine import Machine
from pytest_quantbench.judge.coherence import Coherence
from pytest_quantbench.record.cache_schema import Cache
from pytest_quantbench.record.schema import NoiseFloor
from pytest_quantbench.report import phrases
from pytest_quantbench.report.answers import HOW_SURE, answer, answers

ASKED = asked_of("weights")

CPU = Machine(chip="A Chip", cores=2, memory_gb=8.0, os="Linux", backend="cpu", versions={}, judges_speed=False)
LIMITS = {
    "size_reduction_percent": (72.0, 70.0, ""),
    "perplexity_delta": (0.3, 1.0, "wikitext2"),
    "accuracy_drop_points": (1.0, 3.0, "arc_easy"),
    "throughput_ratio": (2.0, 1.5, ""),
}
"""By metric: an estimate, the limit, what it is of."""


def verdict(metric, outcome="pass", **changes):
    estimate, limit, of = LIMITS[metric]
    found = make_verdict(metric, outcome)
    fields = {"estimate": estimate, "low": estimate - 0.2, "high": estimate + 0.2, "limit": limit, "of": of}
    return dataclasses.replace(found, **(fields | changes))


def cell(model="Tiny", recipe="int4", machine=None, *, leave_out=(), **outcomes):
    """A record of an int4 recipe that passes all, but for the outcomes that are given by the metric."""
    found = [
        each if isinstance(each := outcomes.get(metric, "pass"), type(verdict(metric))) else verdict(metric, each)
        for metric in ASKED
        if metric not in leave_out
    ]
    return make_record(model_id=model, recipe=recipe, machine=machine, verdicts=tuple(found))


def slow():
    return verdict(
        "throughput_ratio", "informational", limit=None, not_judged="on a CPU, where nobody deploys the engine mlx"
    )


def test_what_may_ship_and_that_throughput_was_not_judged():
    told = answer(cell(machine=CPU, throughput_ratio=slow()))
    assert told.word == "may ship"
    assert told.settled_by == ""
    assert told.sentence == (
        "Tiny-int4 may ship: it meets the three criteria that were judged (size, perplexity on wikitext2, accuracy on "
        "arc_easy). Throughput was not judged: it ran on kernels that nobody deploys."
    )
    unmeasured = cell(machine=CPU, leave_out=("throughput_ratio",))
    assert answer(unmeasured).sentence == told.sentence  # it would not have been judged


def test_of_a_cache_no_word_is_said_of_throughput_which_is_not_asked():
    asked = ("perplexity_delta", "accuracy_drop_points")
    told = {"cache": Cache(method="affine"), "verdicts": tuple(map(verdict, asked)), "machine": CPU}
    for level, recipe in (("kv", "kv8"), ("int4", "int4+kv8")):
        sentence = answer(make_record(recipe=recipe, level=level, **told)).sentence
        assert "hroughput" not in sentence
        assert "(perplexity on wikitext2, accuracy on arc_easy)" in sentence


@pytest.mark.parametrize("judged", [False, True])
def test_nobody_deploys_it_where_the_machine_says_so_however_the_verdict_words_it(judged):
    asked = verdict("throughput_ratio", "informational", limit=None, not_judged="bound by overhead")
    told = answer(cell(machine=dataclasses.replace(CPU, judges_speed=judged), throughput_ratio=asked)).sentence
    why = {False: "it ran on kernels that nobody deploys", True: "bound by overhead"}[judged]
    assert told.endswith(f"Throughput was not judged: {why}.")


def test_what_is_worse_than_its_baseline_may_not_ship_and_says_by_how_much():
    worse = make_change("perplexity", of="wikitext2", estimate=0.213, low=0.112, high=0.32)
    found = {metric: verdict(metric, baseline=(worse,)) for metric in ASKED}
    told = answer(cell(machine=CPU, **found | {"throughput_ratio": slow()}))
    assert told.word == "may not ship"
    assert told.sentence == (
        "Tiny-int4 may not ship: since its baseline it got worse: perplexity of wikitext2 +0.213 [+0.112, +0.320], "
        "though it meets the three criteria that were judged (size, perplexity on wikitext2, accuracy on arc_easy). "
        "Throughput was not judged: it ran on kernels that nobody deploys."
    )
    assert answers([cell(**found), cell("Other")])[1].startswith("Tiny-int4 may not ship: since its baseline")


def test_what_is_missed_beside_the_baseline_is_told_too():
    larger = make_change("size", estimate=11.11, low=11.11, high=11.11)
    missed = verdict("perplexity_delta", "fail", estimate=3.5, low=3.0, high=4.0, baseline=(larger,))
    assert answer(cell(perplexity_delta=missed)).sentence == (
        "Tiny-int4 may not ship: since its baseline it got worse: size +11.11 %; besides, its perplexity on wikitext2 "
        "rises by 3.500 [3.000, 4.000], and less than 1 is allowed."
    )
    open_ = verdict("perplexity_delta", "undecided", baseline=(larger,))
    assert answer(cell(perplexity_delta=open_)).sentence.endswith("it got worse: size +11.11 %.")
    unknown = dataclasses.replace(larger, estimate=None, low=None, high=None, sentence="size: it grew.")
    assert answer(cell(perplexity_delta=verdict("perplexity_delta", baseline=(unknown,)))).sentence.startswith(
        "Tiny-int4 may not ship: since its baseline it got worse: size: it grew, though it meets"
    )


def test_what_is_no_worse_than_its_baseline_is_judged_by_its_criteria():
    equal = [make_change("size", word) for word in ("identical", "better", "no difference can be told", "not compared")]
    assert answer(cell(perplexity_delta=verdict("perplexity_delta", baseline=tuple(equal)))).word == "may ship"


def test_what_has_no_limit_is_named():
    free = verdict("accuracy_drop_points", "informational", limit=None)
    told = answer(cell(accuracy_drop_points=free)).sentence
    assert told.endswith(
        "(size, perplexity on wikitext2, throughput). Accuracy on arc_easy was not judged: int4 has no limit."
    )


def test_the_reference_is_no_answer():
    assert answer(make_record(recipe="bf16", level="bf16")) is None
    assert answers([make_record(recipe="bf16", level="bf16")]) == []


def test_what_fails_is_told_with_the_criterion_that_is_missed_by_most():
    """Perplexity is 2.5 limits too high, accuracy a third."""
    told = answer(
        cell(
            perplexity_delta=verdict("perplexity_delta", "fail", estimate=3.5, low=3.0, high=4.0),
            accuracy_drop_points=verdict("accuracy_drop_points", "fail", estimate=4.0),
        )
    )
    assert told.word == "may not ship"
    assert told.sentence == (
        "Tiny-int4 may not ship: its perplexity on wikitext2 rises by 3.500 [3.000, 4.000], and less than 1 is "
        "allowed; accuracy on arc_easy missed, too."
    )


def test_figures_of_every_metric_are_sentences():
    told = {metric: f"{phrases.figure(verdict(metric))}, and {phrases.limit(verdict(metric))}" for metric in ASKED}
    assert told == {
        "size_reduction_percent": "its files are 72.0 [71.8, 72.2] % smaller than BF16, and at least 70 % is asked",
        "perplexity_delta": "its perplexity on wikitext2 rises by 0.300 [0.100, 0.500], and less than 1 is allowed",
        "accuracy_drop_points": "its accuracy on arc_easy drops by 1.0 [0.8, 1.2] points, and less than 3 points are "
        "allowed",
        "throughput_ratio": "it is 2.000 [1.800, 2.200] × as fast as BF16, and at least 1.5 × is asked",
    }
    overflowing = verdict("perplexity_delta", "fail", estimate=None, low=None, high=None, sentence="It overflows.")
    assert answer(cell(perplexity_delta=overflowing)).sentence.startswith(
        "Tiny-int4 may not ship: It overflows, and less"
    )


def test_what_is_undecided_says_what_would_settle_it():
    open_ = verdict("perplexity_delta", "undecided", needed="about 9,000 tokens would settle it")
    told = answer(cell(perplexity_delta=open_))
    assert (told.word, told.settled_by) == ("undecided", "about 9,000 tokens would settle it")
    (line, *_) = answers([cell(perplexity_delta=open_)])
    assert line.endswith("and less than 1 is allowed. About 9,000 tokens would settle it.")


def test_a_cell_of_which_only_perplexity_was_measured_may_not_ship():
    told = answer(cell(leave_out=("size_reduction_percent", "accuracy_drop_points", "throughput_ratio")))
    assert told.word == "undecided"
    assert "it meets the one criterion that was judged (perplexity on wikitext2)" in told.sentence
    assert told.sentence.endswith("size, accuracy and throughput were not measured.")
    assert told.settled_by == "to settle it, measure size, accuracy and throughput, too"


def test_a_collapse_and_wrong_weights_overrule_what_passes():
    signs = dict.fromkeys(field.name for field in dataclasses.fields(Coherence))
    looping = dataclasses.replace(cell(), coherence=Coherence(**signs | {"loops": True}))
    assert answer(looping).word == "may not ship"
    assert answer(looping).sentence.endswith("it has collapsed: it writes in loops where its original does not.")
    wrong = dataclasses.replace(looping, integrity=("layer 3 is another's.", "so is layer 4."))
    assert answer(wrong).sentence == (
        "Tiny-int4 may not ship: its decoded weights are not what they should be: layer 3 is another's (1 more "
        "finding is in its record)."
    )
    three = dataclasses.replace(wrong, integrity=(*wrong.integrity, "and layer 5."))
    assert answer(three).sentence.endswith("(2 more findings are in its record).")
    assert answer(dataclasses.replace(cell(), integrity=(), coherence=Coherence(**signs))).word == "may ship"


def test_a_file_that_is_better_than_its_original_is_looked_at_first():
    better = verdict("perplexity_delta", "anomalous", estimate=-0.4, low=-0.5, high=-0.3)
    told = answer(cell(perplexity_delta=better))
    assert told.word == "undecided"
    assert (
        "its perplexity on wikitext2 falls by 0.400 [0.300, 0.500], which is better than its original by more than "
        "noise; look before you ship" in told.sentence
    )
    gained = verdict("accuracy_drop_points", "anomalous", estimate=-3.0, low=-4.5, high=-2.0)
    assert (
        "its accuracy on arc_easy gains 3.0 [2.0, 4.5] points, which is"
        in answer(cell(accuracy_drop_points=gained)).sentence
    )
    odd = verdict("perplexity_delta", "anomalous", estimate=0.128)
    assert (
        "rises by 0.128 [0.100, 0.500], and by its verdict it is better than"
        in answer(cell(perplexity_delta=dataclasses.replace(odd, low=0.1))).sentence
    )
    assert told.settled_by.startswith("to settle it, find out")
    failed = cell(perplexity_delta=better, size_reduction_percent="fail")
    assert answer(failed).word == "may not ship"


def test_without_limits_nothing_is_judged():
    free = {metric: verdict(metric, "informational", limit=None) for metric in ASKED}
    told = answer(dataclasses.replace(cell(recipe="int8", **free), level="int8"))
    assert told.word == "not judged"
    assert told.sentence == (
        "Tiny-int8 is not judged: size, perplexity on wikitext2, accuracy on arc_easy and throughput were measured, "
        "and int8 has no limit."
    )
    timed = cell(machine=CPU, throughput_ratio=slow(), leave_out=list(ASKED)[:3])
    assert answer(timed).sentence == (
        "Tiny-int4 is not judged: throughput was measured, and it ran on kernels that nobody deploys; size, perplexity "
        "and accuracy were not measured."
    )


def test_cells_that_meet_the_same_criteria_share_a_sentence():
    lines = answers([cell(), cell(recipe="int4-gptq"), cell("Other"), cell("Other", "int4-gptq")])
    assert lines[0].startswith(
        "Four cells may ship: int4 and int4-gptq of both models. Each meets the four criteria that"
    )
    lines = answers([cell(), cell(recipe="int4-gptq"), cell(recipe="int4-rtn"), cell("Other")])
    assert lines[0].startswith("Four cells may ship: Tiny (int4, int4-gptq, int4-rtn) and Other (int4). Each meets")
    lines = answers([cell(recipe="int4-gptq"), cell("Other")])
    assert lines[0].startswith("Two cells may ship: Tiny-int4-gptq and Other-int4. Each meets")


def test_of_many_that_fail_the_worst_is_told():
    failed = [
        cell(f"m{place}", perplexity_delta=verdict("perplexity_delta", "fail", estimate=2.0 + place))
        for place in range(5)
    ]
    (line, *_) = answers([cell("good"), *failed])[1:]
    assert line.startswith("Five cells may not ship: m0-int4, m1-int4, m2-int4, m3-int4 and m4-int4. Farthest from its")
    assert "limit is m4-int4: its perplexity on wikitext2 rises by 6.000" in line
    assert len([line for line in answers(failed[:3]) if "may not ship" in line]) == 3  # few have a sentence each


def test_the_suite_is_told_where_it_is_judged():
    of_ten = [cell(f"m{place}", size_reduction_percent="pass" if place else "fail") for place in range(10)]
    assert "Over all models: int4 passes (9 of 10 models meet all, 8 of 10 are needed)." in answers(of_ten)
    assert not any(line.startswith("Over all models") for line in answers(of_ten[:9]))


def test_what_holms_correction_takes_back_is_counted():
    narrow = [
        cell(f"m{place}", **{name: verdict(name, p_good=0.04, p_bad=1.0) for name in ASKED}) for place in range(2)
    ]
    assert any(
        "eight of the eight verdicts would have to count as undecided (Holm's" in line for line in answers(narrow)
    )
    assert any(line.startswith("Each verdict by itself stands.") for line in answers(narrow))
    sure = [cell("m", **{name: verdict(name, p_good=1e-9, p_bad=1.0) for name in ASKED})]
    assert not any("Holm" in line for line in answers(sure))


def test_the_noise_floor_is_the_largest_of_the_references():
    floor = NoiseFloor(perplexity_points=2e-5, kl_nats=None, drop_points=0.5, flipped_points=1.0)
    first = make_record(recipe="bf16", level="bf16", noise_floor=floor)
    assert any(
        "the original differs from itself by less than 0.001 in perplexity and 0.5 points in accuracy" in line
        for line in answers([first, cell()])
    )
    second = dataclasses.replace(
        first, model_id="Other", noise_floor=dataclasses.replace(floor, perplexity_points=0.02, drop_points=None)
    )
    assert any(
        "differ from themselves by up to 0.020 in perplexity and 0.5 points" in line
        for line in answers([first, second, cell()])
    )
    assert any(line.endswith("and neither do those whose own interval holds 0.") for line in answers([first, cell()]))
    assert "The noise floor was not measured." in answers([cell()])


def test_how_sure_it_is_closes_the_answer():
    assert answers([cell()])[-1] == HOW_SURE
    free = {metric: verdict(metric, "informational", limit=None) for metric in ASKED}
    assert HOW_SURE not in answers([cell(**free)])


@pytest.mark.parametrize("models", [1, 2, 10])
def test_a_whole_suite_makes_about_a_dozen_sentences(ten_models, models):
    chosen = list(dict.fromkeys(record.model_id for record in ten_models))[:models]
    records = [record for record in ten_models if record.model_id in chosen]
    lines = answers(records)
    assert len(lines) <= 12
    named = " ".join(lines)
    assert all(record.model_id in named or "of all" in named for record in records)


@given(
    outcomes=st.lists(
        st.lists(st.sampled_from(["pass", "fail", "undecided", "anomalous", "informational"]), min_size=4, max_size=4),
        min_size=1,
        max_size=60,
    )
)
def test_every_cell_is_in_exactly_one_answer(outcomes):
    """However verdicts are mixed: each cell has a word, fails never ship, and there are few lines."""
    records = [cell(f"m{place}", **dict(zip(ASKED, each, strict=True))) for place, each in enumerate(outcomes)]
    words = [answer(record).word for record in records]
    for word, each in zip(words, outcomes, strict=True):
        assert (word == "may ship") == (set(each) <= {"pass", "informational"} and "pass" in each)
        assert (word == "may not ship") == ("fail" in each)
        assert (word == "not judged") == (set(each) == {"informational"})
    assert len(answers(records)) <= 26
