"""All models of a level together."""

import dataclasses
import math

import numpy as np
import pytest
from builders import make_perplexity, make_record, make_verdict

from pytest_quantbench.catalog.criteria import METRICS
from pytest_quantbench.engines.machine import Machine
from pytest_quantbench.judge.rules import judged
from pytest_quantbench.judge.verdict import Verdict
from pytest_quantbench.record.schema import Record
from pytest_quantbench.record.state import lacking
from pytest_quantbench.record.suite import beyond_limit, difference, holm_outcomes, judge_suite, of_each, worst
from pytest_quantbench.report.answers import answers
from pytest_quantbench.stats.estimates import Interval, Student


def record(model, outcome, level="int4"):
    metrics = ("size_reduction_percent", "perplexity_delta", "accuracy_drop_points", "throughput_ratio")
    verdicts = tuple(
        Verdict(metric=metric, outcome=outcome, limit=1, estimate=1, low=1, high=1, sentence="") for metric in metrics
    )
    return Record(
        schema=2,
        model_id=model,
        bits=4,
        timestamp="",
        recipe=level,
        level=level.partition("-")[0],
        source="",
        revision=None,
        source_sha256="",
        weights_sha256=None,
        seed=0,
        verdicts=verdicts,
    )


@pytest.mark.parametrize(
    ("met", "failed", "outcome"),
    [(8, 2, "pass"), (7, 3, "fail"), (7, 2, "undecided"), (10, 0, "pass"), (0, 0, "undecided")],
)
def test_the_suite_is_three_valued(met, failed, outcome):
    outcomes = ["pass"] * met + ["fail"] * failed + ["undecided"] * (10 - met - failed)
    verdict = judge_suite("int4", [record(f"m{i}", o) for i, o in enumerate(outcomes)])
    assert (verdict.outcome, verdict.met, verdict.failed) == (outcome, met, failed)


def test_one_failed_criterion_of_several_on_a_metric_fails_the_model():
    """A test of its own limit beside the cell's criterion: neither outcome replaces the other."""
    plain = record("m", "pass")
    strict = dataclasses.replace(plain.verdicts[1], outcome="fail", limit=1e-4, given=True)
    both = dataclasses.replace(plain, verdicts=(*plain.verdicts, strict))
    assert judge_suite("int4", [both]).failed == 1
    assert worst(both, "perplexity_delta") is strict
    assert worst(both, "accuracy_drop_points") is plain.verdicts[2]
    assert worst(dataclasses.replace(plain, verdicts=()), "perplexity_delta") is None


def test_a_recipe_that_is_not_the_levels_default_is_judged_by_the_levels_criterion():
    others = [record(f"m{i}", "pass" if i < 8 else "fail", "int4-gptq") for i in range(10)]
    verdict = judge_suite("int4-gptq", [*others, *(record(f"m{i}", "fail") for i in range(10))])
    assert (verdict.recipe, verdict.level, verdict.outcome, verdict.met) == ("int4-gptq", "int4", "pass", 8)
    assert judge_suite("int4", others).met == 0
    (told,) = (line for line in answers([*others, record("m0", "fail")]) if line.startswith("Over all models: "))
    assert told == "Over all models: int4-gptq passes (8 of 10 models meet all, 8 of 10 are needed)."


def test_a_candidate_is_judged_by_its_level():
    """Its name says nothing of its level."""
    q4 = dataclasses.replace(record("m", "pass", "q4-k"), level="int4")
    verdict = judge_suite("q4-k", [q4])
    assert (verdict.level, verdict.met) == ("int4", 1)
    assert "judged from 10 models on" in verdict.sentence


