"""A candidate that is better than its reference is no plain pass: weights do not gain by being rounded.

Where the perplexity is lower, or more questions are answered, than the reference's by more than the noise floor, the
file is of another model (a fine-tune, another checkpoint), or its maker has trained or calibrated it on the very text.

Anomalous is a claim of its own, beside pass and fail: the whole interval of the difference lies beyond the noise floor
on the good side. As they do, it spends an α of its own over the looks, by the same boundaries: at each look the test
has the error probability that this look may spend, and the look that is the last spends what is left. The chance that
a candidate which is no better than the noise floor allows is ever called anomalous is at most the sum of all that was
spent, α, however many looks there were and whatever ended them.

- An anomalous finding at an early look is final: by any limit above the floor it is a pass too, so nothing is left to
  be decided.
- A pass at an early look usually ends a check. It would hide an anomaly where that look may spend next to nothing:
  clear of a generous limit, not yet clear of the floor. Taking it by the plain α there would be a test at a time that
  the samples chose, and wrong more often. So a pass that is suspicious (anomalous by the plain α, but not by the
  look's own) is looked at again with more samples; the last of these looks decides. That can only take a pass back,
  never make one, and a candidate that is like its reference pays for it in about one of twenty runs.
"""

from dataclasses import replace

from pytest_quantbench.catalog.criteria import METRICS
from pytest_quantbench.judge.verdict import Verdict
from pytest_quantbench.stats.estimates import ALPHA, Estimate

TRAINED_ON = {"perplexity": "the text was", "accuracy": "the questions were"}  # by the check


def of_candidate(found: Verdict, estimate: Estimate, floor: float | None, alpha: float) -> Verdict:
    """The verdict on a candidate with what its estimate says of being better than the reference: `anomalous` where it
    is, by more than `floor`, at the error probability `alpha`. As it was where nothing is known of the floor. What
    fails by a limit of its own fails all the same.
    """
    if floor is None:
        return found
    p = estimate.p_below(-floor) if estimate.value < -floor else 1.0
    if p >= alpha or found.outcome == "fail":
        return replace(found, p_better=p)
    sentence = f"{found.sentence} {_told(found, floor)}"
    return replace(found, p_better=p, outcome="anomalous", sentence=sentence, needed="")


def is_suspicious(verdict: Verdict) -> bool:
    """Whether a pass would be anomalous by the plain α, and is not by that of its look: more samples are asked for."""
    return verdict.outcome == "pass" and verdict.p_better is not None and verdict.p_better < ALPHA


def _told(found: Verdict, floor: float) -> str:
    """What it means, in plain words; gains are above 0."""
    metric = METRICS[found.metric]
    assert found.estimate is not None
    digits = 1 if metric.unit == "points" else 3
    gains = [-each for each in (found.estimate, found.high, found.low) if each is not None]
    unit = f" {metric.unit}".rstrip()
    gained, *ends = (f"{gain:.{digits}f}" for gain in gains)
    between = f" [{', '.join(ends)}]" if found.low != found.high else ""
    return (
        f"It is better than its reference by {gained}{between}{unit}, beyond the noise floor of {floor:.3g}{unit}: "
        f"another fine-tune, another reference, or {TRAINED_ON[metric.check]} in its training."
    )
