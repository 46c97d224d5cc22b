"""A loss against stored bits per weight: a line for each method of one model, or for each of several models."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from pytest_quantbench.catalog.recipes import LEVELS
from pytest_quantbench.record import fronts
from pytest_quantbench.record.fronts import Quality
from pytest_quantbench.record.schema import Record
from pytest_quantbench.report.charts import scales, sheet, wording
from pytest_quantbench.report.charts.charted import Charted
from pytest_quantbench.report.charts.scatter import Groups, Limit, Panel, Point
from pytest_quantbench.report.charts.wording import LOSSES

HEIGHT = 340


def draw_delta(cells: Sequence[Charted], on: sheet.Sheet) -> dict[str, Any] | None:
    """Of perplexity."""
    return draw(cells, on, "delta")


def draw_kl(cells: Sequence[Charted], on: sheet.Sheet) -> dict[str, Any] | None:
    """The KL divergence."""
    return draw(cells, on, "kl")


def draw(cells: Sequence[Charted], on: sheet.Sheet, quality: Quality) -> dict[str, Any] | None:
    """One panel with every compressed cell whose record tells both figures."""
    told = [cell.record for cell in cells if _tells_both(cell.record, quality)]
    models = list(dict.fromkeys(record.model_id for record in told))
    if not models:
        return None
    shown = models[: sheet.MOST_PANELS]
    points = [_point(record, quality, len(models) > 1) for record in told if record.model_id in shown]
    points = _lined(points) if len(models) > 1 else points
    points.sort(key=lambda point: (point.group, point.x.estimate, point.y.estimate))
    floor = _noise_floor(cells, quality) if len(models) == 1 else None
    panel = Panel(
        points=points,
        x=scales.linear("stored bits per weight", [point.x.estimate for point in points]),
        y=_loss_axis(points, quality, floor),
        groups=Groups(
            title="model" if len(models) > 1 else "method", names=_groups(points, shown), width=on.legend_width
        ),
        named=len(models) == 1,
    )
    if floor is not None:
        ends = {"begin": panel.x.low, "end": panel.x.high}
        panel = replace(panel, limits=[Limit(axis="y", value=floor, tells="noise floor", **ends)])
    notes = [
        "" if floor is None else "The dashed line is the noise floor: what bfloat16 activations change.",
        sheet.left_out("models", len(shown), len(models)),
    ]
    return on.finish([panel.draw(on, 1, HEIGHT)], notes)


def _tells_both(record: Record, quality: Quality) -> bool:
    is_compressed = record.level != "bf16" and record.kind == "weights"
    return is_compressed and record.compression is not None and fronts.loss_of(record, quality) is not None


def _point(record: Record, quality: Quality, several: bool) -> Point:
    loss = fronts.loss_of(record, quality)
    assert record.compression is not None
    assert loss is not None
    bits = fronts.exactly(record.compression.bits_per_weight)
    group = record.model_id if several else _method(record)
    told = {"stored bits per weight": wording.interval(bits), LOSSES[quality].short: wording.interval(loss)}
    line = "" if several else group
    return Point(model=record.model_id, name=record.recipe, x=bits, y=loss, group=group, line=line, tells=told)


def _method(record: Record) -> str:
    """Whose line a cell is on: its method's; candidates, which have none of ours, stand by themselves."""
    if record.candidate is not None:
        return record.recipe
    return record.recipe.partition("-")[2] or LEVELS[record.level].quantizer


def _lined(points: Sequence[Point]) -> list[Point]:
    """Of several models: a line through those cells of a model that no narrower one beats."""
    lined = []
    for point in points:
        beaten = any(
            other.group == point.group and other.x.estimate <= point.x.estimate and other.y.estimate < point.y.estimate
            for other in points
        )
        lined.append(point if beaten else replace(point, line=point.group))
    return lined


def _groups(points: Sequence[Point], models: Sequence[str]) -> list[str]:
    there = list(dict.fromkeys(point.group for point in points))
    return [model for model in models if model in there] or there


def _noise_floor(cells: Sequence[Charted], quality: Quality) -> float | None:
    """What the reference differs from itself by, where that was measured."""
    found = [cell.record.noise_floor for cell in cells if cell.record.noise_floor is not None]
    values = [floor.kl_nats if quality == "kl" else floor.perplexity_points for floor in found]
    return next((value for value in values if value), None)


def _loss_axis(points: Sequence[Point], quality: Quality, floor: float | None) -> scales.Axis:
    ends = [end for point in points for end in (point.y.estimate, point.y.low, point.y.high)]
    ends += [] if floor is None else [floor]
    if quality == "kl":
        return scales.logarithmic(LOSSES[quality].title, ends)
    return scales.bent(LOSSES[quality].title, ends, LOSSES[quality].constant)
