"""T2 by depth as a verdict: all depths have to pass, and one that fails has to survive Holm's correction."""

from dataclasses import replace

import numpy as np
import pytest
from builders import make_losses
from scipy import stats

from pytest_quantbench.errors import ComparisonError
from pytest_quantbench.judge.depth import METRIC, by_depth, judge_depth
from pytest_quantbench.judge.rules import show
from pytest_quantbench.measures.perplexity.windows import grid
from pytest_quantbench.stats import series
from pytest_quantbench.stats.window_sampling import Drawn, order

WINDOWS, CONTEXT = 12, 2048
DEPTHS = np.tile(np.arange(1, CONTEXT + 1, dtype=np.int32), WINDOWS)
COUNTS = np.full(WINDOWS, CONTEXT)
DRAWN = Drawn(population=100, tokens=CONTEXT, begins=np.cumsum(COUNTS) - COUNTS, counts=COUNTS)


def losses(deep=0.0, seed=0, spread=0.05, windows=0.02):
    """Reference and quantized: whose tokens beyond 1,024 lose `deep` nats, with noise of tokens and of windows."""
    rng = np.random.default_rng(seed)
    before = rng.gamma(2.0, 1.0, len(DEPTHS))
    shift = np.repeat(rng.normal(0, windows, WINDOWS), CONTEXT)
    after = before + rng.normal(0, spread, len(DEPTHS)) + shift + deep * (DEPTHS > 1024)
    found = {"depths": DEPTHS, "drawn": DRAWN, "available_tokens": 10**6}
    return make_losses(after, **found), make_losses(before, **found)


def test_every_depth_has_the_delta_of_its_own_tokens():
    quantized, reference = losses(deep=0.5)
    found = by_depth(quantized, reference)
    assert [each.stratum.name for each in found] == ["0–512", "512–1k", "1k–2k"]
    for each, low in zip(found, (0, 512, 1024), strict=True):
        chosen = (low < DEPTHS) & (max(512, 2 * low) >= DEPTHS)
        before, after = (float(np.exp(np.mean(s.nll_nats[chosen], dtype=float))) for s in (reference, quantized))
        assert each.delta.value == pytest.approx(after - before, rel=1e-6)
        assert (each.ppl, each.reference_ppl) == pytest.approx((after, before))
    assert found[2].delta.value > 2 > found[1].delta.value + 1


def test_it_passes_where_all_depths_do_at_the_full_error_probability():
    quantized, reference = losses()
    verdict = judge_depth(quantized, reference, 1.0)
    each = [found.delta for found in by_depth(quantized, reference)]
    assert verdict.outcome == "pass"
    assert verdict.p_good == max(delta.p_below(1.0) for delta in each) < 0.05
    assert verdict.high < 1.0
    for name in ("0–512", "512–1k", "1k–2k", "Holm over 3"):
        assert name in verdict.sentence


def test_one_depth_that_is_beyond_the_limit_fails_it_and_is_named():
    quantized, reference = losses(deep=0.5)
    verdict = judge_depth(quantized, reference, 1.0)
    p = [found.delta.p_above(1.0) for found in by_depth(quantized, reference)]
    assert verdict.outcome == "fail"
    assert verdict.p_bad == pytest.approx(min(series.holm(p))) == pytest.approx(min(1.0, 3 * min(p)))
    assert verdict.low > 1.0
    assert "at 1k–2k tokens" in verdict.sentence
    assert verdict.value == pytest.approx(verdict.reference_value + verdict.estimate)


def test_a_depth_on_the_limit_leaves_it_undecided_and_its_interval_holds_the_limit():
    quantized, reference = losses(deep=0.13, windows=0.1)
    limit = by_depth(quantized, reference)[2].delta.value
    verdict = judge_depth(quantized, reference, limit)
    assert verdict.outcome == "undecided"
    assert verdict.low < limit < verdict.high
    assert "at 1k–2k tokens" in verdict.sentence
    assert verdict.needed


def test_what_only_holm_takes_back_is_undecided():
    """One depth is beyond the limit by itself at 5 %, and not at 5 % over three."""
    quantized, reference = losses(deep=0.13, windows=0.1)
    delta = by_depth(quantized, reference)[2].delta
    limits = np.linspace(delta.interval(0.05).low, delta.interval(0.05 / 3).low, 5)[1:-1]
    for limit in limits:
        assert delta.p_above(limit) < 0.05
        verdict = judge_depth(quantized, reference, float(limit))
        assert verdict.outcome == "undecided"
        assert verdict.low < limit < verdict.high


