"""A verdict → the properties of a JUnit test case, by which a CI's own pages show and count it."""

from pytest_quantbench.judge.verdict import Verdict
from pytest_quantbench.record.suite import SuiteVerdict

FIELDS = ("metric", "of", "limit", "estimate", "low", "high", "confidence", "items", "p_good", "p_bad")
OVER_MODELS = ("recipe", "models", "met", "failed", "undecided", "anomalous", "incomplete")


def properties(verdict: Verdict | SuiteVerdict) -> list[tuple[str, str | int | float]]:
    """Names and values, in the verdict's own units, with its sentence; what it does not have is left out."""
    fields = FIELDS if isinstance(verdict, Verdict) else OVER_MODELS
    values = {name: getattr(verdict, name) for name in (*fields, "sentence")}
    return [(f"quantbench_{name}", value) for name, value in values.items() if value not in (None, "")]
