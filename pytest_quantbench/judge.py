"""Criterion × samples × reference samples → verdict. Touches no model and no file.

`pass` only where the whole interval is on the good side of the limit, `fail` only where it is wholly on the bad
side, `undecided` otherwise; `informational` where there is no limit or the metric does not apply here.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pytest_quantbench import stats
from pytest_quantbench.catalog import METRICS, SUITE_CRITERIA, Metric
from pytest_quantbench.errors import ComparisonError
from pytest_quantbench.record import Interval, Outcome, Record, Verdict
from pytest_quantbench.samples import PerplexitySamples, SizeSamples, TaskSamples, ThroughputSamples


def judge_size(samples: SizeSamples, limit: float | None) -> Verdict:
    """Size is exact: its interval has no width, and meeting the limit exactly is good enough."""
    reduction = 100 * (1 - samples.stored_bytes / samples.bf16_bytes)
    exact = Interval(estimate=reduction, low=reduction, high=reduction)
    return _verdict(METRICS["size_reduction_percent"], exact, limit, "", "")


def judge_perplexity(quantized: PerplexitySamples, reference: PerplexitySamples, limit: float | None) -> Verdict:
    """The paired perplexity delta. Raises ComparisonError for other tokens or for bit-identical samples."""
    _refuse_incomparable(quantized, reference)
    metric, tokens = METRICS["perplexity_delta"], len(quantized.nll_nats)
    ppl_r, ppl_q = stats.perplexity(reference.nll_nats), stats.perplexity(quantized.nll_nats)
    if ppl_q is None or ppl_r is None:
        nats = float(np.mean(quantized.nll_nats, dtype=np.float64))
        outcome: Outcome = "informational" if limit is None else "fail"
        sentence = f"The mean negative log-likelihood is {nats:.0f} nats per token: its perplexity overflows."
        return Verdict(
            metric=metric.name, outcome=outcome, limit=limit, estimate=None, low=None, high=None, sentence=sentence
        )
    interval = stats.perplexity_delta(reference.nll_nats, quantized.nll_nats)
    detail = f"perplexity {ppl_q:.3f} against {ppl_r:.3f} on the same {tokens} tokens"
    if interval is None:
        return _too_few(metric, ppl_q - ppl_r, limit, f"{detail}: fewer than {2 * stats.BLOCK_TOKENS} tokens")
    return _verdict(metric, interval, limit, detail, _needed(tokens, interval, limit, "tokens (--tokens)"))


def _refuse_incomparable(quantized: PerplexitySamples, reference: PerplexitySamples) -> None:
    if quantized.corpus_sha256 != reference.corpus_sha256 or quantized.protocol != reference.protocol:
        raise ComparisonError(
            f"Perplexities of different protocols: {quantized.protocol!r} and {reference.protocol!r}."
        )
    if np.array_equal(quantized.nll_nats, reference.nll_nats):
        raise ComparisonError(
            "The quantized model's negative log-likelihoods are bit-identical to the reference's: the compressed "
            "weights were not evaluated, or the encoding lost nothing at all. Look at weights_sha256 of both records."
        )


def judge_accuracy(name: str, quantized: TaskSamples, reference: TaskSamples, limit: float | None) -> Verdict:
    """The paired accuracy drop in percentage points. Raises ComparisonError if the questions are not the same."""
    if quantized.sha256 != reference.sha256 or quantized.ids != reference.ids:
        raise ComparisonError(f"{name}: the reference answered other questions than the quantized model.")
    observed = stats.flips(reference.correct, quantized.correct)
    interval = points(stats.tango(observed))
    n = observed.questions
    detail = (
        f"{name} {np.mean(quantized.correct):.1%} against {np.mean(reference.correct):.1%} on the same {n} questions, "
        f"{observed.lost} lost and {observed.gained} gained"
    )
    more = _needed(n, interval, limit, "questions (--limit)")
    return _verdict(METRICS["accuracy_drop_points"], interval, limit, detail, more)


def judge_throughput(
    quantized: ThroughputSamples, reference: ThroughputSamples, limit: float | None, applies: bool
) -> Verdict:
    """The speed ratio, paired by prompt; informational where `applies` is false (a backend nobody deploys on)."""
    metric = METRICS["throughput_ratio"]
    ratio, prompts = speed_ratio(quantized, reference)
    detail = f"{mean_rate(quantized):.1f} tokens per second over {len(quantized.runs)} runs of {prompts} prompts"
    if not applies:
        detail += "; not judged on a CPU, whose MLX kernels nobody deploys"
    if ratio is None:
        return _too_few(metric, None, limit if applies else None, f"{detail}: fewer than two prompts")
    more = _needed(prompts, ratio, limit, "prompts")
    return _verdict(metric, ratio, limit if applies else None, detail, more)


def speed_ratio(quantized: ThroughputSamples, reference: ThroughputSamples) -> tuple[Interval | None, int]:
    """Interval of the speed ratio and the number of prompts; interleaved reference runs are preferred."""
    baseline = quantized.reference_runs or reference.runs
    return stats.rate_ratio(
        [(run.prompt, run.tokens_per_second) for run in baseline],
        [(run.prompt, run.tokens_per_second) for run in quantized.runs],
    )


def mean_rate(samples: ThroughputSamples) -> float:
    """Mean output tokens per second over the runs, warm-up left out."""
    return float(np.mean([run.tokens_per_second for run in samples.runs]))


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteVerdict:
    """How many models of a level meet all its criteria, and what that means for the level's own criterion."""

    level: str
    outcome: Outcome
    met: int
    failed: int
    undecided: int
    sentence: str
    needed: str = ""


