"""Criteria, figures and names of cells as pieces of sentences, for whoever has never seen a table of this tool."""

from collections.abc import Callable, Mapping, Sequence

from pytest_quantbench.catalog.criteria import METRICS
from pytest_quantbench.judge import figures
from pytest_quantbench.judge.change import Change
from pytest_quantbench.judge.verdict import Verdict
from pytest_quantbench.record.schema import Record
from pytest_quantbench.stats.estimates import Interval

WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")  # numbers in a sentence
FEW_NAMES = 3  # cells that are told with all of their names
MOST_NAMED = 12  # models that a sentence names
NAMES: Mapping[str, str] = {
    "size_reduction_percent": "size",
    "perplexity_delta": "perplexity",
    "accuracy_drop_points": "accuracy",
    "throughput_ratio": "throughput",
    "depth_perplexity_delta": "perplexity at the worst depth",
    "retrieval_drop_points": "retrieval",
}
# What is said of a figure with its interval, and of its limit.
FIGURES: Mapping[str, tuple[str, str]] = {
    "size_reduction_percent": ("its files are {} % smaller than BF16", "at least {} % is asked"),
    "perplexity_delta": ("its {} rises by {}", "less than {} is allowed"),
    "accuracy_drop_points": ("its {} drops by {} points", "less than {} points are allowed"),
    "throughput_ratio": ("it is {} × as fast as BF16", "at least {} × is asked"),
    "depth_perplexity_delta": ("its {} rises by {}", "less than {} is allowed"),
    "retrieval_drop_points": ("its {} drops by {} points at the worst depth", "less than {} points are allowed"),
}

# The same of a figure that is better than BF16's with all of its interval; its sign is in the word.
GAINS: Mapping[str, str] = {
    "perplexity_delta": "its {} falls by {}",
    "accuracy_drop_points": "its {} gains {} points",
    "depth_perplexity_delta": "its {} falls by {}",
    "retrieval_drop_points": "its {} gains {} points at the worst depth",
}


def count(number: int) -> str:
    """`three`; from eleven on `11`."""
    return WORDS[number] if number < len(WORDS) else f"{number:,}"


def joined(names: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def cells(records: Sequence[Record], among: Sequence[Record]) -> str:
    """Cells by name: of several recipes of one model its name once, of many models the first, and of recipes that all
    models of `among` are in, these alone.
    """
    found: dict[str, list[str]] = {}
    for record in records:
        found.setdefault(record.model_id, []).append(record.recipe)
    models, recipes = {record.model_id for record in among}, next(iter(found.values()))
    if len(models) > 1 and found.keys() == models and all(each == recipes for each in found.values()):
        return f"{joined(recipes)} of {'both' if len(models) == 2 else f'all {count(len(models))}'} models"
    if len(records) <= FEW_NAMES or all(len(each) == 1 for each in found.values()):
        names = [record.cell for record in records]
    else:
        names = [f"{model} ({', '.join(each)})" for model, each in found.items()]
    more = len(names) - MOST_NAMED
    return joined(names) if more <= 0 else f"{', '.join(names[:MOST_NAMED])} and {more} more"


def criterion(verdict: Verdict) -> str:
    """`perplexity on wikitext2`."""
    name = NAMES[verdict.metric]
    return f"{name} on {verdict.of}" if verdict.of else name


def figure(verdict: Verdict) -> str:
    """A verdict's figure with its interval: `its perplexity on wikitext2 rises by 3.1 [2.9, 3.4]`; where there is none,
    the verdict's own sentence.
    """
    if verdict.estimate is None:
        return verdict.sentence.rstrip(".")
    told, metric = FIGURES[verdict.metric][0], METRICS[verdict.metric]
    low, high = verdict.low, verdict.high
    ends = [verdict.estimate] if low is None or high is None or low == high else [verdict.estimate, low, high]
    if verdict.metric in GAINS and max(ends) < 0:
        told, ends = GAINS[verdict.metric], [-end for end in (ends[0], *ends[:0:-1])]
    shown: Callable[[float], str] = ("{:z.1f}" if metric.unit in ("%", "points") else "{:z.3f}").format
    text, *between = map(shown, ends)
    text += f" [{', '.join(between)}]" if between else ""
    return told.format(*([criterion(verdict)] if told.count("{}") > 1 else []), text)


def limit(verdict: Verdict) -> str:
    """`less than 2.5 is allowed`."""
    return FIGURES[verdict.metric][1].format(f"{verdict.limit:g}")


def since(found: Change) -> str:
    """What became of a figure since the baseline: `perplexity of wikitext2 +0.213 [+0.112, +0.320]`."""
    if found.estimate is None or found.low is None or found.high is None:
        return found.sentence.rstrip(".")
    interval = Interval(estimate=found.estimate, low=found.low, high=found.high)
    return f"{found.name} {figures.shown(interval, figures.FIGURES[found.metric])}"
