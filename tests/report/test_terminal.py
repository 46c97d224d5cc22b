"""The terminal: figures are those of the look that decided, and whatever cells are called, no line is too long."""

import dataclasses

import pytest
from builders import make_change, make_perplexity, make_record, make_throughput, make_verdict
from hypothesis import given, settings
from hypothesis import strategies as st
from terminal_text import row, shown

from pytest_quantbench.catalog.criteria import asked_of
from pytest_quantbench.judge.roofline import BY_OVERHEAD
from pytest_quantbench.record import throughput_summary
from pytest_quantbench.report import terminal
from pytest_quantbench.report.coloured import Piece, as_text
from pytest_quantbench.report.text_width import columns

ASKED = asked_of("weights")

WIDTHS = (40, 80, 120, 200)


def renamed(records, model, recipe):
    """Other names for all models and recipes."""
    return [
        dataclasses.replace(each, model_id=f"{model}{each.model_id}", recipe=f"{recipe}{each.recipe}")
        if each.level != "bf16"
        else dataclasses.replace(each, model_id=f"{model}{each.model_id}")
        for each in records
    ]


@pytest.mark.parametrize("width", WIDTHS)
def test_a_whole_suite_stays_within_the_width(ten_models, width):
    lines = shown(ten_models, width)
    assert max(map(columns, lines)) <= width
    assert {f"  {record.recipe}" for record in ten_models} <= {line.partition(":")[0][:11].rstrip() for line in lines}
    assert all(any(record.model_id in line for line in lines) for record in ten_models)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(
    ("model", "recipe"),
    [
        ("an-organisation/a-model-with-a-name-of-sixty-characters-and-more-", ""),
        ("", "somebodys-very-long-file-name-of-a-quantized-model-Q4_K_M-imatrix-"),
        ("模型-", "量化-"),
        ("e\u0301\u0301", "line\nbreak\t\x1b[31m"),
    ],
)
def test_long_and_foreign_names_stay_within_the_width(ten_models, width, model, recipe):
    lines = shown(renamed(ten_models[:18], model, recipe), width)
    assert max(map(columns, lines)) <= width
    assert not any("\x1b" in line or "\t" in line for line in lines)


@given(
    names=st.lists(st.tuples(st.text(max_size=80), st.text(max_size=80)), min_size=1, max_size=4),
    width=st.integers(20, 220),
)
@settings(deadline=None, max_examples=60)
def test_any_names_stay_within_any_width(names, width):
    verdicts = tuple(map(make_verdict, ASKED))
    records = [make_record(model_id=model, recipe=recipe, verdicts=verdicts) for model, recipe in names]
    assert all(columns(line) <= width for line in shown(records, width))


def test_wide_terminals_have_both_ends_of_an_interval(ten_models):
    """And narrow ones how far the farther of them is."""
    (record,) = (each for each in ten_models if each.recipe == "int3" and each.model_id == "Llama-3.2-3B-Instruct")
    verdict = next(each for each in record.verdicts if each.metric == "perplexity_delta")
    reach = max(verdict.high - verdict.estimate, verdict.estimate - verdict.low)
    assert f"+{verdict.estimate:.2f} ±{reach:.2f}✗" in row(record, 80)
    assert "[" not in row(record, 119)
    assert f"+{verdict.estimate:.2f} [+{verdict.low:.2f}, +{verdict.high:.2f}]✗" in row(record, 120)
    assert f"{record.perplexity.ppl:.1f}" not in row(record, 120)
    assert f" {record.perplexity.ppl:.1f} " in row(record, 200)


def test_a_block_has_the_references_own_figures(ten_models):
    lines = shown(ten_models[:9], 80)
    place = lines.index("Qwen2.5-1.5B-Instruct")
    assert lines[place + 1].split() == ["bpw", "size", "tok/s", "×", "ΔPPL", "±", "acc", "drop", "±", "verdict"]
    assert lines[place + 2].split() == ["bf16", "16.00", "23.8", "GB", "30.0/s", "6.98", "71.0%", "reference"]
    assert lines[place + 10].split()[0] == "int2-vptq"


def test_a_line_shows_the_figures_of_the_look_that_decided():
    """The reference was read further for another cell; the verdict is of the first 2,048 tokens."""
    seen = dataclasses.replace(make_verdict("perplexity_delta"), value=3.476, reference_value=3.471, items=2048)
    record = make_record(perplexity=make_perplexity(tokens=8192, ppl=3.539, bf16_ppl=3.529), verdicts=(seen,))
    assert "+1.00 ±0.500✓" in row(record)
    informational = dataclasses.replace(seen, limit=None, outcome="informational")
    assert "+0.500 ±0.100·" in row(dataclasses.replace(record, verdicts=(informational,)))


