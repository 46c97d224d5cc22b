"""What became of a figure from one measurement of a cell to another: a regression, better, or no difference to be told.

There are two sources of error. Which tokens, questions or prompts were drawn is sampling noise: both runs have the same
ones, so it is the noise of their differences, and an interval says it. What a rerun changes though nothing was changed
(activations rounded otherwise, another machine's order of summing) moves all items alike, which no interval sees: a
`floor` says it. A regression is a claim that needs both: the whole interval lies beyond the floor on the bad side. A
rerun that is bit-identical has no difference at all.

Many cells × figures are compared at once. Each claim is made by a p value that Holm's correction has adjusted for all
that were compared (Holm 1979), so that of equal reruns of a whole suite at most 5 % have any regression. "Worse" and
"better" are two families, each with its own 5 %. The intervals that are shown are of one figure by itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pytest_quantbench.judge.figures import FIGURES, shown, worsening
from pytest_quantbench.stats.estimates import ALPHA, Estimate, Exact, Interval
from pytest_quantbench.stats.series import holm

Word = Literal[
    "regression", "better", "no difference can be told", "identical", "not judged", "not compared", "not in the base"
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One figure of two cells. `estimate` is of their difference or ratio, None where nothing is known of its error;
    `floor` how far the figure may get worse before that counts, as a difference (of a ratio: as a share), if not
    `floor_measured` by what another order of summing changes alone. `why`: not compared, or not `judged`, and why;
    `only_new`: because the base does not have it, so that nothing of it was lost.
    """

    metric: str
    of: str = ""  # the text or the task
    base: float | None = None
    new: float | None = None
    estimate: Estimate | None = None
    floor: float = 0.0
    floor_measured: bool = True
    items: int | None = None
    counted: str = ""  # what the items are
    identical: bool = False
    judged: bool = True
    only_new: bool = False
    why: str = ""

    @property
    def counts(self) -> bool:
        """Whether it is one of the comparisons that the error probability is shared among."""
        return self.judged and not self.why and not self.identical and self.estimate is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What is said of a figure of two cells, in the figure's unit, with its interval by itself (5 % on each side).

    `p_worse` and `p_better` are adjusted for all comparisons; `detectable` is the smallest worsening that these samples
    would have shown, with a power of 80 % and after that correction.
    """

    metric: str
    of: str
    word: Word
    base: float | None
    new: float | None
    estimate: float | None
    low: float | None
    high: float | None
    floor: float
    items: int | None
    p_worse: float | None
    p_better: float | None
    detectable: float | None
    sentence: str

    @property
    def name(self) -> str:
        """`perplexity`, or with what it is of: `accuracy drop of arc_easy`."""
        return FIGURES[self.metric].label + (f" of {self.of}" if self.of else "")


def settle(pairs: Sequence[Pair], comparisons: int | None = None) -> list[Change]:
    """The verdicts on all that was compared at once.

    `comparisons`: how many figures there are in all, where others of them are judged elsewhere. Those then count as
    showing nothing, so that a regression that is found here would also be found if all were judged at once.
    """
    counted = [pair for pair in pairs if pair.counts]
    family = max(comparisons or 0, len(counted))
    rest = [1.0] * (family - len(counted))
    worse = holm([_p(pair, bad=True) for pair in counted] + rest)
    better = holm([_p(pair, bad=False) for pair in counted] + rest)
    adjusted = {id(pair): (p, q) for pair, p, q in zip(counted, worse, better, strict=False)}
    nothing: tuple[float | None, float | None] = (None, None)
    return [_change(pair, family, *adjusted.get(id(pair), nothing)) for pair in pairs]


def _p(pair: Pair, *, bad: bool) -> float:
    """One-sided p of "beyond the floor on the bad side", or on the good one; 1 where the estimate is not beyond it."""
    figure, limit = FIGURES[pair.metric], _limit(pair, bad=bad)
    assert pair.estimate is not None
    higher = (figure.worse == "higher") == bad
    if (pair.estimate.value <= limit) if higher else (pair.estimate.value >= limit):
        return 1.0
    return pair.estimate.p_above(limit) if higher else pair.estimate.p_below(limit)


def _limit(pair: Pair, *, bad: bool) -> float:
    """Where the floor ends, on the bad or on the good side of no difference. A rate may fall to 1 − floor, and the
    other of two rates that differ so is the 1 / (1 − floor)-fold.
    """
    figure = FIGURES[pair.metric]
    if figure.none == 0:
        return pair.floor if bad else -pair.floor
    lower = max(1 - pair.floor, 1e-9)
    return lower if bad else 1 / lower


def _change(pair: Pair, family: int, p_worse: float | None, p_better: float | None) -> Change:
    known = Exact(value=FIGURES[pair.metric].none) if pair.identical else pair.estimate
    interval = None if known is None else known.interval()
    word = _word(pair, p_worse, p_better)
    detectable = _detectable(pair, family) if pair.counts else None
    return Change(
        metric=pair.metric,
        of=pair.of,
        word=word,
        base=pair.base,
        new=pair.new,
        estimate=None if interval is None else interval.estimate,
        low=None if interval is None else interval.low,
        high=None if interval is None else interval.high,
        floor=pair.floor,
        items=pair.items,
        p_worse=p_worse,
        p_better=p_better,
        detectable=detectable,
        sentence=_sentence(pair, word, interval, detectable, family),
    )


def _word(pair: Pair, p_worse: float | None, p_better: float | None) -> Word:
    if pair.identical:
        return "identical"
    if pair.only_new:
        return "not in the base"
    if not pair.judged:
        return "not judged"
    if pair.why:
        return "not compared"
    if p_worse is not None and p_worse < ALPHA:
        return "regression"
    return "better" if p_better is not None and p_better < ALPHA else "no difference can be told"


def _detectable(pair: Pair, family: int) -> float:
    """How large a worsening would have been called one: its distance from no difference. Of a ratio: as a share."""
    assert pair.estimate is not None
    distance = pair.estimate.detectable(FIGURES[pair.metric].none, ALPHA / max(1, family))
    if FIGURES[pair.metric].none == 0:
        return pair.floor + distance
    return 1 - max(1 - pair.floor, 1e-9) / (1 + distance)  # as many standard errors below as `distance` lies above


def _sentence(pair: Pair, word: Word, interval: Interval | None, detectable: float | None, family: int) -> str:
    name = FIGURES[pair.metric].label + (f" of {pair.of}" if pair.of else "")
    on = f" on the same {pair.items:,} {pair.counted}" if pair.items and pair.counted else ""
    if word in ("not compared", "not in the base") or (word == "not judged" and interval is None):
        return f"{name}: {pair.why}"
    if word == "identical":
        return f"{name}: the same to the last bit{on}."
    if interval is None:
        return f"{name}: nothing is known of the error{on}{pair.why and f': {pair.why}'}."
    told = f"{name} {shown(interval, FIGURES[pair.metric])}{_values(pair)}{on}"
    if word == "not judged":
        return f"{told}: not judged, {pair.why}."
    if word in ("regression", "better"):
        return f"{told}: {'worse' if word == 'regression' else 'better'}{_beyond(pair)}."
    tail = f"; worse by itself, not as one of {family} comparisons" if _p(pair, bad=True) < ALPHA else ""
    if isinstance(pair.estimate, Exact) or detectable is None:
        return f"{told}: no difference that counts{tail}."
    return f"{told}: no difference can be told{tail}; {worsening(pair.metric, detectable)} would have been seen."


def _beyond(pair: Pair) -> str:
    if not pair.floor or isinstance(pair.estimate, Exact):
        return ""
    size, known = worsening(pair.metric, pair.floor), pair.floor_measured
    return f", beyond the noise floor of {size}" if known else f", beyond {size} (no noise floor was measured)"


def _values(pair: Pair) -> str:
    if pair.base is None or pair.new is None:
        return ""
    percent = f" ({100 * pair.base:.2f} → {100 * pair.new:.2f} %)"
    return percent if FIGURES[pair.metric].unit == "points" else f" ({pair.base:.4g} → {pair.new:.4g})"
