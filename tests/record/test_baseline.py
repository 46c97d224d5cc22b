"""A check of a session against a stored record of its cell."""

from dataclasses import replace

import numpy as np
import pytest
from generated_suite import cells, write

from pytest_quantbench.record.baseline import Baseline
from pytest_quantbench.record.folder_comparison import compare
from pytest_quantbench.record.pairing import Measured


@pytest.fixture(scope="module")
def suite():
    return cells(models=1, recipes=("int8", "int4"))


@pytest.fixture
def baseline(tmp_path, suite):
    write(tmp_path, suite)
    return Baseline(tmp_path)


def measured(suite, recipe="int4", nats=0.0):
    (record, arrays), *_ = (each for each in suite if each[0].recipe == recipe)
    losses = arrays["perplexity/nll_nats"]
    moved = losses + np.random.default_rng(0).normal(nats, nats, len(losses)).astype("f4")
    return Measured(record=record, arrays=arrays | {"perplexity/nll_nats": moved})


def test_each_check_has_its_own_figures(baseline, suite):
    now = measured(suite)
    figures = {
        check: baseline.changes(now, check, None, 9) for check in ("size", "perplexity", "accuracy", "throughput")
    }
    assert {check: [each.metric for each in found] for check, found in figures.items()} == {
        "size": ["size"],
        "perplexity": ["perplexity", "kl"],
        "accuracy": ["accuracy", "accuracy"],
        "throughput": ["throughput"],
    }
    assert {each.word for found in figures.values() for each in found} == {"identical"}


def test_a_regression_is_found_and_is_the_one_that_compare_finds(baseline, suite, tmp_path):
    now = measured(suite, nats=0.1)
    change, *_ = baseline.changes(now, "perplexity", None, 16)
    assert change.word == "regression"
    write(tmp_path / "now", [(now.record, now.arrays)])
    ((_, found),) = compare(tmp_path, tmp_path / "now").regressions
    assert (found.metric, found.estimate, found.floor) == (change.metric, change.estimate, change.floor)


def test_the_noise_floor_is_the_larger_one_of_both_runs(baseline, suite):
    (reference, _), *_ = suite
    stored = baseline.changes(measured(suite), "perplexity", None, 9)[0].floor
    now = replace(reference.noise_floor, perplexity_points=50.0)
    assert baseline.changes(measured(suite), "perplexity", now, 9)[0].floor > 10 * stored


def test_the_number_of_figures_counts_what_stored_records_have(baseline, suite):
    stems = [record.file_stem for record, _ in suite]
    assert baseline.figures(stems) == 5 + 6 + 6  # size, perplexity, two tasks, speed; KL of all but the reference
    assert baseline.figures([stems[1], "nobody_4bit"]) == 6
    assert baseline.all_figures(suite[0][0].model_id) == 17
    assert baseline.all_figures("nobody") == 0


def test_the_more_figures_the_more_it_takes(baseline, suite):
    now = measured(suite, nats=0.1)
    found = [baseline.changes(now, "perplexity", None, count)[0] for count in (1, 1000)]
    assert baseline.changes(now, "perplexity", None, None) == baseline.changes(now, "perplexity", None, 17)
    assert found[0].p_worse < found[1].p_worse
    assert found[0].detectable < found[1].detectable


def test_no_record_and_a_damaged_one_are_said(baseline, suite):
    path = baseline.directory / f"{measured(suite).record.file_stem}.json"
    path.write_text("{")
    (change,) = baseline.changes(measured(suite), "accuracy", None, 9)
    assert change.word == "not compared"
    assert str(path) in change.sentence
    path.unlink()
    (change,) = baseline.changes(measured(suite), "accuracy", None, 9)
    assert (
        change.sentence == f"accuracy drop: no record of {measured(suite).name} in the baseline {baseline.directory}."
    )
