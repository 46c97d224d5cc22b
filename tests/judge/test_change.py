"""Verdicts on changes: words and sentences by known answers, and how often equal reruns of a suite are flagged."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_quantbench.judge.change import Pair, settle
from pytest_quantbench.judge.figures import FIGURES, shown, worsening
from pytest_quantbench.stats import series, speeds
from pytest_quantbench.stats.estimates import Exact, Interval, Ratio, Student
from pytest_quantbench.stats.proportions import Flips


def student(value, error=1.0, degrees=1000):
    return Student(value=value, standard_error=error, degrees=degrees)


def of(value, error=1.0, **changes):
    return Pair(metric="kl", estimate=student(value, error), **changes)


def words(*pairs, **more):
    return [change.word for change in settle(pairs, **more)]


@pytest.mark.parametrize(
    ("pair", "word"),
    [
        (of(3.0), "regression"),
        (of(1.0), "no difference can be told"),
        (of(-3.0), "better"),
        (of(3.0, floor=2.0), "no difference can be told"),
        (of(3.0, error=0.1, floor=2.0), "regression"),
        (of(-3.0, error=0.1, floor=2.0), "better"),
        (of(0.0, error=1e-300, identical=True), "identical"),
        (Pair(metric="kl", why="they read different texts."), "not compared"),
        (of(9.0, judged=False, why="on a CPU"), "not judged"),
        (Pair(metric="size", estimate=Exact(value=1e-9)), "regression"),
        (Pair(metric="size", estimate=Exact(value=1.0), floor=1.0), "no difference can be told"),
        (Pair(metric="size", estimate=Exact(value=-2.0)), "better"),
        (Pair(metric="perplexity", estimate=Exact(value=math.inf)), "regression"),
        (Pair(metric="accuracy", estimate=Flips(lost=20, gained=2, questions=200)), "regression"),
        (Pair(metric="accuracy", estimate=Flips(lost=0, gained=0, questions=200)), "no difference can be told"),
    ],
)
def test_the_word_follows_from_the_whole_interval_and_the_floor(pair, word):
    assert words(pair) == [word]


@pytest.mark.parametrize(("ratio", "word"), [(0.7, "regression"), (0.96, "no difference can be told"), (1.5, "better")])
def test_a_rate_is_worse_where_it_is_lower(ratio, word):
    pair = Pair(metric="throughput", estimate=Ratio(logarithm=student(math.log(ratio), 0.001)), floor=0.05)
    assert words(pair) == [word]


def test_a_figure_that_is_worse_by_itself_is_none_among_many_and_the_sentence_says_so():
    many = [of(2.0), *(of(0.0) for _ in range(30))]
    changes = settle(many)
    assert changes[0].word == "no difference can be told"
    assert "worse by itself, not as one of 31 comparisons" in changes[0].sentence
    assert words(many[0]) == ["regression"]
    assert words(many[0], comparisons=31) == ["no difference can be told"]


def test_what_is_identical_or_not_compared_takes_nothing_from_the_others():
    beside = [of(0.0, identical=True), Pair(metric="kl", why="why."), of(9.0, judged=False, why="why")] * 40
    assert words(of(2.0), *beside)[0] == "regression"


@given(st.lists(st.floats(-6, 6), min_size=1, max_size=12), st.integers(0, 12), st.data())
def test_a_part_that_knows_of_the_whole_flags_nothing_that_the_whole_does_not(values, more, data):
    """A session's check by itself, told how many figures there are, against all of them at once."""
    pairs = [of(value) for value in values]
    whole = [change.word for change in settle(pairs, comparisons=len(values) + more)]
    chosen = data.draw(st.sets(st.integers(0, len(values) - 1), min_size=1))
    part = [change.word for change in settle([pairs[i] for i in sorted(chosen)], comparisons=len(values) + more)]
    assert all(word == whole[i] for i, word in zip(sorted(chosen), part, strict=True) if word == "regression")


@given(st.lists(st.floats(-6, 6), min_size=1, max_size=12))
def test_single_checks_find_a_regression_exactly_where_all_at_once_do(values):
    """So that the exit codes of a session with a baseline and of `compare` are the same."""
    pairs = [of(value) for value in values]
    alone = [settle([pair], comparisons=len(pairs))[0].word for pair in pairs]
    assert ("regression" in alone) == ("regression" in words(*pairs))


def test_the_detectable_worsening_is_found_as_often_as_it_says():
    """80 %, of one among ten figures, and of a rate."""
    rng = np.random.default_rng(0)
    others = [of(0.0) for _ in range(9)]
    (change, *_) = settle([of(0.0, floor=0.5), *others])
    drawn = rng.normal(change.detectable, 1.0, 600)
    hits = sum(settle([of(value, floor=0.5), *others])[0].word == "regression" for value in drawn)
    assert hits / 600 == pytest.approx(0.8, abs=0.06)
    rate = Pair(metric="throughput", estimate=Ratio(logarithm=student(0.0, 0.02)), floor=0.05)
    share = settle([rate])[0].detectable
    slower = rng.normal(math.log(1 - share), 0.02, 600)
    pairs = [Pair(metric="throughput", estimate=Ratio(logarithm=student(v, 0.02)), floor=0.05) for v in slower]
    assert np.mean([words(pair) == ["regression"] for pair in pairs]) == pytest.approx(0.8, abs=0.06)


def test_what_the_base_never_had_is_not_missed():
    assert words(Pair(metric="kl", only_new=True, why="w."), Pair(metric="kl", why="w.")) == [
        "not in the base",
        "not compared",
    ]
    (change,) = settle([Pair(metric="throughput", judged=False, why="the machine was slower.")])
    assert (change.word, change.sentence) == ("not judged", "speed: the machine was slower.")


