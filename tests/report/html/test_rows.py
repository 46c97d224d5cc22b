"""The table's figures, against the records that they are of."""

from dataclasses import replace

import generated_suite
import pytest
from builders import make_record

from pytest_quantbench.engines.machine import Machine
from pytest_quantbench.record.publication_schema import Cost
from pytest_quantbench.record.suite import worst
from pytest_quantbench.report.answers import answer
from pytest_quantbench.report.html.columns import COLUMNS, columns, method
from pytest_quantbench.report.html.rows import STATES, rows
from pytest_quantbench.stats.estimates import Interval

WHERE_THERE = ("cost", "cache", "depth", "retrieval")
NAMES = [column.name for column in COLUMNS if column.name not in WHERE_THERE]  # of records without prices or caches


@pytest.fixture(scope="module")
def records():
    return generated_suite.records(2, ("int8", "int4", "int2"), tokens=512, questions=60)


def figure(row, name):
    return row.figures[NAMES.index(name)]


def test_there_is_a_row_for_each_record_with_what_is_said_of_it(records):
    found = rows(records)
    assert [row.name for row in found] == [f"{record.model_id}-{record.recipe}" for record in records]
    for row, record in zip(found, records, strict=True):
        said = answer(record)
        assert row.word == (said.word if said else "reference")
        assert len(row.figures) == len(NAMES)


def test_keys_are_the_records_own_figures_and_texts_their_rounding(records):
    for row, record in zip(rows(records), records, strict=True):
        assert figure(row, "bits").key == record.compression.bits_per_weight
        assert figure(row, "size").key == record.compression.compressed_gb
        assert figure(row, "rate").text == f"{record.throughput.mean_tps:.1f}"
        if (verdict := worst(record, "perplexity_delta")) is not None and verdict.limit is not None:
            shown = figure(row, "perplexity")
            assert shown.key == verdict.estimate
            digits = 3 if max(abs(verdict.low), abs(verdict.high)) < 10 else 1
            assert float(shown.text.replace("−", "-")) == pytest.approx(verdict.estimate, abs=0.6 * 10**-digits)
            assert shown.interval.replace("−", "-") == f"[{verdict.low:+.{digits}f}, {verdict.high:+.{digits}f}]"
            assert shown.outcome == verdict.outcome


def test_recipes_are_sorted_by_their_width_not_by_their_name(records):
    keys = [figure(row, "level").key for row in rows(records[:4])]
    assert keys == sorted(keys)
    assert [record.recipe for record in records[:4]] == ["bf16", "int8", "int4", "int2"]


def test_what_was_not_measured_is_missing_and_has_no_key():
    (row,) = rows([make_record()])
    for name in ("bits", "size", "rate", "speed", "perplexity", "kl", "drop", "snr"):
        assert (figure(row, name).text, figure(row, name).key) == ("–", None), name


def test_the_reference_has_figures_and_no_marks(records):
    row = rows(records)[0]
    assert row.outcome == "reference"
    assert {each.mark for each in row.figures} == {""}
    assert figure(row, "size").interval == ""


def test_figures_that_overflow_a_column_are_powers_of_ten(records):
    record = records[3]
    huge = replace(worst(record, "perplexity_delta"), estimate=1.23e9, low=-2e5, high=3.4e12)
    changed = replace(record, verdicts=(huge, *(v for v in record.verdicts if v.metric != huge.metric)))
    shown = figure(rows([changed])[0], "perplexity")
    assert (shown.text, shown.interval) == ("+1.2e+09", "[−2e+05, +3.4e+12]")


def test_methods_are_told_by_name():
    assert method(make_record(recipe="int4")) == "nibble"
    assert method(make_record(recipe="int4-gptq")) == "gptq"
    assert method(make_record(recipe="of-another-time")) == "–"


def test_machines_do_not_matter(records):
    """A record without a machine, as there are in older folders, has a row all the same."""
    assert isinstance(records[1].machine, Machine)
    assert rows([replace(records[1], machine=None)])[0].name == rows([records[1]])[0].name


def test_a_cell_that_was_not_judged_by_all_criteria_says_by_how_many(records):
    """int2 has limits of size and perplexity alone, int8 has none."""
    found = {record.recipe: row for record, row in zip(records[:4], rows(records), strict=False)}
    assert found["int4"].judged == ""
    assert found["int2"].judged == "2 of 4 criteria"
    assert found["int8"].judged == ""
    assert found["bf16"].states == []
    assert "partial" in found["int2"].states


def test_states_are_those_of_the_verdicts_whatever_the_cell_is_called(records):
    for row, record in zip(rows(records), records, strict=True):
        outcomes = {verdict.outcome for verdict in record.verdicts}
        assert ("undecided" in row.states, "fail" in row.states) == ("undecided" in outcomes, "fail" in outcomes)
        assert set(row.states) <= set(STATES)
        assert ("taken-back" in row.states) == any(each.taken_back for each in row.certainties)


def test_judged_figures_carry_their_limits(records):
    shown = rows(records)[2]
    told = {name: figure(shown, name).limit for name in ("size", "speed", "perplexity", "drop", "kl")}
    assert told == {"size": "≥ 70 %", "speed": "≥ 1.5 ×", "perplexity": "< 1", "drop": "< 3 points", "kl": ""}


def test_costs_are_a_column_where_there_is_a_price(records):
    assert [column.name for column in columns(records)] == NAMES
    rate = Interval(estimate=1.25, low=1.2, high=1.3)
    priced = [
        replace(record, cost=Cost(price_per_hour=3.6, currency="EUR", per_million_tokens=rate, compression=0.4))
        for record in records
    ]
    place = [column.name for column in columns(priced)].index("cost")
    assert columns(priced)[place].unit == "EUR/10⁶ tokens"
    shown = rows(priced)[1].figures[place]
    assert (shown.text, shown.interval, shown.key) == ("1.25", "[1.20, 1.30]", 1.25)
    other = replace(priced[0], cost=replace(priced[0].cost, currency="USD", per_million_tokens=None))
    assert columns([*priced, other])[place].unit == "per 10⁶ tokens"
    assert rows([other, *priced])[0].figures[place].text == "–"