def test_what_was_measured_and_not_judged_is_named():
    """ "All criteria" would claim it."""
    plain = record("m", "pass")
    speed = dataclasses.replace(plain.verdicts[3], outcome="informational", limit=None, not_judged="on a CPU")
    open_ = dataclasses.replace(plain.verdicts[2], outcome="informational", limit=None)
    slow = dataclasses.replace(plain, verdicts=(*plain.verdicts[:2], open_, speed))
    told = judge_suite("int4", [slow, record("n", "pass")]).sentence
    assert "2 of 2 models meet all criteria" in told
    assert "; not judged: accuracy drop (no limit, 1 of 2 models), throughput vs BF16 (on a CPU, 1 of 2 models)" in told
    assert "not judged" not in judge_suite("int4", [plain]).sentence
    judged_too = dataclasses.replace(
        slow, verdicts=(*slow.verdicts, dataclasses.replace(plain.verdicts[2], given=True))
    )
    assert "accuracy" not in judge_suite("int4", [judged_too]).sentence


def test_the_suite_does_not_judge_fewer_models_than_its_criterion_names():
    verdict = judge_suite("int4", [record("m", "pass")])
    assert (verdict.outcome, verdict.met) == ("informational", 1)
    assert "judged from 10 models on" in verdict.sentence


def test_a_model_with_unmeasured_criteria_does_not_meet_them():
    partial = record("m", "pass")
    bare = [Record(**{**{n: getattr(partial, n) for n in partial.__slots__}, "verdicts": partial.verdicts[:2]})]
    assert judge_suite("int4", bare).incomplete == 1


def test_a_candidate_better_than_its_reference_meets_nothing_and_fails_nothing():
    """It leaves the suite open, as an undecided one does, and is counted apart."""
    plain = record("odd", "pass")
    odd = dataclasses.replace(plain.verdicts[1], outcome="anomalous")
    open_ = dataclasses.replace(plain, verdicts=(plain.verdicts[0], odd, *plain.verdicts[2:]))
    verdict = judge_suite("int4", [open_, *(record(f"m{i}", "pass" if i < 7 else "fail") for i in range(9))])
    assert (verdict.outcome, verdict.met, verdict.failed) == ("undecided", 7, 2)
    assert (verdict.undecided, verdict.anomalous, verdict.incomplete) == (0, 1, 0)
    assert "0 undecided, 1 anomalous" in verdict.sentence
    assert worst(open_, "perplexity_delta") is odd
    failed = dataclasses.replace(open_, verdicts=(*open_.verdicts[:3], dataclasses.replace(odd, outcome="fail")))
    assert judge_suite("int4", [failed]).failed == 1
    assert "anomalous" not in judge_suite("int4", [plain]).sentence


def test_a_candidates_level_is_what_its_record_says():
    found = dataclasses.replace(record("m", "pass"), recipe="bartowski-Q4_K_M")
    assert judge_suite("bartowski-Q4_K_M", [found]).level == "int4"


def test_holm_makes_no_pass_of_an_alarm():
    odd = tuple(dataclasses.replace(v, outcome="anomalous") for v in with_p("m", 0.04).verdicts)
    family = holm_outcomes("int4", [dataclasses.replace(with_p("m", 0.04), verdicts=odd)])
    assert set(family.values()) == {"anomalous"}


def with_p(model, p_good):
    plain = record(model, "pass")
    verdicts = tuple(dataclasses.replace(v, p_good=p_good, p_bad=1 - p_good) for v in plain.verdicts)
    return dataclasses.replace(plain, verdicts=verdicts)


def test_every_criterion_is_one_of_holms_family():
    plain = with_p("m", 0.02)
    strict = dataclasses.replace(plain.verdicts[1], given=True, limit=0.5, p_good=0.03)
    family = holm_outcomes("int4", [dataclasses.replace(plain, verdicts=(plain.verdicts[1], strict))])
    assert family == {
        ("m", ("perplexity_delta", "", None)): "pass",  # 2 × 0.02
        ("m", ("perplexity_delta", "", 0.5)): "pass",
    }
    assert set(holm_outcomes("int4", [plain]).values()) == {"undecided"}  # 4 × 0.02


def test_holm_makes_undecided_what_one_of_many_would_pass_by_chance():
    sure, narrow = with_p("sure", 1e-6), with_p("narrow", 0.02)
    outcomes = holm_outcomes("int4", [sure, narrow])
    assert outcomes["sure", ("perplexity_delta", "", None)] == "pass"
    assert outcomes["narrow", ("perplexity_delta", "", None)] == "undecided"
    assert "4 more are undecided" in judge_suite("int4", [sure, narrow]).sentence
    assert "Holm" not in judge_suite("int4", [sure]).sentence


