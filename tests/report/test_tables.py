"""Figures as text: what is missing is a dash, and a judged figure is that of the look that decided."""

import pytest
from builders import make_perplexity, make_record, make_verdict

from pytest_quantbench.record.schema import Compression
from pytest_quantbench.report import tables
from pytest_quantbench.report.tables import MISSING, TABLES, Shown
from pytest_quantbench.stats.estimates import Interval

INTERVAL = Interval(estimate=0.5, low=-0.25, high=1.0, confidence=0.9)
PLAIN = Shown(value=4.0, reference=3.5, items=512, interval=INTERVAL)
SIZE = Compression(
    original_gb=4.0,
    compressed_gb=1.1376,
    ratio=0.2844,
    times_smaller=3.516,
    time_sec=1.0,
    bits_per_weight=4.55,
    inner_bits_per_weight=4.5,
    outer_bits_per_weight=None,
    quantized_fraction=1.0,
    calibration={"text": "wikitext2", "sha256": "0123456789abcdef", "sequences": 128, "sequence_tokens": 2048},
    calibration_ppl=7.25,
)


def test_numbers_and_intervals():
    assert tables.number(3.14159, 2) == "3.14"
    assert tables.interval(INTERVAL, 2) == "0.50 [-0.25, 1.00]"
    assert tables.interval(INTERVAL, 1, "+") == "+0.5 [-0.2, +1.0]"
    assert tables.number(None, 2) == tables.interval(None, 2) == MISSING


@pytest.mark.parametrize(
    ("outcome", "sign"), [("pass", "✓"), ("fail", "✗"), ("undecided", "?"), ("anomalous", "!"), ("informational", "·")]
)
def test_a_mark_is_that_of_the_worst_verdict(outcome, sign):
    record = make_record(verdicts=(make_verdict("perplexity_delta", outcome),))
    assert tables.mark(record, "perplexity_delta") == sign
    assert tables.mark(record, "accuracy_drop_points") == ""


def test_without_a_verdict_the_figures_are_of_all_samples():
    assert tables.decided(make_record(), "perplexity_delta", PLAIN) == PLAIN
    suppressed = make_verdict("perplexity_delta", "informational", limit=None)
    assert tables.decided(make_record(verdicts=(suppressed,)), "perplexity_delta", PLAIN) == PLAIN


def test_a_judged_figure_is_of_the_look_that_decided():
    verdict = make_verdict("perplexity_delta", value=4.5, reference_value=3.5, items=128)
    shown = tables.decided(make_record(verdicts=(verdict,)), "perplexity_delta", PLAIN)
    assert (shown.value, shown.reference, shown.items, shown.note) == (4.5, 3.5, 128, "")
    assert (shown.interval.low, shown.interval.high) == (0.5, 1.5)


def test_an_older_records_interval_says_of_how_many_it_is():
    verdict = make_verdict("perplexity_delta", items=1024)
    shown = tables.decided(make_record(verdicts=(verdict,)), "perplexity_delta", PLAIN)
    assert (shown.value, shown.items, shown.note) == (4.0, 512, " (of 1,024)")


def test_of_a_record_without_figures_every_table_says_so():
    assert {table.figure(make_record()) for table in TABLES} == {MISSING}


def test_size_is_told_with_its_bits_and_its_gigabytes():
    record = make_record(compression=SIZE)
    reduction, gigabytes = (table.figure(record) for table in TABLES[:2])
    assert reduction == "71.6 % (4.55 bpw)"
    assert gigabytes == "1.14"


def test_the_calibration_text_is_told_with_its_hash_and_length():
    assert tables.calibration(make_record()) == ""
    assert tables.calibration(make_record(compression=SIZE)) == (
        "wikitext2 (sha256 0123456789ab, 128 sequences of 2048), where the perplexity of BF16 is 7.2"
    )


def test_a_perplexity_alone_and_beside_the_references():
    (table,) = (table for table in TABLES if table.metric == "perplexity_delta")
    alone = make_perplexity(bf16_ppl=None, delta=None, delta_interval=None)
    assert table.figure(make_record(perplexity=alone)) == "4.000 (512 tokens)"
    assert table.figure(make_record(perplexity=make_perplexity())).startswith(
        "4.000 against 3.500 (512 tokens), Δ +0.500"
    )
