"""Each chart's own: the cells that it holds, with the figures of their records."""

from dataclasses import replace

import numpy as np
import pytest
from builders import make_record, make_verdict

from pytest_quantbench.judge.verdict import Look
from pytest_quantbench.record import fronts
from pytest_quantbench.report.charts import CHARTS, Charted, matrices
from pytest_quantbench.report.charts.by_bits import draw as by_bits
from pytest_quantbench.report.charts.sheet import Sheet


def compressed(cells):
    return {cell.record.recipe: cell.record for cell in cells if cell.record.level != "bf16"}


def test_the_front_has_every_cell_with_its_size_loss_and_standing(one_model, rows_with):
    rows = {row["name"]: row for row in rows_with(CHARTS["pareto"].draw(one_model), "standing")}
    placed = {each.record.recipe: each for each in fronts.front([(c.record, c.arrays) for c in one_model])}
    records = compressed(one_model)
    assert rows.keys() == records.keys()
    for recipe, row in rows.items():
        found, delta = placed[recipe], records[recipe].perplexity.delta_interval
        assert row["x"] == records[recipe].compression.compressed_gb
        assert (row["y"], row["y_low"], row["y_high"]) == (delta.estimate, delta.low, delta.high)
        assert row["group"] == found.word
        assert row["standing"] == found.word + (f", by {found.by}" if found.by else "")
    line = rows_with(CHARTS["pareto"].draw(one_model), "line")
    assert {row["x"] for row in line} == {each.cost.estimate for each in placed.values() if each.word == "on the front"}


def test_limits_stand_beside_the_cells_that_they_hold_for(one_model, rows_with):
    limits = {row["limit"]: row for row in rows_with(CHARTS["pareto"].draw(one_model), "limit")}
    records = compressed(one_model)
    original = records["int4"].compression.original_gb
    assert limits[f"int4: size at most {0.3 * original:.4g} GB"]["at"] == pytest.approx(0.3 * original)
    assert limits["int3: ΔPPL below 2.5"]["at"] == 2.5
    assert {text.partition(":")[0] for text in limits} == {"int4", "int3", "int2"}
    threes = [record.compression.compressed_gb for record in records.values() if record.level == "int3"]
    stroke = limits["int3: ΔPPL below 2.5"]
    assert stroke["begin"] < min(threes) <= max(threes) < stroke["end"]
    others = [record.compression.compressed_gb for record in records.values() if record.level != "int3"]
    assert not any(stroke["begin"] < size < stroke["end"] for size in others)


def test_small_models_are_measured_in_megabytes(one_model, rows_with):
    small = [
        replace(c, record=replace(c.record, compression=replace(c.record.compression, compressed_gb=0.002)))
        for c in one_model
    ]
    row = rows_with(CHARTS["pareto"].draw(small), "standing")[0]
    assert row["x"] == 2.0
    assert row["size, MB"] == "2"


def test_the_front_may_be_one_of_prices(one_model, rows_with):
    rows = {row["name"]: row for row in rows_with(CHARTS["pareto_price"].draw(one_model), "standing")}
    records = compressed(one_model)
    assert rows.keys() == records.keys()
    for recipe, row in rows.items():
        price = records[recipe].cost.per_million_tokens
        assert (row["x"], row["x_low"], row["x_high"]) == pytest.approx((price.estimate, price.low, price.high))
    unpriced = [replace(cell, record=replace(cell.record, cost=None)) for cell in one_model]
    assert CHARTS["pareto_price"].draw(unpriced) is None


def test_several_models_have_a_panel_each(three_models, rows_with):
    specification = CHARTS["pareto"].draw(three_models)
    models = list(dict.fromkeys(cell.record.model_id for cell in three_models))
    assert [panel["title"]["text"] for panel in specification["concat"]] == models
    assert len(rows_with(specification, "standing")) == 24


@pytest.mark.parametrize(("name", "quality"), [("kl_by_bits", "kl"), ("perplexity_by_bits", "delta")])
def test_losses_stand_over_the_stored_bits(one_model, rows_with, name, quality):
    rows = {row["name"]: row for row in rows_with(CHARTS[name].draw(one_model), "name")}
    for recipe, record in compressed(one_model).items():
        loss = fronts.loss_of(record, quality)
        assert rows[recipe]["x"] == record.compression.bits_per_weight
        assert rows[recipe]["y"] == loss.estimate
        assert rows[recipe]["y_low"] == pytest.approx(loss.low)
    assert rows["int4-gptq"]["group"] == rows["int3-gptq"]["group"] == "gptq"
    assert rows["int4"]["group"] == "nibble"


def test_of_several_models_a_line_joins_what_no_narrower_cell_beats(three_models, rows_with):
    specification = by_bits(three_models, Sheet(title="t", tells="t", width=760), "delta")
    rows = [row for row in rows_with(specification, "line") if row["line"] == row["group"]]
    for model in {row["line"] for row in rows}:
        losses = [row["y"] for row in sorted(rows, key=lambda row: row["x"]) if row["line"] == model]
        assert losses == sorted(losses, reverse=True)


def test_speeds_stand_with_both_intervals_and_those_without_are_counted(one_model, rows_with):
    cells = [
        replace(c, record=replace(c.record, throughput=replace(c.record.throughput, ratio=None)))
        if c.record.level == "int3"
        else c
        for c in one_model
    ]
    specification = CHARTS["speed"].draw(cells)
    rows = {row["name"]: row for row in rows_with(specification, "speed")}
    expected = {recipe: r for recipe, r in compressed(cells).items() if r.level != "int3"}
    assert rows.keys() == expected.keys()
    for recipe, record in expected.items():
        ratio = record.throughput.ratio
        assert (rows[recipe]["x"], rows[recipe]["x_low"], rows[recipe]["x_high"]) == (
            ratio.estimate,
            ratio.low,
            ratio.high,
        )
    assert "2 cells without a ratio." in specification["title"]["subtitle"]


