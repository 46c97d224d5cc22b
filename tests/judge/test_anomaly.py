"""A candidate that is better than its reference: an outcome of its own, and no more often by chance than α says."""

import dataclasses

import numpy as np
import pytest
from builders import make_losses, make_task, make_verdict

from pytest_quantbench.catalog.criteria import METRICS
from pytest_quantbench.judge import accuracy_drop, anomaly, interim, rules
from pytest_quantbench.stats.estimates import ALPHA, Exact, Student
from pytest_quantbench.stats.proportions import flips

NOISE = np.random.default_rng(0).standard_normal(640)
PPL, DROP = METRICS["perplexity_delta"], METRICS["accuracy_drop_points"]


def losses(shift, limit=1.0, **rest):
    reference = make_losses(2 + 0.1 * NOISE)
    return rules.judge_perplexity(
        make_losses(2 + 0.1 * NOISE + shift + 0.1 * np.roll(NOISE, 7)), reference, limit, **rest
    )


@pytest.mark.parametrize(
    ("shift", "floor", "outcome"),
    [
        (-0.05, 0.01, "anomalous"),
        (-0.05, None, "pass"),  # our own recipes are not asked
        (-0.05, 0.5, "pass"),  # the floor is beyond
        (-0.05, 0.33, "pass"),  # the interval holds the floor
        (0.05, 0.01, "pass"),
        (0.5, 0.01, "fail"),
    ],
)
def test_the_whole_interval_has_to_lie_beyond_the_floor(shift, floor, outcome):
    verdict = losses(shift, floor=floor)
    assert verdict.outcome == outcome
    assert (verdict.p_better is None) == (floor is None)
    if outcome == "anomalous":
        assert verdict.high < -floor
        assert verdict.p_better < ALPHA
    elif floor == 0.33:
        assert verdict.low < -floor < verdict.high


def test_its_sentence_is_in_plain_words_with_the_gain_and_its_interval():
    verdict = losses(-0.05, floor=0.01)
    gain = f"better than its reference by {-verdict.estimate:.3f} [{-verdict.high:.3f}, {-verdict.low:.3f}]"
    rest = "beyond the noise floor of 0.01: another fine-tune, another reference, or the text was in its training."
    assert verdict.sentence.endswith(f"It is {gain}, {rest}")
    assert not verdict.needed


def test_more_right_answers_are_anomalous_too():
    reference = np.arange(400) % 2 == 0
    better = reference | (np.arange(400) % 5 == 1)
    verdict = accuracy_drop.judge_accuracy("t", make_task(better), make_task(reference), 3.0, floor=0.5)
    assert verdict.outcome == "anomalous"
    assert f"better than its reference by {-verdict.estimate:.1f} [" in verdict.sentence
    assert "points, beyond the noise floor of 0.5 points" in verdict.sentence
    assert "or the questions were in its training" in verdict.sentence
    plain = accuracy_drop.judge_accuracy("t", make_task(better), make_task(reference), 3.0)
    assert plain.outcome == "pass"


def test_a_candidate_that_beats_a_guessing_reference_is_anomalous_and_not_undecided():
    guessing, better = np.arange(400) % 4 == 0, np.arange(400) % 4 <= 2
    assert accuracy_drop.judge_accuracy("t", make_task(better), make_task(guessing), 3.0).outcome == "undecided"
    verdict = accuracy_drop.judge_accuracy("t", make_task(better), make_task(guessing), 3.0, floor=0.0)
    assert verdict.outcome == "anomalous"


def test_without_a_limit_it_is_told_all_the_same():
    assert losses(-0.05, None, floor=0.01).outcome == "anomalous"
    assert losses(0.05, None, floor=0.01).outcome == "informational"


def test_what_fails_by_a_limit_below_the_floor_fails():
    assert losses(-0.05, -5.0, floor=0.01).outcome == "fail"


@pytest.mark.parametrize(
    ("value", "floor", "outcome"), [(0.0, 0.0, "pass"), (-0.1, 0.1, "pass"), (-0.2, 0.1, "anomalous")]
)
def test_an_exact_figure_on_the_floor_is_not_beyond_it(value, floor, outcome):
    estimate = Exact(value=value)
    assert anomaly.of_candidate(rules.judged(PPL, estimate, 1.0, "", ALPHA), estimate, floor, ALPHA).outcome == outcome