def of_texts(**outcomes):
    """A cell that passes all, but for its perplexities: on each of these texts as it says."""
    plain = record("m", "pass")
    size, ppl, *others = plain.verdicts
    texts = [dataclasses.replace(ppl, of=name, outcome=outcome) for name, outcome in outcomes.items()]
    return dataclasses.replace(plain, verdicts=(size, *texts, *others))


def test_every_text_counts_and_each_has_its_own_worst():
    cell = of_texts(a="pass", b="fail", c="informational")
    assert worst(cell, "perplexity_delta").of == "b"
    assert [worst(cell, "perplexity_delta", name).outcome for name in "abc"] == ["pass", "fail", "informational"]
    assert worst(cell, "perplexity_delta", "d") is None
    assert [(each.of, each.outcome) for each in of_each(cell, "perplexity_delta")] == [
        ("a", "pass"),
        ("b", "fail"),
        ("c", "informational"),
    ]
    strict = dataclasses.replace(cell.verdicts[1], outcome="fail", limit=0.1, given=True)
    both = dataclasses.replace(cell, verdicts=(*cell.verdicts, strict))
    assert [each.outcome for each in of_each(both, "perplexity_delta")] == ["fail", "fail", "informational"]
    assert worst(record("m", "pass"), "size_reduction_percent", "a").outcome == "pass"  # of no text


@pytest.mark.parametrize(
    ("outcomes", "told"),
    [
        ({"a": "pass", "b": "pass"}, "1 of 1 models meet all criteria"),
        ({"a": "pass", "b": "fail"}, "0 of 1 models meet all criteria, 1 do not, 0 undecided"),
        ({"a": "pass", "b": "undecided"}, "0 of 1 models meet all criteria, 0 do not, 1 undecided"),
        ({"a": "informational", "b": "pass"}, "not judged: perplexity delta vs BF16 on a (no limit)"),
        ({"a": "pass", "b": "informational"}, "not judged: perplexity delta vs BF16 on b (no limit)"),
        ({"a": "informational"}, "not judged: perplexity delta vs BF16 (no limit)"),
    ],
)
def test_all_criteria_are_those_on_every_text(outcomes, told):
    assert told in judge_suite("int4", [of_texts(**outcomes)]).sentence


DRAWS = 1000
TEXTS = ("a", "b", "c")


def suite_of_texts(deltas, draws):
    """Cells that differ in their samples only: of 30 windows on each text, whose mean difference has this truth, with
    a standard deviation of 1; the limit is 0 on all.
    """
    rng = np.random.default_rng(7)
    plain = record("m", "pass")
    rest = tuple(each for each in plain.verdicts if each.metric != "perplexity_delta")
    for _ in range(draws):
        verdicts = []
        for name, delta in zip(TEXTS, deltas, strict=True):
            values = rng.normal(delta, 1.0, 30)
            error = float(values.std(ddof=1) / np.sqrt(30))
            estimate = Student(value=float(values.mean()), standard_error=error, degrees=29)
            verdict = judged(METRICS["perplexity_delta"], estimate, 0.0, "", 0.05)
            verdicts.append(dataclasses.replace(verdict, of=name))
        yield dataclasses.replace(plain, verdicts=(*rest, *verdicts))


def rate(cells, holds):
    return float(np.mean([holds(cell) for cell in cells]))


