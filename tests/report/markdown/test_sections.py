"""What stands behind the tables: verdicts, criteria met, coherence, coverage, the publication's table, repeating it."""

import dataclasses

import generated_suite
import pytest
from builders import make_change, make_perplexity, make_record, make_verdict

from pytest_quantbench.judge.coherence import Coherence
from pytest_quantbench.judge.verdict import Look
from pytest_quantbench.record.accuracy_schema import Accuracy, TaskAccuracy
from pytest_quantbench.record.completeness import missing
from pytest_quantbench.record.publication_schema import Accelerator
from pytest_quantbench.record.runtime_schema import EngineError, FileError, Runtime, Speed
from pytest_quantbench.record.schema import Compression
from pytest_quantbench.record.suite import judge_suite
from pytest_quantbench.report.markdown import (
    candidate_files,
    criteria_met,
    notes,
    publication,
    repeat,
    verdict_table,
)
from pytest_quantbench.report.markdown.figures import TIED
from pytest_quantbench.stats.estimates import Interval

LOOK = Look(items=1, fraction=0.5, alpha=0.01, estimate=1.0, low=0.5, high=1.5, outcome="undecided", last=False)


def plain(lines):
    return [line.replace(TIED, " ") for line in lines]


@pytest.fixture(scope="module")
def records():
    return generated_suite.records(3, questions=100)


def test_what_got_worse_since_the_baseline_stands_first():
    changes = (make_change("size", "identical"), make_change("kl", sentence="KL | +0.1: worse."))
    lost = make_change("accuracy", "not compared", sentence="accuracy drop: no samples.")
    found = make_record(verdicts=(make_verdict("perplexity_delta", baseline=(lost, *changes)),))
    assert notes.baseline([found]) == [
        "## What got worse since the baseline",
        "",
        "- Tiny-int4: KL &#124; +0.1: worse.",
        "- Tiny-int4: accuracy drop: no samples.",
        "",
    ]
    equal = make_record(verdicts=(make_verdict("perplexity_delta", baseline=(lost, changes[0])),))
    assert notes.baseline([equal])[2] == "- None of the figures that were compared (1) is worse beyond the noise."
    assert notes.baseline([make_record(verdicts=(make_verdict("perplexity_delta", baseline=(lost,)),))])[2:] == [
        "- Tiny-int4: accuracy drop: no samples.",
        "",
    ]
    assert notes.baseline([make_record()]) == []


def test_criteria_met_counts_every_model_once(records):
    lines = plain(criteria_met.section(records))
    suite = judge_suite("int3", records)
    (row,) = [line for line in lines if line.startswith("| int3 ")]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[1:3] == ["3", "3 ✓"]
    told = {"✓": suite.met, "✗": suite.failed, "?": suite.undecided}
    assert cells[6] == " ".join(f"{count} {sign}" for sign, count in told.items() if count)
    assert cells[7:] == ["7 of 10", "–"]  # three models are no ten
    assert not any(line.startswith(("| int8 ", "| bf16 ")) for line in lines)
    assert criteria_met.section([make_record()]) == []


def test_a_suite_of_ten_is_judged():
    passed = tuple(
        make_verdict(metric)
        for metric in ("size_reduction_percent", "perplexity_delta", "accuracy_drop_points", "throughput_ratio")
    )
    failed = (make_verdict("size_reduction_percent", "fail"), *passed[1:])
    found = [make_record(model_id=f"m{n}", verdicts=failed if n < 3 else passed) for n in range(10)]
    assert plain(criteria_met.section(found))[-2] == (
        "| int4 | 10 | 7 ✓ 3 ✗ | 10 ✓ | 10 ✓ | 10 ✓ | 7 ✓ 3 ✗ | 8 of 10 | fail ✗ |"
    )


