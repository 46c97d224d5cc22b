"""The chart of losses by depth: a line for each recipe, a point for each depth, the limit drawn."""

import altair
import pytest
from builders import make_at_depth, make_cache, make_perplexity, make_record, make_verdict

from pytest_quantbench.report.charts import CHARTS, Charted

LINES = {"kv8": (0.001, 0.002), "kv4": (0.2, 0.7)}


def cells(ends=(512, 1024)):
    found = []
    for recipe, deltas in LINES.items():
        parts = tuple(
            make_at_depth(above, up_to, delta)
            for above, up_to, delta in zip((0, *ends[:-1]), ends, deltas[: len(ends)], strict=True)
        )
        verdict = make_verdict("depth_perplexity_delta", limit=1.0)
        perplexity = make_perplexity(by_depth=parts)
        changes = {"recipe": recipe, "level": "kv", "bits": 16, "cache": make_cache(), "verdicts": (verdict,)}
        found.append(Charted(record=make_record(perplexity=perplexity, **changes)))
    return found


@pytest.mark.parametrize("width", [760, None])
def test_every_depth_of_every_recipe_is_a_point_with_its_interval(rows_with, width):
    specification = CHARTS["depth"].draw(cells(), width)
    altair.Chart.from_dict(specification).to_dict()
    rows = {(row["group"], row["depth"]): row for row in rows_with(specification, "depth", "estimate")}
    assert set(rows) == {(recipe, depth) for recipe in LINES for depth in ("0–512", "512–1k")}
    assert rows["kv4", "512–1k"]["estimate"] == pytest.approx(0.7)
    assert rows["kv4", "512–1k"]["low"] < 0.7 < rows["kv4", "512–1k"]["high"]
    assert [row["limit"] for row in rows_with(specification, "limit")] == [1.0]
    assert specification["usermeta"]["table"]["columns"] == ["model", "recipe", "ΔPPL at 0–512", "ΔPPL at 512–1k"]


def test_with_one_depth_there_is_nothing_to_draw():
    assert CHARTS["depth"].draw(cells((512,))) is None


def test_without_a_quantized_cache_there_is_nothing_to_draw():
    plain = [Charted(record=make_record(perplexity=each.record.perplexity)) for each in cells()]
    assert CHARTS["depth"].draw(plain) is None
    assert CHARTS["depth"].draw([]) is None
