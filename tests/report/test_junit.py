from typing import get_args

from builders import make_change, make_verdict

from pytest_quantbench.judge.change import Word
from pytest_quantbench.record.suite import SuiteVerdict
from pytest_quantbench.report import junit


def test_a_verdict_has_its_figures_in_its_own_unit():
    verdict = make_verdict("accuracy_drop_points", "undecided", of="arc_easy", items=200, p_good=0.2, p_bad=0.8)
    assert dict(junit.properties(verdict)) == {
        "quantbench_metric": "accuracy_drop_points",
        "quantbench_of": "arc_easy",
        "quantbench_limit": 2.0,
        "quantbench_estimate": 1.0,
        "quantbench_low": 0.5,
        "quantbench_high": 1.5,
        "quantbench_confidence": 0.9,
        "quantbench_items": 200,
        "quantbench_p_good": 0.2,
        "quantbench_p_bad": 0.8,
        "quantbench_sentence": "It is so.",
    }


def test_what_became_of_the_check_since_the_baseline_is_told_by_the_worst_of_its_figures():
    changes = (
        make_change("perplexity", "identical"),
        make_change("kl", sentence="KL +0.1: worse."),
        make_change("perplexity", of="fineweb", sentence="perplexity of fineweb +0.2: worse."),
    )
    told = dict(junit.properties(make_verdict("perplexity_delta", baseline=changes)))
    assert told["quantbench_baseline"] == "regression"
    assert told["quantbench_baseline_sentence"] == "KL +0.1: worse. perplexity of fineweb +0.2: worse."
    equal = dict(junit.properties(make_verdict("perplexity_delta", baseline=changes[:1])))
    assert equal["quantbench_baseline"] == "identical"
    assert not [name for name in dict(junit.properties(make_verdict("perplexity_delta"))) if "baseline" in name]
    assert set(junit.WORST_FIRST) == set(get_args(Word))


def test_zero_is_a_figure_and_what_is_lacking_is_left_out():
    verdict = make_verdict("perplexity_delta", estimate=0.0, low=None, high=None, limit=None)
    names = dict(junit.properties(verdict))
    assert names["quantbench_estimate"] == 0.0
    assert not {"quantbench_low", "quantbench_high", "quantbench_limit", "quantbench_of"} & set(names)


def test_a_verdict_over_models_counts_them():
    counts = {"models": 10, "met": 8, "failed": 1, "undecided": 1, "anomalous": 0, "incomplete": 0}
    verdict = SuiteVerdict(
        recipe="int4", level="int4", outcome="pass", sentence="8 of 10.", criteria=40, changed_by_holm=1, **counts
    )
    assert dict(junit.properties(verdict)) == {
        "quantbench_recipe": "int4",
        **{f"quantbench_{name}": count for name, count in counts.items()},
        "quantbench_sentence": "8 of 10.",
    }
