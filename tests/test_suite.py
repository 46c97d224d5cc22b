"""All models of a level together."""

import dataclasses

import pytest

from pytest_quantbench.record import Record
from pytest_quantbench.suite import holm_outcomes, judge_suite
from pytest_quantbench.verdict import Verdict


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
        level=level,
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


def test_the_suite_does_not_judge_fewer_models_than_its_criterion_names():
    verdict = judge_suite("int4", [record("m", "pass")])
    assert (verdict.outcome, verdict.met) == ("informational", 1)
    assert "judged from 10 models on" in verdict.sentence


def test_a_model_with_unmeasured_criteria_does_not_meet_them():
    partial = record("m", "pass")
    bare = [Record(**{**{n: getattr(partial, n) for n in partial.__slots__}, "verdicts": partial.verdicts[:2]})]
    assert judge_suite("int4", bare).incomplete == 1


def with_p(model, p_good):
    plain = record(model, "pass")
    verdicts = tuple(dataclasses.replace(v, p_good=p_good, p_bad=1 - p_good) for v in plain.verdicts)
    return dataclasses.replace(plain, verdicts=verdicts)


def test_holm_makes_undecided_what_one_of_many_would_pass_by_chance():
    sure, narrow = with_p("sure", 1e-6), with_p("narrow", 0.02)
    outcomes = holm_outcomes("int4", [sure, narrow])
    assert outcomes["sure", ("perplexity_delta", "", None)] == "pass"
    assert outcomes["narrow", ("perplexity_delta", "", None)] == "undecided"
    assert "4 more are undecided" in judge_suite("int4", [sure, narrow]).sentence
    assert "Holm" not in judge_suite("int4", [sure]).sentence