def followed(gain, limit, rng, floor=0.0, sizes=(512, 1024, 2048, 4096, 8192, 16384), spread=20.0):
    """All looks at a candidate that is better by `gain`: growing data of independent items, of this spread."""
    items = rng.normal(-gain, spread, sizes[-1])
    looks = interim.Looks(sizes)
    while (wanted := looks.wanted) is not None:
        seen, alpha = looks.at(wanted)
        error = float(items[:seen].std(ddof=1)) / np.sqrt(seen)
        estimate = Student(value=float(items[:seen].mean()), standard_error=error, degrees=seen - 1)
        found = rules.judged(PPL, estimate, limit, "", alpha, seen)
        looks.add(seen, alpha, anomaly.of_candidate(found, estimate, floor, alpha))
    return looks.verdict


@pytest.mark.slow
@pytest.mark.parametrize("limit", [0.2, 0.6, 2.0, 100.0])  # errors of 0.88 at the first look, 0.16 at the last
def test_a_candidate_like_its_reference_is_anomalous_in_at_most_five_percent_of_runs(limit):
    """Whatever the limit does to when the looks end."""
    rng, runs = np.random.default_rng(1), 1500
    found = [followed(0.0, limit, rng).outcome for _ in range(runs)]
    assert found.count("anomalous") / runs < ALPHA + 3 * np.sqrt(ALPHA * (1 - ALPHA) / runs)


def test_on_the_floor_itself_too_and_well_below_it_next_to_never():
    rng, runs = np.random.default_rng(2), 1000
    on_it = [followed(0.3, 1.0, rng, floor=0.3).outcome for _ in range(runs)]
    assert 0.01 < on_it.count("anomalous") / runs < ALPHA + 3 * np.sqrt(ALPHA * (1 - ALPHA) / runs)
    worse = [followed(-0.3, 1.0, rng, floor=0.3).outcome for _ in range(200)]
    assert worse.count("anomalous") == 0


def test_with_answers_as_with_losses():
    """Right and wrong answers that flip both ways alike; looks as T3 has them."""
    rng, anomalous = np.random.default_rng(3), 0
    for _ in range(400):
        kind = rng.choice(3, 1600, p=[0.05, 0.05, 0.9])
        right = rng.random(1600) < 0.8
        before, after = (np.where(kind == lost, True, np.where(kind == 1 - lost, False, right)) for lost in (0, 1))
        looks = interim.Looks(interim.sizes(200, 1600))
        while (wanted := looks.wanted) is not None:
            items, alpha = looks.at(wanted)
            observed = flips(before[:items], after[:items])
            found = rules.judged(DROP, observed, 3.0, "", alpha, items)
            looks.add(items, alpha, anomaly.of_candidate(found, observed, 0.0, alpha))
        anomalous += looks.verdict.outcome == "anomalous"
    assert anomalous / 400 < ALPHA + 3 * np.sqrt(ALPHA * (1 - ALPHA) / 400)


def test_a_generous_limit_does_not_hide_what_more_samples_show():
    """Half a standard error of the first look better: it passes at once, and goes on since that is suspicious."""
    found = [followed(0.6, 100.0, np.random.default_rng(seed)) for seed in range(200)]
    shown = [verdict for verdict in found if verdict.outcome == "anomalous"]
    assert {verdict.outcome for verdict in found} == {"anomalous", "pass"}
    early = [look for verdict in shown for look in verdict.looks[:-1]]
    assert early
    assert {look.outcome for look in early} == {"pass"}
    never = [verdict for verdict in found if verdict.outcome == "pass"]
    assert all(verdict.p_better >= ALPHA or verdict.looks[-1].last for verdict in never)


def test_a_candidate_like_its_reference_seldom_pays_for_more_looks():
    found = [followed(0.0, 100.0, np.random.default_rng(seed)) for seed in range(400)]
    assert np.mean([len(verdict.looks) > 1 for verdict in found]) < ALPHA + 3 * np.sqrt(ALPHA * (1 - ALPHA) / 400)


def test_a_pass_is_suspicious_by_the_plain_level_only():
    passed = dataclasses.replace(make_verdict("perplexity_delta", limit=1.0), p_better=0.04)
    assert anomaly.is_suspicious(passed)
    assert not anomaly.is_suspicious(dataclasses.replace(passed, p_better=0.06))
    assert not anomaly.is_suspicious(dataclasses.replace(passed, p_better=None))
    assert not anomaly.is_suspicious(dataclasses.replace(passed, outcome="anomalous"))


def test_its_p_allows_for_the_looks():
    for seed in range(40):
        verdict = followed(0.6, 100.0, np.random.default_rng(seed))
        adjusted = interim.adjusted(verdict)
        assert adjusted.p_better >= verdict.p_better
        assert (adjusted.p_better < ALPHA) == (verdict.outcome == "anomalous")
