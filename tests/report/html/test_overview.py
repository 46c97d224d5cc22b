"""Where the time went and what it cost, against sums by hand."""

from dataclasses import replace

import generated_suite
import pytest
from builders import make_record, make_verdict

from pytest_quantbench.catalog.criteria import asked_of
from pytest_quantbench.record.fronts import front
from pytest_quantbench.record.publication_schema import Accelerator, Cost
from pytest_quantbench.report.answers import answer
from pytest_quantbench.report.charts import Charted
from pytest_quantbench.report.html import overview
from pytest_quantbench.stats.fronts import WORDS

ASKED = asked_of("weights")


@pytest.fixture(scope="module")
def records():
    return generated_suite.records(2, ("int4",), tokens=512, questions=60)


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (None, "–"),
        (0.04, "0.0 s"),
        (59.94, "59.9 s"),
        (412, "6 min 52 s"),
        (3599.6, "1 h 00 min"),
        (11_100, "3 h 05 min"),
    ],
)
def test_durations_are_told_in_the_units_of_clocks(seconds, told):
    assert overview.duration(seconds) == told


def timed(record, compressing, t1, cost=None):
    return replace(
        record,
        compression=replace(record.compression, time_sec=compressing),
        throughput=replace(record.throughput, time_sec=t1),
        perplexity=replace(record.perplexity, time_sec=None),
        accuracy=replace(record.accuracy, time_sec=None),
        cost=cost,
    )


def test_times_are_summed_by_model_and_over_all(records):
    found = overview.spent([timed(record, 10.0, 2.0) for record in records])
    assert [line.name for line in found] == [records[0].model_id, records[2].model_id, "all"]
    assert found[0].stages == ["20.0 s", "4.0 s", "–", "–"]
    assert (found[0].total, found[2].total) == ("24.0 s", "48.0 s")
    assert found[2].cost == "–"


def test_one_model_needs_no_sum(records):
    assert len(overview.spent([timed(records[0], 1.0, 1.0)])) == 1


def test_no_time_is_no_table():
    assert overview.spent([make_record()]) == []


def test_costs_are_the_price_of_the_seconds(records):
    cost = Cost(price_per_hour=3.6, currency="EUR", per_million_tokens=None, compression=1.0)
    priced = [timed(record, 1000.0, 500.0, cost) for record in records[:2]]
    assert [line.cost for line in overview.spent(priced)] == ["3.00 EUR"]
    assert overview.price(priced) == "At 3.6 EUR per hour of this machine, for the seconds that the records tell."
    assert overview.price(records).startswith("No price was given")


def test_each_machine_is_told_once_with_its_cells(records):
    chip = Accelerator(name="A GPU", driver="1.2")
    found = overview.places([replace(record, accelerator=chip) for record in records])
    assert [(place.cells, [each.name for each in place.accelerators]) for place in found] == [(4, ["A GPU"])]
    assert found[0].versions == "python 3.11.7"
    assert overview.places([make_record()]) == []


def test_each_calibration_text_is_told_with_its_recipes(records):
    found = [line for line in overview.protocols(records) if line.startswith("Calibrated on")]
    assert found == ["Calibrated on c4 (sha256 e679daf0f6de, 128 sequences): int4"]


def charted(record, word, gigabytes, recipe="int4"):
    verdict = make_verdict("perplexity_delta", "pass" if word == "may ship" else "fail")
    kept = [make_verdict(metric) for metric in ASKED if metric != "perplexity_delta"]
    size = replace(record.compression, compressed_gb=gigabytes)
    changed = replace(record, recipe=recipe, verdicts=(*kept, verdict), compression=size)
    return Charted(record=changed)


def test_the_smallest_is_one_that_may_ship():
    record = generated_suite.records(1, ("int4",), tokens=512, questions=60)[1]
    cells = [
        charted(record, "may ship", 4.0),
        charted(record, "may ship", 3.0, "int4-gptq"),
        charted(record, "may not ship", 2.0, "int4-rtn"),
    ]
    said = {cell.record.recipe: answer(cell.record).word for cell in cells}
    assert said == {"int4": "may ship", "int4-gptq": "may ship", "int4-rtn": "may not ship"}
    (line,) = overview.smallest(cells)
    assert (line.model, line.recipe, line.size) == (record.model_id, "int4-gptq", "3.00 GB")
    assert any(word in line.standing for word in WORDS)
    assert overview.smallest(cells[2:]) == []


def test_where_the_smallest_stands_is_what_the_front_says():
    found = generated_suite.cells(4, ("int4", "int4-gptq", "int4-rtn"), tokens=1024, questions=60)
    cells = [Charted(record=record, arrays=arrays) for record, arrays in found]
    for line in overview.smallest(cells):
        own = [(cell.record, cell.arrays) for cell in cells if cell.record.model_id == line.model]
        placed = next(each for each in front(own) if each.record.recipe == line.recipe)
        assert line.standing.startswith(placed.word)
        assert line.standing.endswith(placed.by)


def test_protocols_are_told_once(records):
    told = overview.protocols(records)
    assert len(told) == len(set(told))
    assert told[-1] == "Seeds: 0"
    assert any(line.startswith("T3 arc_easy: 60 questions") for line in told)