def test_every_judged_criterion_has_a_row_in_plain_words():
    verdict = make_verdict(
        "accuracy_drop_points", "undecided", of="arc_easy", limit=3.0, items=400, looks=(LOOK, LOOK), detectable=1.86
    )
    other = make_verdict("size_reduction_percent", "informational", limit=None)
    record = make_record(verdicts=(dataclasses.replace(verdict, p_good=0.061, p_bad=1.0), other))
    lines = plain(verdict_table.section([record]))
    assert lines[-2] == (
        "| Tiny-int4 | accuracy on arc_easy | < 3 points | 1.0 [0.5, 1.5] | undecided ? | undecided | 6.1 % | 100 % | "
        "400 questions | 2 times | 1.9 points |"
    )
    assert verdict_table.section([make_record(verdicts=(other,))]) == []


def test_what_is_better_than_its_reference_stays_so_and_luck_has_a_least():
    verdict = dataclasses.replace(make_verdict("perplexity_delta", "anomalous"), p_good=1e-6, p_bad=1.0, p_better=1e-4)
    (row,) = [line for line in plain(verdict_table.section([make_record(verdicts=(verdict,))])) if "Tiny" in line]
    assert "| anomalous ! | anomalous | < 0.01 % | 100 % |" in row


@pytest.mark.parametrize(
    ("loops", "guesses", "told"),
    [(False, False, "no"), (True, False, "**yes: it loops**"), (True, True, "**yes: it loops and it guesses**")],
)
def test_whether_it_collapsed_is_said_as_the_record_has_it(loops, guesses, told):
    """Not by its own reading of a p value, by which a table once disagreed with the terminal."""
    part = Coherence(
        prompts=5,
        looping=4,
        only_here=1,
        first_token_agreement=0.8,
        greedy_prefix_tokens=3.26,
        guessing_p=0.3,
        loops=loops,
        guesses=guesses,
    )
    record = make_record(coherence=part)
    assert record.coherence.collapsed == (told != "no")
    lines = notes.coherence([record])
    assert lines[-2] == f"| Tiny-int4 | {told} | 4 of 5 | 1 | 80 | 3.3 | 30 % of the time |"
    assert notes.coherence([dataclasses.replace(record, recipe="bf16")]) == []


def test_what_was_encoded_otherwise_is_named_where_it_is_of_few():
    told = {"a.up_proj.weight": "expert 3", "a.gate_proj.weight": "expert 3", "b.up_proj.weight": "expert 7"}
    told |= {f"c{k}.weight": "group 32" for k in range(5)}
    sizes = {"original_gb": 4.0, "compressed_gb": 1.0, "ratio": 0.25, "times_smaller": 4.0}
    sizes |= {"time_sec": 1.0, "quantized_fraction": 1.0}
    bits = dict.fromkeys(("bits_per_weight", "inner_bits_per_weight", "outer_bits_per_weight"), 4.0)
    part = Compression(**sizes, **bits, notes=told, kept={"norm": "a norm"})
    lines = notes.coverage([make_record(compression=part)])
    assert "- Tiny-int4: 100.00 % of the parameters quantized, 1 tensor kept as they were" in lines
    assert "  - `a.up_proj.weight` and `a.gate_proj.weight`: expert 3" in lines
    assert "  - `b.up_proj.weight`: expert 7" in lines
    assert "  - 5 matrices: group 32" in lines


def test_findings_on_weights_are_told_or_that_there_are_none():
    assert notes.integrity([make_record()]) == []
    (told,) = [line for line in notes.integrity([make_record(integrity=())]) if line.startswith("- ")]
    assert told == "- Of all cells whose weights were compared, they are the source's, but for rounding."
    found = notes.integrity([make_record(integrity=("a.weight is zero",), integrity_notes=("folded",))])
    assert found[2:4] == ["- Tiny-int4: a.weight is zero", "- Tiny-int4 differs from its reference: folded"]


