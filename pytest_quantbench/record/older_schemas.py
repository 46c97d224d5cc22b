"""Records of older schemas, turned into newer ones step by step, on plain JSON values.

A step knows the two schemas that it lies between and nothing of today's records, so it stays as it is when they change.
"""

import copy
from collections.abc import Callable, Mapping
from typing import Any

from pytest_quantbench.errors import RecordError

Values = dict[str, Any]
PROMPTS_OF_3 = 5  # of T1
MOST_DRIFT_OF_3 = 0.05  # of the machine's speed; it was applied to verdicts only


def as_current(values: Mapping[str, Any], current: int) -> Values:
    """The values of a record in the schema `current`. Raises RecordError, naming the schemas that can be read, for any
    other, and for values that a record of its schema cannot have.
    """
    schema = values.get("schema")
    if schema != current and schema not in STEPS:
        readable = f"{', '.join(map(str, sorted(STEPS)))} and {current}"
        raise RecordError(f"it has schema {schema}; this version reads {readable}")
    found: Values = copy.deepcopy(dict(values))
    while found["schema"] != current:
        schema = found["schema"]
        try:
            STEPS[schema](found)
        except (KeyError, TypeError, AttributeError, ZeroDivisionError) as error:
            raise RecordError(f"it says schema {schema}, and is not of it ({error!r})") from error
        found["schema"] = schema + 1
    return found


def _from_3(values: Values) -> None:
    """Ratio, delta and runs get the plan's meaning; verdicts say what they are of; ratios beside drift go."""
    if size := values.get("compression"):
        size["times_smaller"] = size["ratio"]
        size["ratio"] = size["compressed_gb"] / size["original_gb"]
    if speed := values.get("throughput"):
        speed["total_runs"] = speed["runs"]
        speed["runs"] = speed["total_runs"] // PROMPTS_OF_3
        if abs(drift := speed["probe_drift"]) > MOST_DRIFT_OF_3 and not speed["interleaved"]:
            speed["ratio"] = None
            speed["ratio_suppressed"] = f"the machine's own speed changed by {drift:+.0%} meanwhile"
    tasks: Mapping[str, Any] = {}
    if answers := values.get("accuracy"):
        tasks = answers["tasks"]
        answers["delta_points"] = answers["delta"]
        if answers["delta"] is not None:
            answers["delta"] = answers["combined"] - answers["bf16_combined"]
    text = values.get("perplexity") or {}
    suppressed = (values.get("throughput") or {}).get("ratio_suppressed")
    of = {"perplexity_delta": text.get("corpus", ""), "accuracy_drop_points": next(iter(tasks), "")}
    for verdict in values.get("verdicts", ()):
        verdict["of"] = of.get(verdict["metric"], "")
        if suppressed and verdict["metric"] == "throughput_ratio":
            verdict |= {"estimate": None, "low": None, "high": None, "sentence": suppressed}


def _from_4(values: Values) -> None:
    """As it is: there were no candidates, and all else has kept its meaning."""
    values.setdefault("candidate", None)


def _from_5(values: Values) -> None:
    """As it is: what came with schema 6 is null."""


def _from_6(values: Values) -> None:
    """There was one engine, whose speed was judged but on a CPU."""
    if machine := values.get("machine"):
        machine["judges_speed"] = machine["backend"] != "cpu"


# By the schema that a step begins with.
def _from_7(values: Values) -> None:
    """As it is: what came with schema 8 is null."""


STEPS: Mapping[int, Callable[[Values], None]] = {3: _from_3, 4: _from_4, 5: _from_5, 6: _from_6, 7: _from_7}
