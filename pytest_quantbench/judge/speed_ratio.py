"""T1: how many times as fast as its reference a model is, and when that is not judged, or left open."""

from dataclasses import replace

from pytest_quantbench.catalog.criteria import METRICS
from pytest_quantbench.judge import rates, roofline
from pytest_quantbench.judge.rules import bare, judged
from pytest_quantbench.judge.verdict import Verdict
from pytest_quantbench.measures.throughput_samples import ThroughputSamples
from pytest_quantbench.stats.estimates import ALPHA

MORE_RUNS = "more runs tell more exactly what of the reference's time is overhead"
AGAIN = "run both again with --fresh, while the machine does nothing else"


def judge_throughput(
    quantized: ThroughputSamples,
    reference: ThroughputSamples,
    limit: float | None,
    not_deployed: str = "",
    alpha: float = ALPHA,
) -> Verdict:
    """The speed ratio, paired by prompt; informational where it was run as nobody deploys it, as `not_deployed` says,
    and where overhead alone keeps it from the limit (see roofline). Undecided where that may be so, and where the
    machine's own speed changed or other load came and went: then there is no ratio.
    """
    shown = _speed_ratio(quantized, reference, None, alpha)
    if limit is None or not_deployed:
        return shown if limit is None else replace(shown, not_judged=not_deployed)
    found, overhead = _speed_ratio(quantized, reference, limit, alpha), roofline.overhead(quantized, reference, limit)
    if overhead is None:
        return found
    if overhead.certain:
        return replace(shown, sentence=f"{shown.sentence} {overhead.sentence}", not_judged=roofline.BY_OVERHEAD)
    sentence, needed = f"{found.sentence} {overhead.sentence}", MORE_RUNS
    return replace(found, outcome="undecided", sentence=sentence, needed=needed, p_good=1.0, p_bad=1.0)


def hopeless(quantized: ThroughputSamples, reference: ThroughputSamples) -> bool:
    """Whether more runs help nothing: what disturbed those that there are stays among them."""
    return bool(rates.suppressed(quantized, reference))


def _speed_ratio(
    quantized: ThroughputSamples, reference: ThroughputSamples, limit: float | None, alpha: float
) -> Verdict:
    """By its interval alone."""
    metric, runs = METRICS["throughput_ratio"], len(quantized.runs)
    prompts = len({run.prompt for run in quantized.runs})
    detail = f"{rates.mean_rate(quantized):.1f} tokens per second over {runs} runs of {prompts} prompts"
    if changed := rates.suppressed(quantized, reference):
        found = bare(metric, None, limit, f"No speed ratio: {changed} ({detail}).", "undecided", runs)
        return replace(found, needed=AGAIN if found.outcome == "undecided" else "")
    ratio = rates.ratio(quantized, reference)
    if ratio is None:
        return bare(metric, None, limit, f"{detail}: fewer than two prompts, or no spread", "undecided", runs)
    return judged(metric, ratio, limit, detail, alpha, runs)
