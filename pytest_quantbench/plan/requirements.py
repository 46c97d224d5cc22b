"""What an artifact has to meet to be picked, and what a record's samples say of each requirement.

Every figure is of the cell against its reference, on the same tokens and questions, or exact. How sure one is has two
sides: `p_good` that the artifact meets the requirement, `p_bad` that it does not. Samples may have grown look after
look, while a verdict by some other limit was undecided. The p value of look k is then 2ᵏ times what it is by itself: as
½ + ¼ + … is at most 1, so no more than the error probability is spent however many looks there are. (A verdict by its
own limit spends less on early looks; here nobody has looked at the limit before.)
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

from pytest_quantbench.catalog.recipes import REFERENCE
from pytest_quantbench.judge.change import Pair
from pytest_quantbench.judge.rates import is_drifting
from pytest_quantbench.judge.verdict import Look
from pytest_quantbench.record import comparison
from pytest_quantbench.record.cost import rate_over_prompts
from pytest_quantbench.record.pairing import Measured
from pytest_quantbench.record.schema import NoiseFloor
from pytest_quantbench.stats.estimates import Estimate, Exact
from pytest_quantbench.stats.proportions import excess_p


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A figure of a cell with its error; None, and `why`, where nothing can be said. `most_p_good`: the meeting is at
    most as sure as this, whatever the estimate says.
    """

    estimate: Estimate | None = None
    why: str = ""
    tells_way_out: bool = False  # `why` does
    items: int | None = None
    counted: str = ""  # what the items are
    whole: int | None = None  # how many there are at all, where items are drawn from so many
    looks: tuple[Look, ...] = ()
    floor: float | None = None  # what noise alone changes
    most_p_good: Callable[[float], float] | None = None  # of the limit

    def p_good(self, limit: float, better: Literal["lower", "higher"]) -> float:
        """One-sided p of "on the good side of the limit"; 1 where nothing is known."""
        if self.estimate is None:
            return 1.0
        p = self.estimate.p_below(limit) if better == "lower" else self.estimate.p_above(limit)
        p = min(1.0, p * self.looks_factor)
        return p if self.most_p_good is None else max(p, self.most_p_good(limit))

    def p_bad(self, limit: float, better: Literal["lower", "higher"]) -> float:
        """One-sided p of "on the bad side of the limit"; 1 where nothing is known."""
        if self.estimate is None:
            return 1.0
        p = self.estimate.p_above(limit) if better == "lower" else self.estimate.p_below(limit)
        return min(1.0, p * self.looks_factor)

    @property
    def looks_factor(self) -> float:
        """How much less sure the looks make a p value; 1 of what is exact, or was looked at once as planned."""
        once = len(self.looks) == 0 or (len(self.looks) == 1 and self.looks[0].last)
        return 1.0 if once or isinstance(self.estimate, Exact) else 2.0 ** len(self.looks)


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """One thing to be required: how it is called and shown, which side of the limit is good, what a cell has of it, and
    which option measures it where it has nothing.
    """

    label: str
    unit: str
    digits: int
    better: Literal["lower", "higher"]
    seen: Callable[[Measured | None, Measured, NoiseFloor | None], Seen]  # of the reference and the cell
    measured_by: str


def _size(reference: Measured | None, cell: Measured, noise: NoiseFloor | None) -> Seen:
    """Stored bytes, exact."""
    size = cell.record.compression
    return Seen(why="its size is not known") if size is None else Seen(estimate=Exact(value=size.compressed_gb))


def _rate(reference: Measured | None, cell: Measured, noise: NoiseFloor | None) -> Seen:
    """Output tokens per second at batch 1, on the machine that the record names."""
    speed = cell.record.throughput
    if speed is None or "throughput/prompt" not in cell.arrays:
        return Seen(why="its speed was not measured")
    if is_drifting(speed.probe_drift):
        return Seen(why=f"the machine's own speed changed by {speed.probe_drift:+.0%} while it ran")
    rate = rate_over_prompts(cell.arrays["throughput/prompt"], cell.arrays["throughput/tokens_per_second"])
    if rate is None:
        return Seen(why="it ran one prompt, which tells nothing of others")
    return Seen(estimate=rate, items=speed.total_runs, counted="runs")


