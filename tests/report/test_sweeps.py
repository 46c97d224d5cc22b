"""A sweep as tables and as charts: every kind, what was left out, and no ratio where the machine changed."""

from dataclasses import replace

import altair
import numpy as np
import pytest
from builders import make_record
from record.test_sweep_summary import samples

from pytest_quantbench.measures.sweep.samples import Point
from pytest_quantbench.record.sweep_summary import sweep
from pytest_quantbench.report.charts import CHARTS, Charted
from pytest_quantbench.report.markdown import markdown, sweeps

NAMES = [name for name in CHARTS if name.startswith("sweep")]
POINTS = [
    *(Point(kind="decode", rows=rows, depth=512, new_tokens=64) for rows in (1, 4, 32)),
    *(Point(kind="decode", rows=1, depth=depth, new_tokens=64) for depth in (0, 2048)),
    *(Point(kind="prefill", rows=1, depth=depth, new_tokens=1) for depth in (128, 256)),
    Point(kind="end to end", rows=1, depth=30, new_tokens=64),
    Point(kind="requests", rows=4, depth=512, new_tokens=64),
]


@pytest.fixture(scope="module")
def records():
    rng = np.random.default_rng(0)
    reference = made(0.02 * rng.normal(1, 0.05, 6), firsts=rng.uniform(0.4, 0.6, 6).tolist())
    own = made(0.01 * rng.normal(1, 0.05, 6), firsts=rng.uniform(0.2, 0.3, 6).tolist())
    drifted = replace(own.points[1], probes_per_second=(100.0, 100.0, 150.0))
    own = replace(own, points=(own.points[0], drifted, *own.points[2:]))
    bare = make_record(recipe="bf16", level="bf16", bits=16)
    return [replace(bare, sweep=sweep(reference, None)), make_record(sweep=sweep(own, reference))]


def made(gaps, **how):
    base = samples(gaps, **how)
    points = tuple(replace(base.points[0], point=point) for point in POINTS)
    return replace(base, points=(*points, base.points[1]))


def test_the_tables(records):
    text = "\n".join(sweeps.section(records))
    for kind in ("decode", "prefill", "end to end", "requests"):
        assert f"### Tiny: {kind}" in text
    assert "| int4 | 1 | 512 |" in text
    assert "none: the machine's own speed changed by +50% while it ran" in text
    assert "n\u00a0=\u00a06" in text
    assert "- prefill, 1 × 8,192 tokens was left out: too long." in text
    assert "p50 0.4" in text
    assert "% | captured |" in text
    assert text in markdown(records, ["quantbench run"])
    assert sweeps.section([make_record()]) == []


@pytest.mark.parametrize("name", NAMES)
def test_the_charts(records, name, one_chart_of):
    drawn = one_chart_of(name, records)
    altair.Chart.from_dict(drawn).to_dict()
    rows = [row for each in drawn["datasets"].values() for row in each]
    assert {row["group"] for row in rows} == {"bf16", "int4"}
    assert all(row["low"] <= row["value"] <= row["high"] for row in rows)
    table = drawn["usermeta"]["table"]
    assert [row[1] for row in table["rows"]] == ["bf16", "int4"]
    assert table["rows"][1][2].endswith("×") or name in ("sweep_batch", "sweep_depth")


def test_where_the_machine_changed_a_chart_has_no_ratio(records, one_chart_of):
    rates, ratios = one_chart_of("sweep_batch", records)["datasets"].values()
    assert [row["at"] for row in rates if row["group"] == "int4"] == [1, 4, 32]
    assert [row["at"] for row in ratios] == [1, 32]  # in pairs with nobody at 4
    assert [row["at"] for row in one_chart_of("sweep_depth", records)["datasets"]["rows-1"]][:3] == [0, 512, 2048]


def test_nothing_is_drawn_of_cells_that_were_not_swept(one_chart_of):
    assert all(one_chart_of(name, [make_record()]) is None for name in NAMES)


@pytest.fixture
def one_chart_of():
    return lambda name, records: CHARTS[name].draw([Charted(record=record) for record in records])
