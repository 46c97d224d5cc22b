"""What is measured. Each measure takes weights, returns raw samples (see samples.py) and judges nothing.

This is the table of them: a new measure is one file or folder, and one row here. A member is imported when it is asked
for by its name, so that nobody loads an engine for the sake of a label.
"""

from collections.abc import Iterator, Mapping
from importlib import import_module
from types import MappingProxyType
from typing import Any

from pytest_quantbench.errors import unknown
from pytest_quantbench.measures.protocol import (
    AnyMeasure,
    ArtifactMeasure,
    FileMeasure,
    Inputs,
    Measure,
    ProcessMeasure,
    ResidentMeasure,
    Share,
    Trial,
    WalkMeasure,
)

__all__ = [
    "AnyMeasure",
    "ArtifactMeasure",
    "FileMeasure",
    "Inputs",
    "Measure",
    "ProcessMeasure",
    "ResidentMeasure",
    "Share",
    "Trial",
    "WalkMeasure",
    "every",
    "get",
    "names",
]

# By name, in the order of a record's parts: the module and the name there.
MEMBERS: Mapping[str, str] = MappingProxyType(
    {
        "throughput": "throughput:THROUGHPUT",
        "sweep": "sweep.measure:SWEEP",
        "perplexity": "perplexity.measure:PERPLEXITY",
        "accuracy": "accuracy.measure:ACCURACY",
        "retrieval": "retrieval.measure:RETRIEVAL",
        "weights": "weights:WEIGHTS",
        "integrity": "integrity.measure:INTEGRITY",
        "runtime": "runtime.measure:RUNTIME",
        "load": "load.measure:LOAD",
        "calibration_text": "perplexity.calibration_fit:CALIBRATION_TEXT",
    }
)


def names() -> tuple[str, ...]:
    """Every measure's name. Imports none of them."""
    return tuple(MEMBERS)


def get(name: str) -> Any:
    """The measure of this name, of the kind that it needs to be. Raises UnknownNameError where there is none."""
    if name not in MEMBERS:
        raise unknown("measure", name, list(MEMBERS))
    module, _, attribute = MEMBERS[name].partition(":")
    return getattr(import_module(f"{__name__}.{module}"), attribute)


def every() -> Iterator[AnyMeasure]:
    """All measures, in the order of the table."""
    return map(get, MEMBERS)
