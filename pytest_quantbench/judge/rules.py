"""Criterion × samples × reference samples → verdict. Touches no model and no file.

`pass` only where the whole interval is on the good side of the limit, `fail` only where it is wholly on the bad
side, `undecided` otherwise; `informational` where there is no limit or the metric does not apply here; `anomalous` for
a candidate that is better than its reference by more than the noise floor (see anomaly). `alpha` is the error
probability on either side: less than 5 % where the data are looked at several times (see interim).
"""

import numpy as np

from pytest_quantbench.catalog.criteria import METRICS, Metric
from pytest_quantbench.errors import ComparisonError
from pytest_quantbench.judge.anomaly import of_candidate
from pytest_quantbench.judge.verdict import Outcome, Verdict
from pytest_quantbench.measures.samples import PerplexitySamples, SizeSamples
from pytest_quantbench.stats import series
from pytest_quantbench.stats.estimates import ALPHA, Estimate, Exact, Interval


def judge_size(samples: SizeSamples, limit: float | None) -> Verdict:
    """Size is exact: its interval has no width, and meeting the limit exactly is good enough."""
    reduction = 100 * (1 - samples.stored_bytes / samples.bf16_bytes)
    return judged(METRICS["size_reduction_percent"], Exact(value=reduction), limit, "", ALPHA)


def judge_perplexity(
    quantized: PerplexitySamples,
    reference: PerplexitySamples,
    limit: float | None,
    alpha: float = ALPHA,
    floor: float | None = None,
) -> Verdict:
    """The paired perplexity delta; `floor`: of a candidate, what noise alone changes. One that decodes to the
    reference's very weights, and has its losses, has a delta of 0 without an error. Raises ComparisonError for other
    tokens, and for bit-identical samples of all others.
    """
    same_weights = floor is not None and quantized.weights_sha256 == reference.weights_sha256
    refuse_incomparable(quantized, reference, same_weights=same_weights)
    metric, tokens = METRICS["perplexity_delta"], len(quantized.nll_nats)
    ppl_r, ppl_q = series.perplexity(reference.nll_nats), series.perplexity(quantized.nll_nats)
    if same_weights and np.array_equal(quantized.nll_nats, reference.nll_nats):
        same = f"its decoded weights are the reference's to the last bit, and so are its losses on {tokens} tokens"
        return judged(metric, Exact(value=0.0), limit, same, alpha, tokens)
    if ppl_r is None:
        raise ComparisonError("The reference's own perplexity overflows: nothing can be compared with it.")
    drawn = quantized.drawn
    if ppl_q is None and (tokens >= 2 * series.BLOCK_TOKENS if drawn is None else len(drawn.counts) > 1):
        nats = float(np.mean(quantized.nll_nats, dtype=np.float64))
        sentence = f"The mean negative log-likelihood is {nats:.0f} nats per token: its perplexity overflows."
        return bare(metric, None, limit, sentence, "fail", tokens)
    estimate, _ = series.perplexity_delta(reference.nll_nats, quantized.nll_nats, drawn)
    shown = "overflowing" if ppl_q is None else f"{ppl_q:.3f}"
    detail = f"perplexity {shown} against {ppl_r:.3f} on the same {tokens} tokens, {quantized.where}"
    if estimate is None or ppl_q is None:
        least = f"{2 * series.BLOCK_TOKENS} tokens" if drawn is None else "two windows"
        why = f"{detail}: fewer than {least}, or all with the same loss"
        return bare(metric, None if ppl_q is None else ppl_q - ppl_r, limit, why, "undecided", tokens)
    whole = None if drawn is None else quantized.available_tokens
    return of_candidate(judged(metric, estimate, limit, detail, alpha, tokens, whole), estimate, floor, alpha)


def refuse_incomparable(quantized: PerplexitySamples, reference: PerplexitySamples, *, same_weights: bool) -> None:
    """Raise ComparisonError for other texts or windows, and for losses that are the reference's to the last bit where
    weights are not.
    """
    if quantized.protocol_sha256 != reference.protocol_sha256:
        raise ComparisonError(
            f"Perplexities of different protocols or texts: {quantized.protocol!r} on {quantized.corpus} and "
            f"{reference.protocol!r} on {reference.corpus}."
        )
    if not same_weights and np.array_equal(quantized.nll_nats, reference.nll_nats):
        raise ComparisonError(
            "The quantized model's negative log-likelihoods are bit-identical to the reference's: the compressed "
            "weights were not evaluated, or the encoding lost nothing at all. Look at weights_sha256 of both records."
        )