def test_tasks_that_hardly_see_quantization_are_called_so():
    task = TaskAccuracy(
        accuracy=0.7,
        questions=200,
        chance=0.25,
        accuracy_raw=0.7,
        version="1",
        sha256="h",
        questions_for_one_point=3711,
    )
    both = {"combined": 0.7, "bf16_combined": 0.7, "delta": 0.0}
    record = make_record(
        accuracy=Accuracy(arc_easy=0.7, hellaswag=None, **both, tasks={"arc_easy": task, "gsm8k": task})
    )
    text = "\n".join(notes.tasks([record]))
    assert "insensitive to quantization (multiple choice): arc_easy." in text
    assert "sensitive to quantization (written answers): gsm8k." in text
    assert "| Tiny-int4 | arc_easy | 200 | 3,711 |" in text
    assert notes.tasks([make_record()]) == []


def test_a_files_own_runtime_has_a_row():
    part = Runtime(
        runtime="llama.cpp",
        version="llama-cpp-python 0.3",
        how="2 threads",
        tokens=512,
        ppl=26.2,
        walk_ppl=26.0,
        bf16_ppl=25.9,
        file_error=FileError(mean_nats=0.0123, interval=Interval(estimate=0.0123, low=0.01, high=0.0146)),
        engine_error=EngineError(
            mean_nats=0.0004,
            interval=None,
            rms_nats=0.08,
            largest_nats=0.56,
            same_top=Interval(estimate=0.96, low=0.9, high=0.99),
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
    assert plain(candidate_files.runtimes([make_record(runtime=part)]))[-2] == (
        "| Tiny-int4 | llama.cpp (llama-cpp-python 0.3) | +0.0123 [+0.0100, +0.0146] | +0.0004 | 0.080, 0.56 | 96.0 | "
        "0.0083 | 41.5 | 300 | 23.0, 31.0 | 0.21 | 0.250 | 512 |"
    )


def test_the_publications_table_says_once_what_holds_for_all(records):
    mine = [record for record in records if record.model_id == records[0].model_id]
    gpu = Accelerator(name="GPU", driver="580.1", memory_gb=80.0, clock_mhz=1980.0, most_clock_mhz=2000.0)
    mine = [dataclasses.replace(record, accelerator=gpu) for record in mine]
    lines = publication.section(mine)
    cells = dict(line.strip("| ").split(" | ", 1) for line in lines if line.startswith("| ") and line != "|  |  |")
    facts = mine[0].facts
    assert cells["Model"].startswith(
        f"{facts.parameters:,} parameters, InventedForCausalLM, layers 24, hidden size 2,048"
    )
    assert cells["Accelerator"] == "GPU, 80 GB, driver 580.1, clock 1,980 MHz, at most 2,000 MHz"
    assert cells["Calibration"] == "c4 (sha256 e679daf0f6de, 128 sequences)"  # none is said of the reference
    assert cells["Measured"] == "2026-01-01T00:00:00+00:00"
    assert cells["Quantizer"].count("; ") == sum(bool(record.recipe_parameters) for record in mine) - 1
    assert cells["Seed"] == "0"
    assert len(missing(mine[0])) > 0
    assert "`quantbench report --complete` lists" in cells["Complete?"]


def test_models_and_machines_have_tables_of_their_own(records):
    machine = dataclasses.replace(records[0].machine, chip="Another")
    lines = publication.section([*records, dataclasses.replace(records[1], machine=machine)])
    assert sum(line.startswith("### ") for line in lines) == 3 + 1


def test_how_to_repeat_it_is_what_the_records_tell():
    """One command for a report on several sessions did not repeat any but the last."""
    first = make_record(commands=("pytest benches -m t2", "pytest benches -m t3"))
    second = make_record(recipe="int3", level="int3", commands=("pytest benches -m t2",))
    unknown = make_record(recipe="int2", level="int2", perplexity=make_perplexity())
    lines = repeat.section([first, second, unknown], ["quantbench report results"])
    place = lines.index("    pytest benches -m t2")
    assert lines[place + 2] == "measured Tiny-int4 and Tiny-int3."
    assert lines[lines.index("    pytest benches -m t3") + 2] == "measured Tiny-int4."
    assert "No command is known of Tiny-int2: a program measured it, or a version that did not keep commands." in lines
    assert lines[-2] == "    quantbench report results"