def judge_suite(level: str, records: Sequence[Record]) -> SuiteVerdict:
    """Count models by their default-recipe records; judged only where as many models ran as the criterion names.

    A model meets all criteria if every criterion with a limit passed, fails if one failed, else it is undecided.
    Criteria that were not measured leave it undecided.
    """
    cells = [record for record in records if record.recipe == level]
    states = [_state(record) for record in cells]
    met, failed = states.count("pass"), states.count("fail")
    open_ = len(states) - met - failed
    sentence = f"{met} of {len(states)} models meet all criteria, {failed} do not, {open_} undecided"
    needed, of = SUITE_CRITERIA.get(level, (0, 0))
    if not needed or len(states) < of:
        why = f"judged from {of} models on" if needed else "no suite criterion at this level"
        return SuiteVerdict(
            level=level,
            outcome="informational",
            met=met,
            failed=failed,
            undecided=open_,
            sentence=f"{sentence} ({why})",
        )
    share = needed / of  # of however many models there are: 8 of 10 is 16 of 20
    enough, possible = met >= share * len(states), met + open_ >= share * len(states)
    outcome: Outcome = "pass" if enough else "undecided" if possible else "fail"
    sentence += f"; {needed} of {of} are needed: {outcome}"
    return SuiteVerdict(level=level, outcome=outcome, met=met, failed=failed, undecided=open_, sentence=sentence)


def _state(record: Record) -> Outcome:
    """A cell's verdicts taken together."""
    outcomes = {verdict.metric: verdict.outcome for verdict in record.verdicts}
    if "fail" in outcomes.values():
        return "fail"
    judged = [outcome for outcome in outcomes.values() if outcome != "informational"]
    complete = set(METRICS) <= outcomes.keys()
    return "pass" if complete and judged and set(judged) == {"pass"} else "undecided"


def points(fraction: Interval) -> Interval:
    """An interval of a fraction, in percentage points."""
    return Interval(estimate=100 * fraction.estimate, low=100 * fraction.low, high=100 * fraction.high)


def informational(metric: str, sentence: str) -> Verdict:
    """A verdict that judges nothing and says why."""
    return Verdict(
        metric=metric, outcome="informational", limit=None, estimate=None, low=None, high=None, sentence=sentence
    )


def _needed(items: int, interval: Interval, limit: float | None, what: str) -> str:
    if limit is None:
        return ""
    needed = stats.items_needed(items, (interval.high - interval.low) / 2, interval.estimate - limit)
    return f"about {needed:,} {what} would settle it" if needed else "the estimate lies on the limit itself"


def _too_few(metric: Metric, estimate: float | None, limit: float | None, sentence: str) -> Verdict:
    outcome: Outcome = "informational" if limit is None else "undecided"
    return Verdict(
        metric=metric.name, outcome=outcome, limit=limit, estimate=estimate, low=None, high=None, sentence=sentence
    )


def _outcome(metric: Metric, interval: Interval, limit: float | None) -> Outcome:
    if limit is None:
        return "informational"
    sign = 1 if metric.better == "lower" else -1
    ends = sorted((sign * (interval.low - limit), sign * (interval.high - limit)))
    if ends[1] < 0 or (ends[0] == ends[1] == 0):
        return "pass"
    return "fail" if ends[0] > 0 else "undecided"


def _verdict(metric: Metric, interval: Interval, limit: float | None, detail: str, needed: str) -> Verdict:
    outcome = _outcome(metric, interval, limit)
    sentence = f"{metric.label} {show(interval, metric)}"
    if limit is not None:
        sentence += f", limit {'≥' if metric.better == 'higher' else '<'} {limit:g} {metric.unit}".rstrip()
    sentence += f" ({detail})" if detail else ""
    return Verdict(
        metric=metric.name,
        outcome=outcome,
        limit=limit,
        estimate=interval.estimate,
        low=interval.low,
        high=interval.high,
        sentence=sentence + ".",
        needed=needed if outcome == "undecided" else "",
    )


def show(interval: Interval, metric: Metric) -> str:
    """`0.31 [0.12, 0.50] points`: an estimate with its interval, or the bare number where the interval has no width."""
    digits = 1 if metric.unit in ("%", "points") else 2
    text = f"{interval.estimate:.{digits}f}"
    if interval.low != interval.high:
        text += f" [{interval.low:.{digits}f}, {interval.high:.{digits}f}]"
    return f"{text} {metric.unit}".rstrip()
