"""Figures as text: what is missing is a dash, and a judged figure is that of the look that decided."""

import pytest
import terminal_text
from builders import make_record, make_verdict

from pytest_quantbench.record.runtime_schema import EngineError, FileError, Runtime, Speed
from pytest_quantbench.record.schema import Compression
from pytest_quantbench.report import tables
from pytest_quantbench.report.tables import MISSING, Shown
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

RAN = Runtime(
    runtime="llama.cpp",
    version="llama-cpp-python 0.3",
    how="2 threads",
    tokens=512,
    ppl=26.2,
    walk_ppl=26.0,
    bf16_ppl=25.9,
    file_error=FileError(mean_nats=0.0123, interval=Interval(estimate=0.0123, low=0.01, high=0.0146, confidence=0.9)),
    engine_error=EngineError(
        mean_nats=0.0004,
        interval=None,
        rms_nats=0.08,
        largest_nats=0.56,
        same_top=Interval(estimate=0.96, low=0.9, high=0.99, confidence=0.9),
    ),
    kl_nats=0.0083,
    walk_kl_nats=0.0051,
    speed=Speed(
        load_sec=0.21,
        load_secs=(0.21,) * 3,
        reading_tps=500.0,
        prefill_tps=300.0,
        first_token_sec=0.03,
        decode_tps=41.5,
        decode_tps_std=None,
        gap_sec={"50": 0.023, "90": 0.029, "95": 0.031, "99": 0.04},
        runs=15,
    ),
    peak_gb=0.25,
    before_gb=0.05,
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


def test_the_calibration_text_is_told_with_its_hash_and_length():
    assert tables.calibration(make_record()) == ""
    assert tables.calibration(make_record(compression=SIZE)) == (
        "wikitext2 (sha256 0123456789ab, 128 sequences of 2048), where the perplexity of BF16 is 7.2"
    )


def test_the_two_errors_are_told_apart_in_plain_words():
    record = make_record(runtime=RAN)
    told = tables.errors_by_source(record)
    assert told == (
        "file error +0.0123 [+0.0100, +0.0146] (what the file lost); engine error +0.0004 (what llama.cpp's arithmetic "
        "adds), 0.08 rms and at most 0.56 at a token, same top token 96.0%; KL divergence 0.0051 of the file, 0.0083 "
        "as it runs (512 tokens)"
    )
    assert terminal_text.shown([record], 1000).count(f"runtime: Tiny-int4: {told}") == 1
    assert tables.errors_by_source(make_record()) == tables.MISSING
    assert not any(line.startswith("runtime:") for line in terminal_text.shown([make_record()]))