def refuse_identical(
    name: str,
    samples: PerplexitySamples,
    other_name: str,
    other: PerplexitySamples,
    *,
    may_share_weights: bool = False,
) -> None:
    """Raise ComparisonError where two recipes of different width gave bit-identical losses on their common tokens.
    `may_share_weights`: of one that is a candidate, whose decoded weights may be the other's in another encoding.
    """
    if may_share_weights and samples.weights_sha256 == other.weights_sha256:
        return
    common = min(len(samples.nll_nats), len(other.nll_nats))
    if np.array_equal(samples.nll_nats[:common], other.nll_nats[:common]):
        raise ComparisonError(
            f"{name} and {other_name} have different widths, and bit-identical negative log-likelihoods on "
            f"{common} tokens: one and the same model was evaluated twice. Look at weights_sha256 of both records."
        )


def informational(metric: str, sentence: str) -> Verdict:
    """A verdict that judges nothing and says why."""
    return bare(METRICS[metric], None, None, sentence, "informational", None)


def bare(
    metric: Metric, estimate: float | None, limit: float | None, sentence: str, outcome: Outcome, items: int | None
) -> Verdict:
    """A verdict without an interval. Without a limit it is informational whatever `outcome` says."""
    return Verdict(
        metric=metric.name,
        outcome="informational" if limit is None else outcome,
        limit=limit,
        estimate=estimate,
        low=None,
        high=None,
        sentence=sentence,
        items=items,
        p_good=None if limit is None else 1.0,
        p_bad=None if limit is None else 0.0 if outcome == "fail" else 1.0,
    )


def judged(
    metric: Metric,
    estimate: Estimate,
    limit: float | None,
    detail: str,
    alpha: float,
    items: int | None = None,
    whole: int | None = None,
    available: int | None = None,
) -> Verdict:
    """The rule itself: which side of the limit the estimate's interval lies on, at error probability `alpha`. `items`
    are what it comes from, `whole` those of the text that it was drawn from and holds for, and `available` those that
    there are to be had.
    """
    interval = estimate.interval(alpha)
    sentence = f"{metric.label} {show(interval, metric)}"
    p_good = p_bad = detectable = None
    outcome: Outcome = "informational"
    if limit is not None:
        sentence += f", limit {'≥' if metric.better == 'higher' else '<'} {limit:g} {metric.unit}".rstrip()
        sides = estimate.p_below(limit), estimate.p_above(limit)
        p_good, p_bad = sides if metric.better == "lower" else sides[::-1]
        outcome = "pass" if p_good < alpha else "fail" if p_bad < alpha else "undecided"
        detectable = estimate.detectable(limit)
    return Verdict(
        metric=metric.name,
        outcome=outcome,
        limit=limit,
        estimate=interval.estimate,
        low=interval.low,
        high=interval.high,
        sentence=sentence + (f" ({detail})" if detail else "") + ".",
        confidence=interval.confidence,
        needed=_needed(metric, interval, limit, detectable, items, whole, available) if outcome == "undecided" else "",
        items=items,
        p_good=p_good,
        p_bad=p_bad,
        detectable=detectable,
    )


def _needed(
    metric: Metric,
    interval: Interval,
    limit: float | None,
    detectable: float | None,
    items: int | None,
    whole: int | None,
    available: int | None,
) -> str:
    """What would settle an undecided verdict, and what could have been settled."""
    assert limit is not None
    assert detectable is not None
    if items is None:
        return ""
    more = series.items_needed(items, interval, limit, whole)
    on_it = f"the estimate lies on the limit itself, and no number of {metric.items} would settle it"
    found = on_it if more is None else enough(metric.items, more, available)
    if more is not None and more == whole:
        found = f"all {more:,} {metric.items} of the text settle it"
    if metric.check == "throughput":  # prompts that disagree go on disagreeing however often they are run
        found = "more runs help as far as the prompts agree with each other"
    digits = 1 if metric.unit in ("%", "points") else 3
    unit = f" {metric.unit}".rstrip()
    if metric.unit == "points" and detectable > 100:
        return f"{found}; these {items:,} can tell nothing"
    told = f"{detectable:.{digits}f}{unit} from the limit in four of five cases"
    return f"{found}; these {items:,} can tell a difference of {told}"


def enough(items: str, more: int, available: int | None) -> str:
    """How many items would do, and whether there are so many."""
    told = f"about {more:,} {items} would settle it"
    if available is None or more <= available:
        return told
    return f"{told}, more than the {available:,} that there are, so that these {items} alone cannot settle it"


def show(interval: Interval, metric: Metric) -> str:
    """`0.31 [0.12, 0.50] points`: an estimate with its interval, or the bare number where the interval has no width."""
    digits = 1 if metric.unit in ("%", "points") else 3
    text = f"{interval.estimate:z.{digits}f}"
    if interval.low != interval.high:
        text += f" [{interval.low:z.{digits}f}, {interval.high:z.{digits}f}]"
    usual = interval.low == interval.high or abs(interval.confidence - (1 - 2 * ALPHA)) < 1e-3
    percent = 100 * interval.confidence
    sure = f"{percent:.1f} %" if percent < 99.95 else "over 99.9 %"
    return f"{text} {metric.unit}".rstrip() + ("" if usual else f" (confidence {sure})")