def test_a_false_fail_is_as_rare_as_it_says():
    """At a limit that every depth is exactly on, some depth fails in about 5 % of texts at most."""
    rng, fails = np.random.default_rng(1), 0
    for _ in range(400):
        p = [float(stats.t.sf(stats.t.rvs(WINDOWS - 1, random_state=rng), WINDOWS - 1)) for _ in range(3)]
        fails += min(series.holm(p)) < 0.05
    assert stats.binom.sf(fails - 1, 400, 0.05) > 0.01


def test_a_depth_with_too_few_windows_is_undecided_and_named():
    quantized, reference = (each.first(3 * CONTEXT) for each in losses())
    first = np.arange(3 * CONTEXT) < CONTEXT
    short = {"depths": DEPTHS[: 3 * CONTEXT] + 1024 * first}
    verdict = judge_depth(replace(quantized, **short), replace(reference, **short), 1.0)
    assert verdict.outcome == "undecided"
    assert "at 2k–4k there are too few tokens to tell" in verdict.sentence


def strided(seed, context=2048, stride=64, tokens=16_384, available=300_000):
    """The depths of windows that overlap, as they are drawn, and the draw."""
    cut = grid(available, context, stride, True)
    chosen = [cut[place] for place in order(len(cut), seed)[: tokens // stride]]
    depths = np.concatenate([np.arange(w.first, w.end) - w.begin + 1 for w in chosen]).astype(np.int32)
    begins, counts = np.array([w.first for w in chosen]), np.array([w.scored for w in chosen])
    return depths, Drawn(population=len(cut), tokens=stride, begins=begins, counts=counts)


def test_a_stray_window_near_the_beginning_of_a_text_is_told_and_not_judged():
    """Of 4,657 windows that overlap, eight have up to 512 tokens in front of them and eight more up to 1,024. Whether
    one of these is drawn is chance, and had left 22 of these 30 draws undecided for good.
    """
    strays = 0
    for seed in range(30):
        depths, drawn = strided(seed)
        rng = np.random.default_rng(seed)
        before = rng.gamma(2.0, 1.0, len(depths))
        after = before + rng.normal(0, 0.02, len(depths))
        found = {"depths": depths, "drawn": drawn, "available_tokens": 300_000}
        verdict = judge_depth(make_losses(after, **found), make_losses(before, **found), 1.0)
        assert verdict.outcome == "pass", verdict.sentence
        assert "Holm over 1" in verdict.sentence
        strays += "a stray 64 tokens, not judged" in verdict.sentence
    assert strays > 5


def test_what_the_cache_never_reached_is_told_and_not_judged():
    """Losses that are the reference's to the last bit there are no evidence, and no reason to stay undecided."""
    quantized, reference = losses(deep=0.5)
    shallow = DEPTHS <= 512
    after = np.where(shallow, reference.nll_nats, quantized.nll_nats)
    untouched = replace(quantized, nll_nats=after, engaged=~shallow)
    verdict = judge_depth(untouched, reference, 1.0)
    assert verdict.outcome == "fail"
    assert "0–512 not reached by the cache, not judged" in verdict.sentence
    assert "Holm over 2" in verdict.sentence
    verdict = judge_depth(untouched, reference, 100.0)
    assert (verdict.outcome, verdict.p_good < 0.05) == ("pass", True)
    without = judge_depth(replace(untouched, engaged=np.zeros(0, bool)), reference, 100.0)
    assert without.outcome == "undecided"


def test_without_depths_nothing_is_decided_and_without_a_limit_nothing_is_judged():
    quantized, reference = losses()
    assert judge_depth(replace(quantized, depths=DEPTHS[:0]), reference, 1.0).outcome == "undecided"
    shown = judge_depth(quantized, reference, None)
    assert (shown.outcome, shown.limit) == ("informational", None)
    assert shown.estimate == pytest.approx(max(each.delta.value for each in by_depth(quantized, reference)))


def test_the_very_same_losses_are_refused():
    _, reference = losses()
    with pytest.raises(ComparisonError, match="bit-identical"):
        judge_depth(reference, reference, 1.0)


def test_a_figure_has_one_interval_in_a_sentence():
    quantized, reference = losses()
    for alpha in (0.05, 0.004):
        sentence = judge_depth(quantized, reference, 1.0, alpha).sentence
        worst = max(by_depth(quantized, reference), key=lambda each: each.p_good(1.0))
        assert sentence.count(show(worst.delta.interval(alpha), METRIC)) == 2