def test_sentences_tell_difference_interval_values_and_what_would_have_been_seen():
    (change,) = settle(
        [Pair(metric="perplexity", estimate=student(0.21, 0.05), base=3.752, new=3.965, items=2048, counted="tokens")]
    )
    assert change.sentence == ("perplexity +0.210 [+0.128, +0.292] (3.752 → 3.965) on the same 2,048 tokens: worse.")
    (change,) = settle([Pair(metric="accuracy", of="arc", estimate=student(0.2, 1.0), floor=0.1)])
    assert change.sentence == (
        "accuracy drop of arc +0.2 [-1.4, +1.8] points: no difference can be told; 2.6 points would have been seen."
    )
    (change,) = settle([Pair(metric="throughput", why="they ran on two machines.")])
    assert change.sentence == "speed: they ran on two machines."


@pytest.mark.parametrize(
    ("metric", "interval", "text"),
    [
        ("kl", (0.001, 0.0005, 0.0015), "+0.00100 [+0.00050, +0.00150] nats"),
        ("accuracy", (-0.01, -1.0, 1.0), "+0.0 [-1.0, +1.0] points"),
        ("throughput", (1.0, 1.0, 1.0), "1.000 ×"),
    ],
)
def test_figures_as_text(metric, interval, text):
    estimate, low, high = interval
    assert shown(Interval(estimate=estimate, low=low, high=high), FIGURES[metric]) == text


def test_a_worsening_in_words():
    told = {
        "perplexity": (0.0213, "0.021"),
        "kl": (1e-6, "1e-06 nats"),
        "accuracy": (1.26, "1.3 points"),
        "throughput": (0.07, "7 % slower"),
    }
    for metric, (size, text) in told.items():
        assert worsening(metric, size) == text


CELLS, TOKENS, QUESTIONS, PROMPTS = 6, 1024, 200, 5


def rerun(rng, noise_nats, flip_rate, damage=0.0):
    """The figures of a suite that was measured twice, the second time with other rounding: losses and divergences move
    a little, some answers flip either way, and every session's rates have a factor of their own within what probes let
    pass. `damage`: nats that the first cell has lost.
    """
    pairs = []
    for cell in range(CELLS):
        losses = rng.gamma(1.2, 1.6, TOKENS)
        divergence = rng.gamma(0.3, 0.01, TOKENS)
        lost = damage if cell == 0 else 0.0
        moved = losses + rng.standard_t(3, TOKENS) * noise_nats + rng.normal(lost, 3 * lost, TOKENS)
        estimate, _ = series.perplexity_delta(losses, moved)
        pairs.append(Pair(metric="perplexity", estimate=estimate))
        change = rng.standard_t(3, TOKENS) * noise_nats * np.sqrt(divergence)
        pairs.append(Pair(metric="kl", estimate=series.mean(change + rng.normal(lost, lost, TOKENS) ** 2)))
        flipped = rng.random(QUESTIONS) < flip_rate
        gains = int((rng.random(QUESTIONS)[flipped] < 0.5).sum())
        flips = Flips(lost=int(flipped.sum()) - gains, gained=gains, questions=QUESTIONS)
        pairs.append(Pair(metric="accuracy", estimate=flips))
        drift = rng.uniform(0.95, 1.05)
        runs = [
            [
                (prompt, rate * factor * rng.normal(1, 0.02))
                for prompt, rate in enumerate((30, 31, 29, 33, 28))
                for _ in range(3)
            ]
            for factor in (1.0, drift)
        ]
        pairs.append(Pair(metric="throughput", estimate=speeds.unpaired_ratio(*runs), floor=0.05))
    return pairs


@pytest.mark.parametrize(
    ("noise_nats", "flip_rate"),
    [(1e-6, 0.0), pytest.param(1e-3, 0.02, marks=pytest.mark.slow), pytest.param(0.1, 0.1, marks=pytest.mark.slow)],
)
def test_an_equal_rerun_of_a_whole_suite_is_flagged_in_at_most_five_percent(noise_nats, flip_rate):
    """24 figures each; without any floor but that of the rates. From another machine's floats to other weights that are
    as good.
    """
    rng = np.random.default_rng(3)
    runs = 200
    flagged = sum("regression" in words(*rerun(rng, noise_nats, flip_rate)) for _ in range(runs))
    assert flagged / runs <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / runs)


def test_planted_damage_is_found_among_all_the_others():
    """A cell that lost 0.03 nats per token, as a layer of 2 bits loses, in a suite of 24 figures: nine times of ten."""
    rng = np.random.default_rng(4)
    found = sum("regression" in words(*rerun(rng, 1e-3, 0.02, damage=0.03)) for _ in range(60))
    assert found >= 54


def test_without_holm_more_than_five_percent_would_be_flagged():
    """What the correction is for."""
    rng = np.random.default_rng(5)
    runs = [rerun(rng, 0.1, 0.1) for _ in range(60)]
    plain = sum(any(words(pair) == ["regression"] for pair in pairs if pair.estimate) for pairs in runs)
    assert plain / 60 > 0.2


def test_accuracies_are_told_in_percent():
    lost = Flips(lost=20, gained=2, questions=200)
    (change,) = settle([Pair(metric="accuracy", base=0.9083, new=0.88, estimate=lost, of="tiny_facts")])
    assert "(90.83 → 88.00 %)" in change.sentence
