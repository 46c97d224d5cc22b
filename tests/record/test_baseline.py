"""A check of a session against a stored record of its cell."""

from dataclasses import replace

import numpy as np
import pytest
from builders import make_verdict
from generated_suite import cells, write

from pytest_quantbench.catalog.criteria import metric_of
from pytest_quantbench.errors import QuantbenchError
from pytest_quantbench.record.baseline import Baseline
from pytest_quantbench.record.folder_comparison import compare
from pytest_quantbench.record.pairing import Measured
from pytest_quantbench.record.schema import read


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


def as_judged(cell, baseline, figures, checks=("size", "perplexity", "accuracy", "throughput")):
    """A record of which a session's checks were held against the baseline, as they came."""
    record, arrays = cell
    now, verdicts = Measured(record=record, arrays=arrays), []
    for check in checks:
        verdict = replace(make_verdict(metric_of(check)), baseline=baseline.changes(now, check, None, figures))
        verdicts.append(verdict)
    return replace(record, verdicts=tuple(verdicts)), arrays


def moved(cell, points, seed=0):
    """The cell with losses that are worse by so many of their own standard errors, and not by one block alone."""
    record, arrays = cell
    losses = arrays["perplexity/nll_nats"]
    noise = np.random.default_rng(seed).normal(0, 0.5, len(losses))
    noise += points * 0.5 / np.sqrt(len(losses)) - noise.mean()
    return record, arrays | {"perplexity/nll_nats": (losses + noise).astype("f4")}


def session(tmp_path, baseline, suite, stems):
    paths = write(tmp_path / "now", [as_judged(cell, baseline, baseline.figures(stems)) for cell in suite])
    return baseline.settle_all(paths), paths


def test_one_of_many_cells_that_alone_has_changed_is_found_at_the_end_as_compare_finds_it(tmp_path):
    """One text of one cell is worse by three standard errors, all else the same: 1 figure of 58 that are stored."""
    before = cells(models=2, recipes=("int8", "int4", "int3", "int2-vptq"), tokens=1024)
    baseline = Baseline(tmp_path / "before")
    write(baseline.directory, before)
    now = [moved(cell, 3.2) if place == 2 else cell for place, cell in enumerate(before)]
    stems = [record.file_stem for record, _ in before]
    by_itself, _ = as_judged(now[2], baseline, baseline.figures(stems))
    assert not any(verdict.regressions for verdict in by_itself.verdicts)
    held, paths = session(tmp_path, baseline, now, stems)
    found = compare(baseline.directory, tmp_path / "now")
    assert held.comparison.regressions == found.regressions
    assert [change.metric for _, change in found.regressions] == ["perplexity"]
    assert not held.passes
    told = [change for path in paths for verdict in read(path).verdicts for change in verdict.baseline]
    assert [change for change in told if change.word == "regression"] == [change for _, change in found.regressions]
    assert {verdict.metric for verdict in read(paths[2]).verdicts if verdict.regressions} == {"perplexity_delta"}


@pytest.mark.slow
def test_at_most_one_in_twenty_equal_reruns_of_a_session_fails_and_each_as_compare_has_it(tmp_path):
    """Every cell's losses move by noise without direction; a check's own finding is one of the whole."""
    before = cells(models=1, recipes=("int8", "int4"), tokens=512)
    baseline = Baseline(tmp_path / "before")
    write(baseline.directory, before)
    stems, failed, sessions = [record.file_stem for record, _ in before], 0, 12
    for number in range(sessions):
        rng = np.random.default_rng(number)
        now = [moved(cell, rng.normal(), seed=100 * number + place) for place, cell in enumerate(before)]
        held, _ = session(tmp_path / f"{number}", baseline, now, stems)
        assert held.comparison.regressions == compare(baseline.directory, tmp_path / f"{number}" / "now").regressions
        early = [as_judged(cell, baseline, baseline.figures(stems))[0] for cell in now]
        names = {name for name, _ in held.comparison.regressions}
        assert {f"{r.model_id}-{r.recipe}" for r in early for v in r.verdicts if v.regressions} <= names
        failed += not held.passes
    assert failed <= 3  # of 12 at 5 %: more in 0.2 % of cases


def test_a_cell_that_cannot_be_compared_fails_a_new_one_does_not_and_a_session_of_new_ones_does(tmp_path, suite):
    baseline = Baseline(tmp_path / "before")
    write(baseline.directory, suite[:2])
    held, paths = session(tmp_path, baseline, suite, [])
    assert (held.passes, held.uncompared, held.comparison.only_new) == (True, (), (measured(suite).name,))
    (baseline.directory / f"{suite[1][0].file_stem}.json").write_text("{")
    held = baseline.settle_all(paths)
    assert (held.passes, held.uncompared) == (False, (measured(suite, "int8").name,))
    assert not baseline.settle_all(paths[2:]).passes
    assert not baseline.settle_all([]).passes


def test_figures_of_checks_that_the_session_did_not_judge_are_left_out(baseline, suite, tmp_path):
    worse = moved(suite[2], 50)
    paths = write(tmp_path / "now", [as_judged(worse, baseline, 9, checks=("size", "accuracy"))])
    held = baseline.settle_all(paths)
    assert {change.metric for change in held.comparison.cells[0].changes} == {"size", "accuracy"}
    assert held.passes


def test_a_baseline_is_refused_only_where_no_cell_has_a_record_that_can_be_read(baseline, suite):
    stems = [record.file_stem for record, _ in suite]
    baseline.refuse_strangers([stems[0], "nobody_4bit"])
    with pytest.raises(QuantbenchError, match="it has none of nobody_4bit, other_4bit"):
        baseline.refuse_strangers(["nobody_4bit", "other_4bit"])
    (baseline.directory / f"{stems[0]}.json").write_text("{")
    with pytest.raises(QuantbenchError, match=f"{stems[0]} cannot be read"):
        baseline.refuse_strangers([stems[0], "nobody_4bit"])