def test_latencies_are_those_of_the_raw_samples(one_model, rows_with):
    rows = rows_with(CHARTS["latency"].draw(one_model), "percentile")
    for cell in one_model:
        mine = {row["percentile"]: row["ms"] for row in rows if row["group"] == cell.record.recipe}
        gaps = 1e3 * cell.arrays["throughput/latencies_seconds"].astype(float)
        for percent in (50, 99.9):
            assert mine[f"p{percent}"] == pytest.approx(np.percentile(gaps, percent))


def test_intervals_of_percentiles_are_those_of_the_record(one_model, rows_with):
    rows = rows_with(CHARTS["latency"].draw(one_model), "percentile")
    cell = one_model[1]
    known = cell.record.throughput.gap_sec["50"]
    row = next(row for row in rows if row["group"] == cell.record.recipe and row["percentile"] == "p50")
    assert (row["low"], row["high"]) == pytest.approx((1e3 * known.low, 1e3 * known.high))
    assert row["interval"].endswith(" ms")


def test_every_matrix_has_its_place_and_the_worst_is_framed(one_model, rows_with):
    rows = rows_with(CHARTS["snr_map"].draw(one_model), "SNR")
    for recipe, record in compressed(one_model).items():
        mine = [row for row in rows if row["recipe"] == recipe]
        assert len(mine) == 28
        (worst,) = [row for row in mine if row["worst"]]
        assert worst["matrix"] == record.weights.worst_tensor
        assert worst["SNR"] == f"{record.weights.worst_snr_db:.1f} dB"
        below = record.weights.worst_snr_db - record.weights.median_snr_db
        assert worst["from the median"] == f"{below:+.1f} dB"


def test_of_several_models_each_cells_worst_matrix_is_framed(three_models, rows_with):
    framed = [row for row in rows_with(CHARTS["snr_map"].draw(three_models), "SNR") if row["worst"]]
    records = [cell.record for cell in three_models if cell.record.weights is not None]
    assert {(row["model"], row["recipe"]): row["matrix"] for row in framed} == {
        (record.model_id, record.recipe): record.weights.worst_tensor for record in records
    }
    assert len(framed) == len(records)


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("model.layers.3.q_proj", (3, "q_proj")),
        ("model.layers.0.self_attn.q_proj", (0, "q_proj")),
        ("model.layers.12.mlp.experts.5.gate_proj.weight", (12, "experts gate_proj")),
        ("model.layers.12.mlp.shared_expert.gate_proj", (12, "shared_expert gate_proj")),
        ("model.layers.7.mlp.down_proj.weight", (7, "down_proj")),
        ("lm_head", (None, "lm_head")),
        ("model.embed_tokens.weight", (None, "embed_tokens")),
    ],
)
def test_a_name_tells_the_layer_and_the_kind(name, place):
    assert matrices.place(name) == place


def test_of_many_experts_the_worst_is_shown(one_model, rows_with):
    cell = next(cell for cell in one_model if cell.record.level == "int4")
    names = ["model.layers.0.self_attn.q_proj", *(f"model.layers.0.mlp.experts.{n}.up_proj" for n in range(8))]
    snr = np.array([np.inf, *(20.0 - n for n in range(8))])
    arrays = {
        "weights/names": np.array(names),
        "weights/snr_db": snr,
        "weights/bits_per_weight": np.full(9, 4.5),
        "weights/quantizer": np.array(["rtn"] * 9),
    }
    rows = rows_with(CHARTS["snr_map"].draw([replace(cell, arrays=arrays)]), "SNR")
    assert {row["matrix"]: row["SNR"] for row in rows} == {names[0]: "nothing lost", names[8]: "13.0 dB"}
    assert next(row for row in rows if row["matrix"] == names[0])["difference"] is None


def look(items, low, high, outcome="undecided", last=False):
    estimate = None if low is None or high is None else (low + high) / 2
    return Look(
        items=items, fraction=items / 400, alpha=0.01, estimate=estimate, low=low, high=high, outcome=outcome, last=last
    )


def test_looks_stand_in_their_order_against_the_limit(rows_with):
    looks = (look(100, None, 9.0), look(200, -1.0, 2.0), look(400, 0.2, 0.6, "pass", True))
    verdict = make_verdict("perplexity_delta", "pass", limit=1.0, estimate=0.4, low=0.2, high=0.6, looks=looks)
    specification = CHARTS["looks"].draw([Charted(record=make_record(verdicts=(verdict,)))])
    rows = rows_with(specification, "items")
    assert [row["items"] for row in rows] == ["100", "200", "400"]
    assert [row["estimate"] for row in rows] == [None, 0.5, 0.4]
    assert rows[0]["interval"] == "– [–, 9]"
    assert rows[2]["outcome"] == "pass, the last look"
    assert (rows[2]["low"], rows[2]["high"]) == (0.2, 0.6)
    assert rows_with(specification, "limit") == [{"limit": 1.0}]


def test_checks_of_one_look_have_no_chart():
    verdict = make_verdict("perplexity_delta", "pass", limit=1.0, estimate=0.4, low=0.2, high=0.6)
    assert CHARTS["looks"].draw([Charted(record=make_record(verdicts=(verdict,)))]) is None
