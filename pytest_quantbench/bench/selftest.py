"""Does the gate see damage? A quantized model with known faults, from slight to fatal, and what the checks say of it.

The reference itself, with the other type of activations, has to pass every quality criterion; a model with a zeroed
layer or two swapped ones has to fail one. What lies between is the gate's measured power.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from pytest_quantbench import measures
from pytest_quantbench.bench.cell import Cell
from pytest_quantbench.bench.checks.deciding import decide
from pytest_quantbench.bench.damage import DAMAGES, FATAL
from pytest_quantbench.bench.schedule import Schedule
from pytest_quantbench.bench.target import Target
from pytest_quantbench.bench.wants import Want
from pytest_quantbench.catalog.criteria import METRICS, metric_of
from pytest_quantbench.judge.verdict import Outcome, Verdict
from pytest_quantbench.measures.integrity.measure import INTEGRITY

IDENTITY = "none: the reference with other activations"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What the checks said of one kind of damage: a verdict for each check that has a limit."""

    cell: str
    damage: str
    verdicts: tuple[Verdict, ...]
    named: tuple[str, ...] = ()  # what the integrity check says of the weights

    @property
    def expected(self) -> Outcome | None:
        """What has to come out; None for damage of a degree that the gate may or may not see."""
        return "pass" if self.damage == IDENTITY else "fail" if self.damage in FATAL else None

    @property
    def outcome(self) -> Outcome:
        """fail if any check failed, pass if all passed."""
        outcomes = {verdict.outcome for verdict in self.verdicts}
        return "fail" if "fail" in outcomes else "pass" if outcomes == {"pass"} else "undecided"


def findings(cell: Cell) -> Iterator[Finding]:
    """The reference under rounding, then every damage to the cell's model, judged by the cell's own limits."""
    schedule = cell.schedule
    damaged = {IDENTITY: cell.target.rounded, **{damage: cell.target.damaged(damage) for damage in DAMAGES}}
    limits = {name: cell.limit(metric_of(name)) for name in ("perplexity", "accuracy")}  # neither size nor speed change
    judged = {name: limit for name, limit in limits.items() if limit is not None}
    schedule.expected += [  # one walk for all
        Want(target=target, measure=measures.get(name)) for target in damaged.values() for name in judged
    ]
    for damage, target in damaged.items():
        verdicts = tuple(decide(name, target, schedule, limit) for name, limit in judged.items())
        yield Finding(cell=cell.id, damage=damage, verdicts=verdicts, named=_named(target, schedule))


def _named(target: Target, schedule: Schedule) -> tuple[str, ...]:
    """What the integrity check says of a target's weights. Raises what keeps them from being looked at."""
    schedule.ensure([Want(target=target, measure=INTEGRITY)])
    if (error := schedule.samples.why_not(target, INTEGRITY)) is not None:
        raise error
    found = schedule.samples.get(target, INTEGRITY)
    return () if found is None else found.problems


def as_table(found: list[Finding]) -> tuple[list[str], list[list[str]]]:
    """Damage against verdict: the names of a table's columns, and its rows."""
    checks = [METRICS[verdict.metric] for verdict in found[0].verdicts]
    limits = [verdict.limit for verdict in found[0].verdicts]
    heads = [f"{m.label}, limit {limit:g} {m.unit}".rstrip() for m, limit in zip(checks, limits, strict=True)]
    heads = [f"damage to {found[0].cell}", *heads, "verdict", "integrity"]
    rows = []
    for finding in found:
        shown = [f"{_shown(verdict)} {verdict.outcome}" for verdict in finding.verdicts]
        named = f"{len(finding.named)} findings" if finding.named else "nothing"
        rows.append([finding.damage, *shown, finding.outcome, named])
    return heads, rows


def _shown(verdict: Verdict) -> str:
    if verdict.estimate is None or verdict.low is None or verdict.high is None:
        return "–"
    return f"{verdict.estimate:.3g} [{verdict.low:.3g}, {verdict.high:.3g}] after {verdict.items:,},"