def _delta(reference: Measured | None, cell: Measured, noise: NoiseFloor | None) -> Seen:
    """The judged text's perplexity delta."""
    seen = _paired("perplexity", "", reference, cell, "its perplexity was not measured")
    text = cell.record.perplexity
    whole = None
    if text is not None and text.windows is not None and text.text_windows is not None:
        whole = round(text.tokens * text.text_windows / text.windows)
    return replace(seen, floor=None if noise is None else noise.perplexity_points, whole=whole)


def _drop(reference: Measured | None, cell: Measured, noise: NoiseFloor | None) -> Seen:
    """The judged task's drop in accuracy, of a reference that has more above chance to lose than the limit."""
    answers = cell.record.accuracy
    name, task = next(iter(answers.tasks.items()), ("", None)) if answers else ("", None)
    if task is None:
        return Seen(why="its accuracy was not measured")
    seen = _paired("accuracy", name, reference, cell, "its accuracy was not measured")
    seen = replace(seen, floor=None if noise is None else noise.drop_points)
    if reference is None or seen.estimate is None or isinstance(seen.estimate, Exact):
        return seen
    right, sources = reference.arrays[f"accuracy/{name}/correct"], reference.arrays.get(f"accuracy/{name}/clusters", ())

    def room(limit: float) -> float:
        return excess_p(right, task.chance, max(limit, 0.0) / 100, list(sources))

    return replace(seen, most_p_good=room)


def _paired(metric: str, of: str, reference: Measured | None, cell: Measured, missing: str) -> Seen:
    """A figure of the cell against its reference; of the reference itself exactly nothing."""
    if reference is None:
        original = f"{cell.record.model_id}-{REFERENCE.id}"
        told = f"the record of {original} is not there, against which it is told: quantbench run -k {original}"
        return Seen(why=told, tells_way_out=True)
    if cell.record.recipe == reference.record.recipe:
        return Seen(estimate=Exact(value=0.0))
    found = [p for p in comparison.pairs(reference, cell) if p.metric == metric and p.of == of]
    pair = next(iter(found), Pair(metric=metric, of=of, why=missing))
    if pair.why or pair.estimate is None:
        return Seen(why=pair.why.rstrip(".") or missing, tells_way_out=bool(found and pair.why))
    if pair.identical:
        return Seen(estimate=Exact(value=0.0), items=pair.items, counted=pair.counted)
    names = {"perplexity": "perplexity_delta", "accuracy": "accuracy_drop_points"}
    looks = [v.looks for v in cell.record.verdicts if v.metric == names[metric] and v.looks and (v.of == of or not of)]
    longest = max(looks, key=lambda each: each[-1].items, default=())
    return Seen(estimate=pair.estimate, items=pair.items, counted=pair.counted, looks=longest)


# By the option that asks for it, in the order in which reasons are told.
REQUIREMENTS: Mapping[str, Requirement] = MappingProxyType(
    {
        "max-gb": Requirement(label="size", unit="GB", digits=3, better="lower", seen=_size, measured_by="-m size"),
        "max-ppl-delta": Requirement(
            label="perplexity delta", unit="", digits=3, better="lower", seen=_delta, measured_by="-m t2"
        ),
        "max-accuracy-drop": Requirement(
            label="accuracy drop", unit="points", digits=1, better="lower", seen=_drop, measured_by="-m t3"
        ),
        "min-tps": Requirement(
            label="speed", unit="tokens/s", digits=1, better="higher", seen=_rate, measured_by="-m t1"
        ),
    }
)
