"""What a record says of T3."""

from collections.abc import Mapping
from dataclasses import dataclass

from pytest_quantbench.stats.estimates import Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskAccuracy:
    """One task, as fractions; the drop in percentage points with Tango's score interval. Questions that share a source
    (`cluster_key`: the fields of a document that say so) flip together: `flip_correlation` is the correlation of two
    questions of a cluster in losing or gaining the answer, `design_effect` the factor by which the variance of the drop
    grows.
    """

    accuracy: float
    questions: int
    chance: float
    accuracy_raw: float
    version: str
    sha256: str
    bf16_accuracy: float | None = None
    right_to_wrong: int | None = None
    wrong_to_right: int | None = None
    drop_points: Interval | None = None
    mcnemar_p: float | None = None
    unpaired_p: float | None = None
    unpaired_detectable_points: float | None = None
    detectable_points: float | None = None
    questions_for_one_point: int | None = None  # to tell a drop of one point from none, at this flip rate
    clusters: int | None = None  # as many as questions where none share a source
    cluster_key: str = ""
    flip_correlation: float | None = None
    design_effect: float | None = None
    accuracy_interval: Interval | None = None  # Wilson's with the clusters' design effect, of the accuracy by itself


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """T3 by length-normalised accuracy. `arc_easy` and `hellaswag` are null when the model has other tasks."""

    arc_easy: float | None
    hellaswag: float | None
    combined: float
    bf16_combined: float | None
    delta: float | None  # combined minus bf16_combined, a fraction: below 0 where accuracy was lost
    delta_points: float | None = None  # the same in percentage points
    tasks: Mapping[str, TaskAccuracy]
    chat_template: bool = False
    cut_contexts: int = 0  # requests whose context was longer than the model takes
    time_sec: float | None = None
