"""How sure a verdict is, in sentences, against the judge's probabilities and Holm's correction."""

from dataclasses import replace

import generated_suite
import pytest
from builders import make_record, make_verdict

from pytest_quantbench.catalog.criteria import asked_of
from pytest_quantbench.record.suite import holm_outcomes
from pytest_quantbench.report.html.how_sure import certainties, families

ASKED = asked_of("weights")


@pytest.fixture(scope="module")
def records():
    return generated_suite.records(3, ("int8", "int4", "int3", "int2"), tokens=1024, questions=100)


def told(verdict, **of_record):
    return certainties(make_record(recipe="int4", verdicts=(verdict,), **of_record), {})[0]


def test_one_sentence_says_how_sure_a_pass_and_a_fail_are():
    """By the p of the side that was not claimed: the other one is 1, and was read backwards."""
    found = replace(make_verdict("perplexity_delta"), estimate=0.1, low=0.0, high=0.2, p_good=0.0008, p_bad=1.0)
    said = told(found).alone
    really = "If it were really at the limit or worse, figures as good as these would come up in at most"
    assert said == f"{really} 0.08\u00a0% of tests."
    failed = replace(found, outcome="fail", p_good=1.0, p_bad=0.031)
    assert told(failed).alone.startswith("If it were really within the limit, figures as bad as these would come up in")
    assert "at most 3.1\u00a0% of tests" in told(failed).alone


def test_what_is_counted_and_what_is_open_need_no_probability():
    exact = replace(make_verdict("size_reduction_percent"), estimate=72.0, low=72.0, high=72.0, p_good=0.0, p_bad=1.0)
    assert told(exact).alone == "This is counted and not estimated: chance has no part in it."
    open_ = replace(make_verdict("perplexity_delta", "undecided"), low=0.9, high=1.1)
    assert "Its interval holds the limit" in told(open_).alone
    assert told(replace(make_verdict("perplexity_delta", "informational"), limit=None)).alone == ""


def test_every_verdict_says_whether_it_holds_with_all_others(records):
    found = families(records)
    seen = set()
    for record in records:
        corrected = holm_outcomes(record.recipe, records)
        sure = certainties(record, found[record.recipe])
        assert len(sure) == len(record.verdicts)
        for verdict, each in zip(record.verdicts, sure, strict=True):
            changed = corrected.get((record.model_id, verdict.criterion), verdict.outcome) != verdict.outcome
            assert each.taken_back == changed
            if verdict.outcome in ("pass", "fail") and verdict.low != verdict.high:
                begins = "By itself this verdict stands." if changed else "It holds even if"
                assert each.together.startswith(begins)
                assert f"all {len(corrected)} judged figures of {record.recipe}" in each.together
                seen.add(changed)
            else:
                assert each.together == ""
    assert seen == {True, False}


def test_a_figure_that_fewer_items_decided_is_told_over_all_of_them(records):
    seen = set()
    for record in records:
        for verdict, each in zip(record.verdicts, certainties(record, {}), strict=True):
            if verdict.metric != "perplexity_delta" or verdict.limit is None:
                continue
            fewer = verdict.items < record.perplexity.tokens
            seen.add(fewer)
            if not fewer:
                assert each.whole == ""
                continue
            assert each.whole.startswith(f"Decided after {verdict.items:,} of the {record.perplexity.tokens:,} tokens")
            whole = f"{record.perplexity.delta_interval.estimate:+.3f}".replace("-", "−")
            assert f"over all of them it is {whole} [" in each.whole
    assert True in seen


def test_metrics_are_all_sayable():
    for metric in ASKED:
        assert told(make_verdict(metric)).whole == ""
