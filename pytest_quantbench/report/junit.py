"""A verdict → the properties of a JUnit test case, by which a CI's own pages show and count it."""

from pytest_quantbench.judge.verdict import Verdict
from pytest_quantbench.record.suite import SuiteVerdict

FIELDS = ("metric", "of", "limit", "estimate", "low", "high", "confidence", "items", "p_good", "p_bad")
WORST_FIRST = (
    "regression",
    "not compared",
    "not in the base",
    "not judged",
    "no difference can be told",
    "better",
    "identical",
)
OVER_MODELS = ("recipe", "models", "met", "failed", "undecided", "anomalous", "incomplete")


def properties(verdict: Verdict | SuiteVerdict) -> list[tuple[str, str | int | float]]:
    """Names and values, in the verdict's own units, with its sentence; what it does not have is left out."""
    fields = FIELDS if isinstance(verdict, Verdict) else OVER_MODELS
    values = {name: getattr(verdict, name) for name in (*fields, "sentence")}
    found = {**values, **(_since_baseline(verdict) if isinstance(verdict, Verdict) else {})}
    return [(f"quantbench_{name}", value) for name, value in found.items() if value not in (None, "")]


def _since_baseline(verdict: Verdict) -> dict[str, str]:
    """What became of the check's figures since the baseline: the worst word, and the sentences that have it."""
    word = min((change.word for change in verdict.baseline), key=WORST_FIRST.index, default="")
    told = " ".join(change.sentence for change in verdict.baseline if change.word == word)
    return {"baseline": word, "baseline_sentence": told}
