"""A model's table: every figure with its interval and n, a column per recipe, no wider than can be read."""

import dataclasses

import generated_suite
import pytest
from builders import make_perplexity, make_record, make_verdict

from pytest_quantbench.record.publication_schema import Cost
from pytest_quantbench.record.schema import NoiseFloor
from pytest_quantbench.report.markdown import model_tables
from pytest_quantbench.report.markdown.figures import TIED, ranged
from pytest_quantbench.report.tables import significant, tiny
from pytest_quantbench.stats.estimates import Interval
from pytest_quantbench.stats.percentiles import Percentile


def rows_of(records):
    """Cells by the row's label, and by the label before it where that begins with …; with plain spaces."""
    found, last = {}, ""
    for line in model_tables.section(records):
        if line.startswith("| ") and not line.startswith("|  |"):
            label, *cells = (cell.strip().replace(TIED, " ") for cell in line.strip("|").split("|"))
            last = label if not label.startswith("…") else last
            found[label if label == last else f"{last} {label}"] = cells
    return found


@pytest.fixture(scope="module")
def records():
    return generated_suite.records(1, questions=100)


def test_figures_are_the_records_with_intervals_and_how_many(records):
    record = next(each for each in records if each.recipe == "int4")
    rows = rows_of([record])
    part, task, speed = record.perplexity, record.accuracy.tasks["hellaswag"], record.throughput
    verdict = next(each for each in record.verdicts if each.metric == "perplexity_delta")
    assert rows["method"] == ["nibble"]
    assert rows["bits per weight, whole model"] == ["4.51"]
    assert rows["compression ratio, ×"] == [f"{record.compression.times_smaller:.2f}"]
    assert rows["perplexity … Δ"] == [f"{verdict.estimate:+.3f} [{verdict.low:+.3f}, {verdict.high:+.3f}] ✓"]
    assert rows["perplexity … tokens"] == [f"{verdict.items:,}"]
    assert rows["same likeliest token, % … tokens"] == [f"{part.tokens:,}"]
    assert rows["hellaswag, % right … questions"] == ["100"]
    assert rows["hellaswag, % right … answers lost, gained"] == [f"{task.right_to_wrong}, {task.wrong_to_right}"]
    assert rows["decode, tokens per second ± sd"] == [f"{speed.mean_tps:.1f} ± {speed.std_tps:.1f}"]
    assert rows["decode, tokens per second ± sd … runs"] == ["15"]
    share = rows["decode, tokens per second ± sd … of what the memory's bandwidth allows"]
    assert share == [f"{100 * speed.bound_share:.2g} %"]
    gap = speed.gap_sec["99.9"]
    assert rows["time per token, ms: p50 … p99.9"][0].startswith(f"{1000 * gap.estimate:.2f} [")
    assert rows["time per token, ms: p50 … gaps between tokens"] == [f"{speed.gaps:,}"]


def test_many_recipes_are_spread_over_tables_of_equal_width(records):
    heads = [line for line in model_tables.section(records) if line.startswith("|  |")]
    assert heads == [
        "|  | bf16 | int8 | int4 | int4-gptq | int4-rtn |",
        "|  | int3 | int3-gptq | int2 | int2-vptq |",
    ]


def test_a_figure_of_a_look_has_no_interval_of_other_tokens():
    own = Interval(estimate=4.0, low=3.8, high=4.2)
    part = make_perplexity(ppl_interval=own, tokens=2048)
    assert rows_of([make_record(perplexity=part)])["perplexity"] == ["4.000 [3.800, 4.200]"]
    looked = make_verdict("perplexity_delta", of="c", value=4.1, reference_value=3.4, items=512)
    rows = rows_of([make_record(perplexity=part, verdicts=(looked,))])
    assert (rows["perplexity"], rows["perplexity … of BF16 on these tokens"]) == (["4.100"], ["3.400"])
    assert rows["perplexity … tokens"] == ["512"]


def test_groups_and_rows_of_which_nothing_is_known_are_left_out():
    text = "\n".join(model_tables.section([make_record()]))
    assert "**Size**" in text  # the method is known
    assert "**Accuracy**" not in text
    assert "perplexity" not in text


def test_worst_matrices_and_the_noise_floor_stand_below(records):
    record = next(each for each in records if each.weights is not None)
    weights = dataclasses.replace(record.weights, least_cosine=0.9, least_cosine_tensor="b.weight")
    text = "\n".join(model_tables.section([records[0], dataclasses.replace(record, weights=weights)]))
    assert f"- int8: lowest SNR `{record.weights.worst_tensor}`, least cosine `b.weight`" in text
    assert (
        "- noise floor, BF16 against itself between float32 and bfloat16 activations: perplexity 0.0040 points, KL"
        in text
    )
    floor = NoiseFloor(perplexity_points=9e-6, kl_nats=None, drop_points=None, flipped_points=None)
    small = make_record(recipe="bf16", level="bf16", noise_floor=floor)
    assert any("perplexity 9.0e-6 points" in line for line in model_tables.section([small]))


def test_costs_have_a_row_with_their_currency():
    cost = Cost(
        price_per_hour=2.0,
        currency="EUR",
        per_million_tokens=Interval(estimate=4.5, low=4.25, high=4.75),
        compression=0.2,
        volume_tokens=2_000_000,
        amortised_per_million_tokens=Interval(estimate=4.6, low=4.35, high=4.85),
    )
    drifted = dataclasses.replace(
        cost, per_million_tokens=None, amortised_per_million_tokens=None, suppressed="it drifted"
    )
    rows = rows_of([make_record(cost=cost), make_record(recipe="int3", cost=drifted)])
    assert rows["cost of a million tokens"] == ["4.50 [4.25, 4.75] EUR", "it drifted"]
    assert rows["cost of a million tokens … with compressing spread over a volume"] == [
        "4.60 [4.35, 4.85] EUR (2,000,000 tokens)",
        "–",
    ]


def test_numbers():
    assert [significant(value) for value in (0, 0.00734464, 1.2345, 12345.6, 999.96)] == [
        "0",
        "0.00734",
        "1.23",
        "12,346",
        "1,000",
    ]
    assert [tiny(value) for value in (0, 9e-5, 3.71e-7, 0.00123)] == ["0", "9.0e-5", "3.7e-7", "0.0012"]
    assert ranged(Interval(estimate=2.0, low=2.0, high=2.0), 1) == "2.0"
    assert ranged(Percentile(estimate=0.02, low=None, high=0.03), 1, factor=1000) == f"20.0 […,{TIED}30.0]"