def test_a_model_that_misses_one_of_three_limits_meets_all_in_at_most_one_of_twenty_draws():
    """However many texts there are: the one that is missed has to pass, too."""
    cells = list(suite_of_texts((0.0, -1.0, -1.0), DRAWS))
    met = rate(cells, lambda cell: judge_suite("int4", [cell]).met == 1)
    assert 0.03 < met < 0.05 + 2 * np.sqrt(0.05 * 0.95 / DRAWS)
    at_all = list(suite_of_texts((0.0, 0.0, 0.0), DRAWS // 4))
    assert rate(at_all, lambda cell: judge_suite("int4", [cell]).met == 1) < 0.01


def test_a_model_at_three_limits_fails_one_more_often_and_holm_holds_that_to_one_of_twenty():
    """Each verdict has its 5 %; together they are up to three times as often wrong, and the correction mends that."""
    cells = list(suite_of_texts((0.0, 0.0, 0.0), DRAWS))
    for name in TEXTS:
        wrong = rate(cells, lambda cell, name=name: worst(cell, "perplexity_delta", name).outcome == "fail")
        assert abs(wrong - 0.05) < 3 * np.sqrt(0.05 * 0.95 / DRAWS)
    any_of_them = rate(cells, lambda cell: worst(cell, "perplexity_delta").outcome == "fail")
    assert 0.11 < any_of_them < 0.15 + 2 * np.sqrt(0.15 * 0.85 / DRAWS)
    corrected = rate(cells, lambda cell: "fail" in holm_outcomes("int4", [cell]).values())
    assert 0.03 < corrected < 0.05 + 2 * np.sqrt(0.05 * 0.95 / DRAWS)


def test_throughput_is_not_lacking_where_nobody_deploys_what_it_runs_on():
    """There it is not judged, however it is."""
    slow = record("m", "pass")
    slow = dataclasses.replace(slow, verdicts=slow.verdicts[:3])
    assert lacking(slow) == ["throughput_ratio"]
    assert judge_suite("int4", [slow]).incomplete == 1
    machine = Machine(chip="A Chip", cores=2, memory_gb=8.0, os="Linux", backend="cpu", versions={})
    on_cpu = dataclasses.replace(slow, machine=dataclasses.replace(machine, judges_speed=False))
    assert lacking(dataclasses.replace(slow, machine=machine)) == ["throughput_ratio"]
    assert lacking(on_cpu) == []
    assert judge_suite("int4", [on_cpu]).met == 1
    assert lacking(dataclasses.replace(on_cpu, verdicts=slow.verdicts[:1])) == [
        "perplexity_delta",
        "accuracy_drop_points",
    ]


def test_how_far_a_figure_is_beyond_its_limit():
    """In limits, whichever side is the bad one."""
    rise = dataclasses.replace(make_verdict("perplexity_delta", "fail"), estimate=3.0, limit=1.0)
    small = dataclasses.replace(make_verdict("size_reduction_percent", "fail"), estimate=35.0, limit=70.0)
    assert beyond_limit(rise) == pytest.approx(2.0)
    assert beyond_limit(small) == pytest.approx(0.5)
    assert beyond_limit(dataclasses.replace(rise, estimate=0.5)) == pytest.approx(-0.5)
    assert beyond_limit(dataclasses.replace(rise, estimate=None)) == math.inf
    assert beyond_limit(dataclasses.replace(rise, limit=None)) == -math.inf
    assert beyond_limit(dataclasses.replace(rise, limit=0.0, estimate=0.2)) == pytest.approx(0.2)


def test_a_difference_is_that_of_the_look_that_decided():
    measured = make_perplexity(delta_interval=Interval(estimate=0.5, low=0.4, high=0.6))
    decided = dataclasses.replace(make_verdict("perplexity_delta"), estimate=0.45, low=0.2, high=0.7)
    judged = make_record(perplexity=measured, verdicts=(decided,))
    found = difference(judged, "perplexity_delta")
    assert (found.estimate, found.low, found.high) == (0.45, 0.2, 0.7)
    free = dataclasses.replace(judged, verdicts=(dataclasses.replace(decided, limit=None),))
    assert difference(free, "perplexity_delta") is measured.delta_interval
    overflows = dataclasses.replace(judged, verdicts=(dataclasses.replace(decided, low=None, high=None),))
    assert difference(overflows, "perplexity_delta") is None
    assert difference(make_record(), "accuracy_drop_points") is difference(make_record(), "throughput_ratio") is None
