"""Which artifact to take: the smallest that meets all requirements, with confidence.

Of many artifacts some meet a limit by luck, and the smallest that seems to meet it is among the luckiest. So the claim
"meets all requirements" is made of all cells of a model together: a cell is as sure as its least sure requirement (all
of them hold only if each does), and Holm's correction over the cells (Holm 1979) keeps the probability that any cell is
said to meet what it does not at 5 %, and with it that of a wrong pick. "Does not meet" is another family, over cells
and requirements. What is neither is undecided.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pytest_quantbench.catalog.recipes import REFERENCE
from pytest_quantbench.errors import QuantbenchError
from pytest_quantbench.plan.requirements import REQUIREMENTS, Seen
from pytest_quantbench.record.pairing import Measured
from pytest_quantbench.record.schema import Record
from pytest_quantbench.record.state import State, regressions, states_of
from pytest_quantbench.stats.estimates import ALPHA, Exact
from pytest_quantbench.stats.series import holm, items_needed

Word = Literal["meets all", "does not", "undecided"]
ANOMALOUS = "it is better than its original by more than noise, which asks for an explanation first"
AGAINST: Mapping[State, Callable[[Record], str]] = {
    "wrong weights": lambda record: f"its weights are not what they should be: {(record.integrity or ('',))[0]}",
    "collapsed": lambda record: "its outputs have collapsed",
    "worse than its baseline": lambda record: f"it got worse since its baseline: {regressions(record)[0].sentence}",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighing:
    """One requirement of one cell: the sentence that tells its figure, and what it would take to decide it."""

    requirement: str  # by its option
    word: Word
    sentence: str
    settled_by: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighed:
    """One cell against all requirements. `why`: what stands against it whatever the figures say."""

    record: Record
    word: Word
    weighings: tuple[Weighing, ...]
    why: str = ""

    @property
    def gigabytes(self) -> float:
        """The size that cells are ordered by; infinite where it is not known."""
        return self.record.compression.compressed_gb if self.record.compression else float("inf")


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Of one model: the cell that was picked, None where none meets all, and every other one, the smallest first."""

    model: str
    picked: Weighed | None
    rejected: tuple[Weighed, ...]
    undecided: tuple[Weighed, ...]
    larger: tuple[Weighed, ...]  # that meet all as well
    caches: tuple[str, ...] = ()  # recipes with a quantized cache, which are not weighed: it makes no files smaller


def pick(cells: Sequence[Measured], limits: Mapping[str, float]) -> list[Choice]:
    """A choice for every model, among its cells with a cache in 16 bits. `limits` by the option that gives them (see
    REQUIREMENTS). Raises QuantbenchError without a requirement.
    """
    if not limits:
        raise QuantbenchError(f"Nothing is required. Give one or more of --{', --'.join(REQUIREMENTS)}.")
    models = dict.fromkeys(cell.record.model_id for cell in cells)
    return [_of_model(model, [c for c in cells if c.record.model_id == model], limits) for model in models]


def _of_model(model: str, cells: Sequence[Measured], limits: Mapping[str, float]) -> Choice:
    caches = tuple(cell.record.recipe for cell in cells if cell.record.kind != "weights")
    cells = [cell for cell in cells if cell.record.kind == "weights"]
    reference = next((cell for cell in cells if cell.record.recipe == REFERENCE.id), None)
    seen = [_seen(reference, cell, limits) for cell in cells]
    sure = zip(cells, seen, *_sureness(seen, limits), strict=True)
    claims = sum(_is_guess(each, limits) for each in seen)
    told = [_weighed(cell, figures, good, bad, limits, claims) for cell, figures, good, bad in sure]
    weighed = sorted(told, key=lambda each: each.gigabytes)
    meeting = [each for each in weighed if each.word == "meets all"]
    return Choice(
        model=model,
        picked=next(iter(meeting), None),
        rejected=tuple(each for each in weighed if each.word == "does not"),
        undecided=tuple(each for each in weighed if each.word == "undecided"),
        larger=tuple(meeting[1:]),
        caches=caches,
    )


def _seen(reference: Measured | None, cell: Measured, limits: Mapping[str, float]) -> dict[str, Seen]:
    noise = None if reference is None else reference.record.noise_floor
    return {name: REQUIREMENTS[name].seen(reference, cell, noise) for name in REQUIREMENTS if name in limits}


def _sureness(
    seen: Sequence[Mapping[str, Seen]], limits: Mapping[str, float]
) -> tuple[list[float], list[dict[str, float]]]:
    """Adjusted p of "meets all" for each cell, and of "does not meet" for each cell and requirement. What is exact, and
    what cannot be claimed whatever the samples are, takes no part in the corrections.
    """
    alone = [max(_p(each, limits, name, good=True) for name in each) for each in seen]
    guesses = [place for place, each in enumerate(seen) if _is_guess(each, limits)]
    good = dict(zip(guesses, holm([alone[place] for place in guesses]), strict=True))
    claims = [(place, name) for place, each in enumerate(seen) for name in each]
    raw = {claim: _p(seen[claim[0]], limits, claim[1], good=False) for claim in claims}
    open_ = [claim for claim in claims if not isinstance(seen[claim[0]][claim[1]].estimate, Exact)]
    bad = raw | dict(zip(open_, holm([raw[claim] for claim in open_]), strict=True))
    return (
        [good.get(place, alone[place]) for place in range(len(seen))],
        [{name: bad[place, name] for name in each} for place, each in enumerate(seen)],
    )


