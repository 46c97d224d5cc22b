"""Loss against size or price, a panel for each model: which cells no other beats, and how sure it is of the others."""

from collections.abc import Sequence
from typing import Any

from pytest_quantbench.record import fronts
from pytest_quantbench.record.fronts import Placed, Quality
from pytest_quantbench.report.charts import limits, scales, sheet, wording
from pytest_quantbench.report.charts.charted import Charted
from pytest_quantbench.report.charts.scatter import Groups, Limit, Panel, Point
from pytest_quantbench.report.charts.wording import LOSSES
from pytest_quantbench.stats.fronts import WORDS

HEIGHT = 230


def draw(cells: Sequence[Charted], on: sheet.Sheet, cost: fronts.Cost = "size") -> dict[str, Any] | None:
    """A panel for each of the first models that have two figures of any cell."""
    quality: Quality = "delta" if any(fronts.loss_of(cell.record, "delta") for cell in cells) else "kl"
    models = [(model, fronts.front([(c.record, c.arrays) for c in own], quality, cost)) for model, own in sheet.by_model(cells)]
    drawn = [(model, placed) for model, placed in models if placed]
    if not drawn:
        return None
    shown = drawn[: sheet.MOST_PANELS]
    ends = [end for _, placed in shown for each in placed for end in (each.loss.estimate, each.loss.low, each.loss.high)]
    if quality == "delta":
        ends += [value for _, placed in shown for each in placed for value in limits.of(each.record, "perplexity_delta")]
    y = scales.bent(LOSSES[quality].title, ends, LOSSES[quality].constant)
    panels = [
        _panel(model if len(shown) > 1 else "", placed, y, quality, cost).draw(
            on.panel_width(len(shown)), on.nominal_width(len(shown)), HEIGHT
        )
        for model, placed in shown
    ]
    return on.finish(panels, [sheet.left_out("models", len(shown), len(drawn))])


def _panel(model: str, placed: Sequence[Placed], y: scales.Axis, quality: Quality, cost: fronts.Cost) -> Panel:
    titles = {"size": "size, GB", "price": f"price per million tokens, {_currency(placed)}"}
    ends = [end for each in placed for end in (each.cost.low, each.cost.high)]
    if cost == "size":
        ends += [value for each in placed for value in limits.of(each.record, "size_reduction_percent")]
    x = scales.linear(titles[cost], ends)
    ordered = sorted(placed, key=lambda each: (each.cost.estimate, each.loss.estimate))
    return Panel(
        points=[_point(each, quality, titles[cost]) for each in ordered],
        x=x,
        y=y,
        groups=Groups(title="", names=WORDS),
        limits=_limits(ordered, x, y, quality, cost),
        step=True,
        title=model,
    )


def _currency(placed: Sequence[Placed]) -> str:
    return next((each.record.cost.currency for each in placed if each.record.cost is not None), "")


def _point(each: Placed, quality: Quality, cost_title: str) -> Point:
    told = {
        cost_title: wording.interval(each.cost),
        LOSSES[quality].short: wording.interval(each.loss),
        "standing": each.word + (f", by {each.by}" if each.by else ""),
        "error probability": wording.number(each.p),
    }
    front = each.word == "on the front"
    return Point(name=each.record.recipe, x=each.cost, y=each.loss, group=each.word, tells=told, line="front" if front else "")


def _limits(
    placed: Sequence[Placed], x: scales.Axis, y: scales.Axis, quality: Quality, cost: fronts.Cost
) -> list[Limit]:
    """What the cells are judged by: of perplexity, and of sizes, which are limits on gigabytes too."""
    spots = [(each.record, each.cost.estimate, each.loss.estimate) for each in placed]
    found = limits.strokes("perplexity_delta", spots, x, y) if quality == "delta" else []
    return [*found, *(limits.strokes("size_reduction_percent", spots, x, y) if cost == "size" else [])]
