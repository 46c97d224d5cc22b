"""Loss against speed, a panel for each model: what a cell's tokens per second are worth."""

from collections.abc import Sequence
from typing import Any

from pytest_quantbench.record import fronts
from pytest_quantbench.record.schema import Record
from pytest_quantbench.report.charts import limits, scales, sheet, wording
from pytest_quantbench.report.charts.charted import Charted
from pytest_quantbench.report.charts.scatter import Groups, Limit, Panel, Point
from pytest_quantbench.report.charts.wording import LOSSES
from pytest_quantbench.stats.estimates import Interval

HEIGHT = 230
TITLE = "tokens per second, times those of BF16"


def draw(cells: Sequence[Charted], on: sheet.Sheet) -> dict[str, Any] | None:
    """A panel for each of the first models with a cell whose speed and perplexity were both compared."""
    compared = [cell for cell in cells if _tells_both(cell.record)]
    drawn = [(model, [cell.record for cell in own]) for model, own in sheet.by_model(compared)]
    if not drawn:
        return None
    shown = drawn[: sheet.MOST_PANELS]
    every = [record for _, records in shown for record in records]
    x, y = _speeds(every), _losses(every)
    levels = list(dict.fromkeys(record.level for record in every))
    groups = Groups(title="level", names=levels, width=on.legend_width)
    panels = [
        _panel(model if len(shown) > 1 else "", records, x, y, groups).draw(on, len(shown), HEIGHT)
        for model, records in shown
    ]
    return on.finish(panels, [_without_ratio(cells), sheet.left_out("models", len(shown), len(drawn))])


def _tells_both(record: Record) -> bool:
    return record.throughput is not None and record.throughput.ratio is not None and _loss(record) is not None


def _loss(record: Record) -> Interval | None:
    return None if record.level == "bf16" else fronts.loss_of(record, "delta")


def _without_ratio(cells: Sequence[Charted]) -> str:
    """How many cells were timed and have no ratio: the machine's own speed changed."""
    timed = [cell.record.throughput for cell in cells if cell.record.level != "bf16" and cell.record.throughput]
    without = sum(each.ratio is None for each in timed)
    return f"{wording.count(without, 'cell')} without a ratio." if without else ""


def _speeds(records: Sequence[Record]) -> scales.Axis:
    """From 1 × on, or from the slowest."""
    ends = [1.0]
    for record in records:
        assert record.throughput is not None
        assert record.throughput.ratio is not None
        ratio = record.throughput.ratio
        ends += [ratio.estimate, ratio.low, ratio.high, *limits.of(record, "throughput_ratio")]
    return scales.linear(TITLE, ends)


def _losses(records: Sequence[Record]) -> scales.Axis:
    ends = []
    for record in records:
        loss = _loss(record)
        assert loss is not None
        ends += [loss.estimate, loss.low, loss.high, *limits.of(record, "perplexity_delta")]
    return scales.bent(LOSSES["delta"].title, ends, LOSSES["delta"].constant)


def _panel(model: str, records: Sequence[Record], x: scales.Axis, y: scales.Axis, groups: Groups) -> Panel:
    points = [_point(record) for record in records]
    spots = [(record, point.x.estimate, point.y.estimate) for record, point in zip(records, points, strict=True)]
    same_speed = Limit(axis="x", value=1.0, begin=y.low, end=y.high, tells="as fast as BF16")
    metrics = ("throughput_ratio", "perplexity_delta")
    judged = [each for metric in metrics for each in limits.strokes(metric, spots, x, y)]
    return Panel(points=points, x=x, y=y, groups=groups, limits=[same_speed, *judged], title=model)


def _point(record: Record) -> Point:
    loss = _loss(record)
    assert record.throughput is not None
    assert record.throughput.ratio is not None
    assert loss is not None
    speed = record.throughput.ratio
    told = {
        "speed": wording.interval(speed, "× BF16"),
        "tokens per second": wording.number(record.throughput.mean_tps),
        LOSSES["delta"].short: wording.interval(loss),
    } | limits.told(record, ("perplexity_delta", "throughput_ratio"))
    return Point(model=record.model_id, name=record.recipe, x=speed, y=loss, group=record.level, tells=told)