def _is_guess(seen: Mapping[str, Seen], limits: Mapping[str, float]) -> bool:
    """Whether samples could lead to the claim that a cell meets all, and be wrong."""
    exact = {name for name, each in seen.items() if isinstance(each.estimate, Exact)}
    if any(_p(seen, limits, name, good=True) > 0 for name in exact):
        return False
    open_ = [each.estimate is None or _within_noise(each, limits[name]) for name, each in seen.items()]
    return len(exact) < len(seen) and not any(open_)


def _p(seen: Mapping[str, Seen], limits: Mapping[str, float], name: str, *, good: bool) -> float:
    one, better, limit = seen[name], REQUIREMENTS[name].better, limits[name]
    if _within_noise(one, limit):
        return 1.0
    return one.p_good(limit, better) if good else one.p_bad(limit, better)


def _within_noise(seen: Seen, limit: float) -> bool:
    """Whether rounding alone goes beyond the limit, so that no sample can decide it."""
    return seen.floor is not None and not isinstance(seen.estimate, Exact) and abs(limit) < seen.floor


def _weighed(
    cell: Measured,
    seen: Mapping[str, Seen],
    p_good: float,
    p_bad: Mapping[str, float],
    limits: Mapping[str, float],
    claims: int,
) -> Weighed:
    against, open_ = _beyond_figures(cell.record)
    meets = p_good < ALPHA and not open_
    weighings = tuple(
        _weighing(name, each, limits[name], p_bad[name], claims, meets=meets) for name, each in seen.items()
    )
    rejected = against or any(each.word == "does not" for each in weighings)
    word: Word = "does not" if rejected else "meets all" if meets else "undecided"
    return Weighed(record=cell.record, word=word, weighings=weighings, why=against.rstrip(".") or open_)


def _beyond_figures(record: Record) -> tuple[str, str]:
    """What rules a cell out, and what keeps it open, whatever its figures are."""
    found = states_of(record)  # whether it meets the limits that it was judged by once is none of them
    against = next((AGAINST[each](record) for each in found if each in AGAINST), "")
    return against, ANOMALOUS if "anomalous" in found and not against else ""


def _weighing(name: str, seen: Seen, limit: float, p_bad: float, claims: int, *, meets: bool) -> Weighing:
    required = REQUIREMENTS[name]
    most = "at least" if required.better == "higher" else "at most" if isinstance(seen.estimate, Exact) else "less than"
    bound = f"{most} {limit:g}"
    if seen.estimate is None:
        again = "" if seen.tells_way_out else f"quantbench run -k CELL {required.measured_by} measures it"
        return Weighing(
            requirement=name,
            word="undecided",
            sentence=f"{required.label}, asked: {bound}: {seen.why}",
            settled_by=again,
        )
    told = f"{required.label} {_figure(seen, required.digits)} {required.unit}".rstrip() + f", asked: {bound}"
    if _within_noise(seen, limit):
        finer = f"{told}: rounding alone changes it by {seen.floor:.3g}"
        return Weighing(requirement=name, word="undecided", sentence=finer, settled_by="a larger limit can be")
    sure = seen.p_good(limit, required.better) * max(1, claims) < ALPHA
    # what is exactly on the limit is good enough: it is asked first
    word: Word = "meets all" if meets or sure else "does not" if p_bad < ALPHA else "undecided"
    needed = _needed(seen, limit, claims) if word == "undecided" else ""
    return Weighing(requirement=name, word=word, sentence=told, settled_by=needed)


def _figure(seen: Seen, digits: int) -> str:
    assert seen.estimate is not None
    found = seen.estimate.interval()
    if found.low == found.high:
        return f"{found.estimate:.{max(digits, 3)}g}"
    return f"{found.estimate:.{digits}f} [{found.low:.{digits}f}, {found.high:.{digits}f}]"


def _needed(seen: Seen, limit: float, claims: int) -> str:
    """How many items would decide it among so many claims, if the estimate stays where it is."""
    assert seen.estimate is not None
    if seen.items is None:
        return ""
    strict = seen.estimate.interval(ALPHA / max(1, claims) / seen.looks_factor)
    more = items_needed(seen.items, strict, limit, seen.whole)
    if more is None:
        return "it lies on the limit itself"
    if more == seen.whole:
        return f"all {more:,} {seen.counted} of the text would settle it"
    there = ", where the task has as many" if seen.counted == "questions" else ""
    return f"about {more:,} {seen.counted} would settle it{there}"
