"""What a model is judged by: metrics, their limits by level, how many models must meet them. You edit this file."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

from pytest_quantbench.catalog.recipes import CACHE_LEVEL, REFERENCE, Kind, Recipe
from pytest_quantbench.errors import unknown


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A judged figure. `better` says on which side of the limit a model is good. `of`: the kinds of recipes that it
    says something of: a cache leaves a model's files as they are, and T1 runs with a cache in 16 bits.
    """

    name: str
    check: Literal["size", "perplexity", "accuracy", "throughput", "depth", "retrieval"]
    items: str  # what its samples are
    better: Literal["higher", "lower"]
    unit: str
    label: str
    of: tuple[Kind, ...]

    @property
    def measure(self) -> str:
        """The measure whose samples it is of."""
        return "perplexity" if self.check == "depth" else self.check


ALL: tuple[Kind, ...] = ("weights", "cache", "both")
CACHED: tuple[Kind, ...] = ("cache", "both")


def _metric(name: str, check: Any, items: str, better: Any, unit: str, label: str, of: tuple[Kind, ...]) -> Metric:
    return Metric(name=name, check=check, items=items, better=better, unit=unit, label=label, of=of)


_METRICS = (
    _metric("size_reduction_percent", "size", "bytes", "higher", "%", "size reduction vs BF16", ("weights", "both")),
    _metric("perplexity_delta", "perplexity", "tokens", "lower", "", "perplexity delta vs BF16", ALL),
    _metric("accuracy_drop_points", "accuracy", "questions", "lower", "points", "accuracy drop", ALL),
    _metric("throughput_ratio", "throughput", "runs", "higher", "×", "throughput vs BF16", ("weights",)),
    _metric("depth_perplexity_delta", "depth", "tokens", "lower", "", "perplexity delta at the worst depth", CACHED),
    _metric("retrieval_drop_points", "retrieval", "questions", "lower", "points", "retrieval drop", CACHED),
)


METRICS: Mapping[str, Metric] = MappingProxyType({metric.name: metric for metric in _METRICS})

# What has no limit of its own is judged by that of another metric, unless a user gives it one.
LIMITED_AS: Mapping[str, str] = MappingProxyType({"depth_perplexity_delta": "perplexity_delta"})


def asked_of(kind: Kind) -> list[str]:
    """The metrics that recipes of this kind are judged by, as far as there are limits."""
    return [name for name, metric in METRICS.items() if kind in metric.of]


# What a session has several of, by the check that judges each by a limit of its own.
PARTS: Mapping[str, str] = MappingProxyType({"perplexity": "text", "accuracy": "task"})


def metric_of(check: str) -> str:
    """The metric that a check judges. Raises UnknownNameError for a check that does not exist."""
    names: dict[str, str] = {metric.check: name for name, metric in METRICS.items()}
    if check not in names:
        raise unknown("check", check, list(names))
    return names[check]


# Limits by level and metric; None: measured and shown, not judged.
CRITERIA: Mapping[str, Mapping[str, float | None]] = MappingProxyType(
    {
        "int4": {
            "size_reduction_percent": 70.0,
            "perplexity_delta": 1.0,
            "accuracy_drop_points": 3.0,
            "throughput_ratio": 1.5,
            "retrieval_drop_points": 5.0,  # of the worst of many strata, and not of their mean, as T3's is
        },
        "int3": {
            "size_reduction_percent": 75.0,
            "perplexity_delta": 2.5,
            "accuracy_drop_points": 6.0,
            "throughput_ratio": 1.3,
            "retrieval_drop_points": 10.0,
        },
        "int2": {
            "size_reduction_percent": 83.0,
            "perplexity_delta": 8.0,
            "accuracy_drop_points": None,
            "throughput_ratio": None,
            "retrieval_drop_points": None,
        },
        CACHE_LEVEL: {
            "perplexity_delta": 1.0,
            "accuracy_drop_points": 3.0,
            "retrieval_drop_points": 5.0,
        },  # as int4: what is lost is lost
    }
)


# How many of the models must meet every criterion, out of how many.
SUITE_CRITERIA: Mapping[str, tuple[int, int]] = MappingProxyType({"int4": (8, 10), "int3": (7, 10)})


# Tasks by what quantization does to them, as published comparisons found it: choosing among given answers forgives a
# lot, writing an answer token by token does not.
INSENSITIVE_TASKS = ("arc_easy", "arc_challenge", "hellaswag", "piqa", "winogrande", "boolq", "openbookqa", "mmlu")
SENSITIVE_TASKS = ("gsm8k", "humaneval", "mbpp", "ifeval", "minerva_math")


# By metric, or of one text or task by `METRIC.NAME`; None and `informational`: shown, not judged.
Limits: TypeAlias = Mapping[str, float | str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Overrides:
    """Limits that a user gives instead of the tables'.

    `selected` has them by a level, a recipe, a model or MODEL-RECIPE; `candidates` those of all candidates, `candidate`
    those of one by its name; `session` those of every cell that is compared with a reference.
    """

    selected: Mapping[str, Limits] = field(default_factory=dict)
    candidates: Limits = field(default_factory=dict)
    candidate: Mapping[str, Limits] = field(default_factory=dict)
    session: Limits = field(default_factory=dict)

    def of(self, model: str, recipe: Recipe) -> Iterator[Limits]:
        """Those that hold for a cell, each before what overrules it."""
        for selector in (recipe.level, recipe.id, model, f"{model}-{recipe.id}"):
            yield self.selected.get(selector, {})
        if recipe.candidate is not None:
            yield self.candidates
            yield self.candidate.get(recipe.candidate.name, {})
        if recipe != REFERENCE:
            yield self.session


def limit_key(metric: str, of: str = "") -> str:
    """What `Limits` have a metric's limit by, or that of one text or task alone."""
    return f"{metric}.{of}" if of else metric


def limit_for(
    metric: str, model: str, recipe: Recipe, overrides: Overrides, of: str = "", *, first: bool = True
) -> float | None:
    """The limit of a metric for one cell, and where `of` names a text or a task, on that. The `first` of them has the
    table's by level, unless a user gave another; the others have only what a user gives for them alone.
    """
    several = list(overrides.of(model, recipe))
    limit: float | str | None = None
    for each in (metric, LIMITED_AS.get(metric, metric)):  # its own, wherever it is given, before the other's
        keys = [each] if first else []
        keys += [limit_key(each, of)] if of else []
        given = [limits[key] for limits in several for key in keys if key in limits]
        if given:
            limit = given[-1]
            break
    else:
        limit = _of_level(LIMITED_AS.get(metric, metric), recipe) if first else None
    return None if limit is None or limit == "informational" else float(limit)


def _of_level(metric: str, recipe: Recipe) -> float | None:
    """The table's. Where a level of weights says nothing of a metric, those of the cache hold for what joins both."""
    levels = (recipe.level, CACHE_LEVEL) if recipe.cache is not None else (recipe.level,)
    return next((CRITERIA[level][metric] for level in levels if metric in CRITERIA.get(level, {})), None)


def limited(metric: str, model: str, recipe: Recipe, overrides: Overrides) -> list[str]:
    """The texts or tasks of which a user gave a limit of the metric for this cell, by name."""
    beginning = f"{metric}."
    keys = [key for limits in overrides.of(model, recipe) for key in limits if key.startswith(beginning)]
    return list(dict.fromkeys(key.removeprefix(beginning) for key in keys))
