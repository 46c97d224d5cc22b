"""The table's figures, against the records that they are of."""

from dataclasses import replace

import generated_suite
import pytest
from builders import make_record

from pytest_quantbench.engines.machine import Machine
from pytest_quantbench.record.suite import worst
from pytest_quantbench.report.answers import answer
from pytest_quantbench.report.html.rows import COLUMNS, method, rows

NAMES = [column.name for column in COLUMNS]


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
        assert len(row.figures) == len(COLUMNS)


def test_keys_are_the_records_own_figures_and_texts_their_rounding(records):
    for row, record in zip(rows(records), records, strict=True):
        assert figure(row, "bits").key == record.compression.bits_per_weight
        assert figure(row, "size").key == record.compression.compressed_gb
        assert figure(row, "rate").text == f"{record.throughput.mean_tps:.1f}"
        if (verdict := worst(record, "perplexity_delta")) is not None and verdict.limit is not None:
            shown = figure(row, "perplexity")
            assert shown.key == verdict.estimate
            assert float(shown.text.replace("−", "-")) == pytest.approx(verdict.estimate, abs=5e-4)
            assert shown.interval.replace("−", "-") == f"[{verdict.low:+.3f}, {verdict.high:+.3f}]"
            assert shown.outcome == verdict.outcome


def test_recipes_are_sorted_by_their_width_not_by_their_name(records):
    keys = [figure(row, "recipe").key for row in rows(records[:4])]
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