def test_a_perplexity_that_overflows_is_said_to():
    verdict = dataclasses.replace(make_verdict("perplexity_delta", "fail"), estimate=None, low=None, high=None)
    assert row(make_record(verdicts=(verdict,))) == "int4 – – – overflow✗ – may not ship"
    early = dataclasses.replace(make_verdict("perplexity_delta", "undecided"), low=None, high=None)
    assert "+1.00?" in row(make_record(verdicts=(early,)))


def test_what_would_settle_it_is_said():
    told = terminal.explain(
        dataclasses.replace(make_verdict("perplexity_delta", "undecided"), needed="more tokens would")
    )
    assert told == "It is so. More tokens would."


def test_a_candidate_better_than_its_reference_is_told_with_its_sign():
    odd = dataclasses.replace(make_verdict("perplexity_delta", "anomalous"), sentence="It is better.")
    record = make_record(perplexity=make_perplexity(), verdicts=(odd, make_verdict("accuracy_drop_points", "fail")))
    assert "+1.00 ±0.500!" in row(record)
    assert [line.partition(":")[0] for line in terminal.sentences(record)] == ["Tiny-int4 anomalous", "Tiny-int4 fail"]


def test_of_many_undecided_cells_each_has_its_note_and_of_very_many_the_first():
    verdicts = [make_verdict(name) for name in ASKED]
    verdicts[1] = dataclasses.replace(verdicts[1], outcome="undecided", needed="more would settle it")

    def notes(number):
        records = [make_record(model_id=f"m{place}", verdicts=tuple(verdicts)) for place in range(number)]
        return [line for line in shown(records, 300) if " is undecided: " in line and line.startswith("m")]

    assert len(notes(3)) == 3  # told by the answer alone
    assert len(notes(4)) == 4
    assert all(line.endswith("More would settle it.") for line in notes(4))
    assert len(notes(30)) == terminal.NOTES_SHOWN


def test_words_and_signs_have_the_colour_of_what_they_say():
    passed = tuple(map(make_verdict, ASKED))
    failed = (dataclasses.replace(passed[0], outcome="fail"), *passed[1:])
    lines = terminal.summary([make_record(verdicts=passed), make_record(recipe="q4", verdicts=failed)], 80)
    pieces = [piece for line in lines for piece in line]
    assert Piece("may ship", "good") in pieces
    assert Piece("may not ship", "bad") in pieces
    assert Piece("✓", "good") in pieces
    assert Piece("✗", "bad") in pieces
    assert as_text(lines[0], colours=True).startswith("Tiny-int4 \033[32mmay ship\033[0m: it meets")
    for line in lines:
        coloured = as_text(line, colours=True)
        for code in (0, 1, 2, 31, 32, 33):
            coloured = coloured.replace(f"\033[{code}m", "")
        assert coloured == as_text(line, colours=False)


def test_nothing_measured_is_nothing_said():
    assert [line for line in shown([], 80) if not line.startswith(tuple(shown([], 80)))] == []
    assert shown([make_record()], 80)[0].startswith("Tiny-int4 is not judged: ")


@pytest.mark.parametrize("models", [2, 5])
def test_each_cell_that_is_worse_than_its_baseline_is_told_once_with_its_figure(models):
    """Few in the answer, many below the tables."""
    records = [
        make_record(
            model_id=f"m{n}",
            verdicts=(make_verdict("perplexity_delta", baseline=(make_change("size", estimate=20.0 + n),)),),
        )
        for n in range(models)
    ]
    lines = "\n".join("".join(piece.text for piece in line) for line in terminal.summary(records, 200))
    assert [lines.count(f"it got worse: size +{20 + n}.00") for n in range(models)] == [1] * models


def timed(record, share, *, overhead=False):
    """A record that uses this share of its memory's bandwidth, and whose reference uses 3 % of its own."""
    part = dataclasses.replace(make_part(), bound_share=share, reference_bound_share=0.031)
    verdict = make_verdict("throughput_ratio", "informational", limit=None, not_judged=BY_OVERHEAD)
    return dataclasses.replace(record, throughput=part, verdicts=(verdict,) if overhead else ())


def make_part():
    return throughput_summary.throughput(make_throughput([[1.0], [2.0]]), None)


def test_what_cells_use_of_the_memorys_bandwidth_and_what_is_bound_by_overhead_is_told():
    records = [timed(make_record(recipe=name), 0.031, overhead=name != "bf16") for name in ("bf16", "int4", "int3")]
    lines = " ".join(shown(records))
    assert "speed, of what the memory's bandwidth allows: Tiny-bf16 3.1 %, Tiny-int4 3.1 %, Tiny-int3 3.1 %" in lines
    assert (
        "speed: Tiny-int4 and Tiny-int3 not judged: bound by overhead, not by reading weights, as the original "
        "reaches no more than 3.1 % of what its memory's bandwidth allows"
    ) in lines
    assert "overhead" not in " ".join(shown([timed(make_record(), 0.7)]))
    assert "bandwidth" not in " ".join(shown([dataclasses.replace(make_record(), throughput=make_part())]))
