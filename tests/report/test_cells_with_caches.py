"""Cells that quantize the cache, where cells are listed: they differ by what they are chosen by."""

from dataclasses import replace

import pytest
from builders import make_cache, make_divergence, make_perplexity, make_record, make_verdict
from terminal_text import shown

from pytest_quantbench.cli.main import main
from pytest_quantbench.record import folder
from pytest_quantbench.record.schema import Compression, NoiseFloor
from pytest_quantbench.report import github
from pytest_quantbench.report.figures import NARROW, layouts, listed
from pytest_quantbench.report.html.columns import columns
from pytest_quantbench.report.markdown import markdown
from pytest_quantbench.report.text_width import columns as width_of

SAVED = {"kv8": (8.5, 46.875), "kv4": (4.5, 71.875), "kivi2": (6.25, 60.9375)}
WHOLE = Compression(
    original_gb=0.00734,
    compressed_gb=0.00734,
    ratio=1.0,
    times_smaller=1.0,
    time_sec=0.0,
    bits_per_weight=16.0,
    inner_bits_per_weight=16.0,
    outer_bits_per_weight=16.0,
    quantized_fraction=0.0,
)
VERDICTS = (
    make_verdict("perplexity_delta"),
    make_verdict("depth_perplexity_delta", "fail", estimate=0.3, low=0.2, high=0.45),
    make_verdict("retrieval_drop_points", "undecided", estimate=4.0, low=-2.25, high=9.0),
)


def cell(name, verdicts=VERDICTS):
    held = make_cache(noise_nats=3.7e-7, kl_within_noise=False, parameters={"bits": "8"})
    bits, percent = SAVED[name]
    size = replace(held.size, bits_per_value=bits, reduction_percent=percent)
    perplexity = make_perplexity(divergence=replace(make_divergence(4.2e-6), kl_percentiles={"99": 1e-5}))
    record = make_record(recipe=name, level="kv", bits=16, cache=replace(held, size=size), compression=WHOLE)
    return replace(record, perplexity=perplexity, verdicts=verdicts)


@pytest.fixture(scope="module")
def records():
    floor = NoiseFloor(perplexity_points=9.3e-6, kl_nats=3.7e-7, drop_points=None, flipped_points=None)
    reference = make_record(recipe="bf16", level="bf16", bits=16, compression=WHOLE, noise_floor=floor)
    return [reference, *map(cell, SAVED)]


@pytest.mark.parametrize("width", [80, 100, 120, 200])
def test_the_terminal_has_a_column_of_what_a_cache_takes(records, width):
    lines = shown(records, width)
    assert max(map(width_of, lines)) <= width
    rows = {line.split()[0]: line.split() for line in lines if line.startswith("  k")}
    assert {name: "same" in row for name, row in rows.items()} == dict.fromkeys(SAVED, True)
    assert ["8.50" in rows["kv8"], "4.50" in rows["kv4"], "6.25" in rows["kivi2"]] == [True] * 3
    assert ("-46.9%" in rows["kv8"], "-71.9%" in rows["kv4"]) == (width >= 100,) * 2
    head = next(line for line in lines if "kv bits" in line)
    assert ("deep ΔPPL ±" in head, "retr drop ±" in head) == (width >= 120,) * 2
    assert "kv bits: of a number of keys or values" in " ".join(line.strip() for line in lines)


def test_the_terminal_shows_depth_and_retrieval_with_their_verdicts(records):
    row = next(line for line in shown(records, 200) if line.startswith("  kv8"))
    assert "+0.300 ±0.150✗" in row
    assert "+4.0 ±6.2?" in row
    narrow = " ".join(line.strip() for line in shown(records, 40))
    assert "kv bits 8.50, kv size -46.9%, deep ΔPPL +0.300 ±0.150✗" in narrow


def test_without_such_a_cell_the_terminal_is_as_ever(records):
    assert [columns for _, columns in layouts(records[:1])][-1] == NARROW == listed(records[:1])
    assert not any("kv" in line for line in shown(records[:1], 200))


def test_the_page_has_columns_for_them_where_there_are_any(records):
    shown_of = {column.name: column.figure(records[1]) for column in columns(records)}
    assert (shown_of["cache"].text, shown_of["cache"].interval) == ("8.50", "−46.9 % at 512 tokens")
    assert (shown_of["depth"].text, shown_of["depth"].mark) == ("+0.300", "✗")
    assert (shown_of["retrieval"].text, shown_of["retrieval"].interval) == ("+4.0", "[−2.2, +9.0]")
    assert (shown_of["size"].text, shown_of["size"].interval) == ("0.00734", "")
    assert columns(records)[5].figure(records[0]).text == "–"
    assert not {"cache", "depth", "retrieval"} & {column.name for column in columns(records[:1])}


def test_the_document_has_them_before_the_pictures_and_in_the_models_table(records):
    text = markdown(records, ["quantbench run"])
    assert text.index("## Key-value cache") < text.index("## Model by model")
    assert "| … bits per number" in text
    (row,) = (line for line in text.splitlines() if line.startswith("| … bits per number"))
    assert [each.strip() for each in row.strip("|").split("|")][1:] == ["–", "8.50", "4.50", "6.25"]


def test_a_models_card_says_what_is_quantized_and_how_far_that_is_from_noise(records):
    text = github.summary([records[1]], records[:1])
    assert (
        "bits 8): 8.50 bits per number, 46.9 % less than BF16's where a text has 512 tokens. Its KL divergence of "
        "4.2e-6 nats is beyond the noise floor of 3.7e-7." in text
    )
    assert "by 9.3e-6 in perplexity and 3.7e-7 nats of KL divergence" in text
    assert "noise floor was not measured" in github.summary([records[1]])
    zero = make_verdict("perplexity_delta", estimate=-1e-6, low=-0.005, high=0.003)
    assert "✓ 0 [-0.005, 0.003]" in github.summary([cell("kv8", (zero,))])


def test_the_card_takes_the_noise_floor_from_the_references_record(records, tmp_path):
    for record in records:
        folder.save(record, {}, tmp_path / "results")
    chosen = ["--model", "Tiny", "--recipe", "kv8", "--output", str(tmp_path / "card")]
    assert main(["card", str(tmp_path / "results"), *chosen]) == 0
    text = (tmp_path / "card/README.md").read_text()
    assert "Noise floor: between float32" in text
    assert "| Tiny-bf16" not in text
