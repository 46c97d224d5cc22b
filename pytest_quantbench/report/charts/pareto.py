"""Loss against size or price, a panel for each model: which cells no other beats, and how sure it is of the others."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from pytest_quantbench.record import fronts
from pytest_quantbench.record.fronts import Placed, Quality
from pytest_quantbench.report.charts import limits, scales, sheet, wording
from pytest_quantbench.report.charts.charted import Charted
from pytest_quantbench.report.charts.scatter import Groups, Panel, Point
from pytest_quantbench.report.charts.wording import LOSSES
from pytest_quantbench.stats.estimates import Interval
from pytest_quantbench.stats.fronts import WORDS

HEIGHT = 230
SMALL_GB = 0.1


def draw(cells: Sequence[Charted], on: sheet.Sheet, cost: fronts.Cost = "size") -> dict[str, Any] | None:
    """A panel for each of the first models that have two figures of any cell."""
    quality: Quality = "delta" if any(fronts.loss_of(cell.record, "delta") for cell in cells) else "kl"
    models = [
        (model, own)
        for model, own in sheet.by_model(cells)
        if any(fronts.known(cell.record, quality, cost) for cell in own)
    ]
    if not models:
        return None
    fronts_of = {
        model: fronts.front([(cell.record, cell.arrays) for cell in own], quality, cost)
        for model, own in models[: sheet.MOST_PANELS]
    }
    every = [each for placed in fronts_of.values() for each in placed]
    ends = [end for each in every for end in (each.loss.estimate, each.loss.low, each.loss.high)]
    if quality == "delta":
        ends += [value for each in every for value in limits.of(each.record, "perplexity_delta")]
    y = scales.bent(LOSSES[quality].title, ends, LOSSES[quality].constant)
    unit = _unit(every, cost)
    groups = Groups(title="", names=WORDS, width=on.legend_width, colours="ramp")
    panels = [
        _panel(placed, y, groups, quality, unit, model if len(fronts_of) > 1 else "").draw(on, len(fronts_of), HEIGHT)
        for model, placed in fronts_of.items()
    ]
    return on.finish(panels, [sheet.left_out("models", len(fronts_of), len(models))])


def draw_price(cells: Sequence[Charted], on: sheet.Sheet) -> dict[str, Any] | None:
    """The same against what a million tokens cost, of cells that tell it."""
    return draw(cells, on, "price")


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """What the cost is in: its axis's title, and what a record's figure is multiplied by."""

    cost: fronts.Cost
    title: str
    factor: float = 1.0

    def of(self, found: Interval) -> Interval:
        """A record's figure in this unit."""
        low, high = self.factor * found.low, self.factor * found.high
        return replace(found, estimate=self.factor * found.estimate, low=low, high=high)


def _unit(placed: Sequence[Placed], cost: fronts.Cost) -> Unit:
    """GB; MB where all are small."""
    if cost == "price":
        currency = next((each.record.cost.currency for each in placed if each.record.cost is not None), "")
        return Unit(cost=cost, title=f"price per million tokens{currency and f', {currency}'}")
    if max(each.cost.estimate for each in placed) < SMALL_GB:
        return Unit(cost=cost, title="size, MB", factor=1000.0)
    return Unit(cost=cost, title="size, GB")


def _panel(placed: Sequence[Placed], y: scales.Axis, groups: Groups, quality: Quality, unit: Unit, model: str) -> Panel:
    ordered = sorted(placed, key=lambda each: (each.cost.estimate, each.loss.estimate))
    points = [_point(each, quality, unit) for each in ordered]
    ends = [end for point in points for end in (point.x.low, point.x.high)]
    if unit.cost == "size":
        ends += [unit.factor * value for each in placed for value in limits.of(each.record, "size_reduction_percent")]
    x = scales.linear(unit.title, ends)
    spots = [(each.record, point.x.estimate, point.y.estimate) for each, point in zip(ordered, points, strict=True)]
    judged = limits.strokes("perplexity_delta", spots, x, y) if quality == "delta" else []
    if unit.cost == "size":
        judged += limits.strokes("size_reduction_percent", spots, x, y, unit.factor)
    return Panel(points=points, x=x, y=y, groups=groups, limits=judged, step=True, title=model)


def _point(each: Placed, quality: Quality, unit: Unit) -> Point:
    cost = unit.of(each.cost)
    told = {
        unit.title: wording.interval(cost),
        LOSSES[quality].short: wording.interval(each.loss),
        "standing": each.word + (f", by {each.by}" if each.by else ""),
        "error probability of dominated": wording.number(each.p),
    } | limits.told(each.record, ("perplexity_delta", "size_reduction_percent"))
    line = "front" if each.word == "on the front" else ""
    model, recipe = each.record.model_id, each.record.recipe
    return Point(model=model, name=recipe, x=cost, y=each.loss, group=each.word, tells=told, line=line)
