"""The report: every table, limits and verdicts as they were, and what is said of texts, tasks and encodings."""

import dataclasses

import terminal_text
from builders import make_perplexity, make_record, make_verdict

from pytest_quantbench.record.schema import Accuracy, Compression, TaskAccuracy
from pytest_quantbench.report import markdown
from pytest_quantbench.report.tables import TABLES


def test_missing_figures_are_a_dash_and_never_a_guess():
    assert terminal_text.row(make_record()) == "int4 – – – – – not judged"
    text = markdown.markdown([make_record()], "pytest benches")
    assert "| Tiny | – |" in text
    assert "nan" not in text.lower()


def test_the_report_has_all_tables_with_a_column_per_level():
    records = [
        make_record(level=level, recipe=level, bits=bits) for level, bits in (("int4", 4), ("int2", 2), ("bf16", 16))
    ]
    text = markdown.markdown(records, ["pytest benches -k Tiny"])
    judged = [table.title for table in TABLES if table.metric is not None]
    assert text.count("| model | BF16 | INT4 | INT2 |") == len(judged)  # of the others nothing was measured
    assert all(f"## {title}\n" in text for title in judged)
    assert "    pytest benches -k Tiny" in text


def test_what_was_encoded_otherwise_is_named_where_it_is_of_few():
    notes = {"a.up_proj.weight": "expert 3", "a.gate_proj.weight": "expert 3", "b.up_proj.weight": "expert 7"}
    notes |= {f"c{k}.weight": "group 32" for k in range(5)}
    sizes = {"original_gb": 4.0, "compressed_gb": 1.0, "ratio": 0.25, "times_smaller": 4.0}
    sizes |= {"time_sec": 1.0, "quantized_fraction": 1.0}
    bits = dict.fromkeys(("bits_per_weight", "inner_bits_per_weight", "outer_bits_per_weight"), 4.0)
    part = Compression(**sizes, **bits, notes=notes)
    lines = markdown.markdown([make_record(compression=part)], ["c"]).splitlines()
    assert "  - `a.up_proj.weight` and `a.gate_proj.weight`: expert 3" in lines
    assert "  - `b.up_proj.weight`: expert 7" in lines
    assert "  - 5 matrices: group 32" in lines


def test_limits_are_those_that_were_judged_by():
    record = make_record(perplexity=make_perplexity(), verdicts=(make_verdict("perplexity_delta", "undecided"),))
    text = markdown.markdown([record], ["c"])
    assert "| *limit* | < 2 |" in text
    assert "| Tiny | 4.000 against 3.500 (512 tokens), Δ +1.000 [+0.500, +1.500] ? |" in text
    assert "- Tiny-int4 undecided: It is so." in text


def test_what_is_better_than_its_reference_stands_beside_what_failed():
    verdict = dataclasses.replace(make_verdict("perplexity_delta", "anomalous"), p_good=1e-6, p_bad=1.0, p_better=1e-4)
    text = markdown.markdown([make_record(perplexity=make_perplexity(), verdicts=(verdict,))], ["c"])
    assert "### Failed, undecided or anomalous\n\n- Tiny-int4 anomalous: It is so." in text
    row = next(line for line in text.splitlines() if line.startswith("| Tiny-int4 | perplexity delta"))
    assert "| anomalous | anomalous | < 0.0001 | 1 |" in row


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
    accuracy = Accuracy(arc_easy=0.7, hellaswag=None, **both, tasks={"arc_easy": task})
    text = markdown.markdown([make_record(accuracy=accuracy)], ["c"])
    assert "insensitive to quantization (multiple choice): arc_easy." in text
    assert "Tiny-int4, arc_easy: 200 questions asked, 3,711 would tell a drop of 1 point" in text
    assert "What the tasks can see" not in markdown.markdown([make_record()], ["c"])


def test_a_cell_that_read_another_text_than_its_reference_is_marked():
    reference = make_record(level="bf16", recipe="bf16", bits=16, perplexity=make_perplexity(bf16_ppl=None, delta=None))
    same = make_record(perplexity=make_perplexity())
    other = make_record(perplexity=make_perplexity(protocol_sha256="another"))
    assert "†" not in markdown.markdown([reference, same], ["c"])
    text = markdown.markdown([reference, other], ["c"])
    assert "(512 tokens), Δ +0.500 [+0.400, +0.600] † |" in text
    assert "†: read from another text or in other windows than the BF16 column" in text


def test_tasks_that_are_not_judged_have_a_table():
    task = TaskAccuracy(accuracy=0.5, questions=10, chance=0.25, accuracy_raw=0.5, version="1", sha256="h")
    tasks = {"arc_easy": task, "hellaswag": task}
    accuracy = Accuracy(arc_easy=0.5, hellaswag=0.5, combined=0.5, bf16_combined=None, delta=None, tasks=tasks)
    text = markdown.markdown([make_record(accuracy=accuracy)], ["c"])
    assert "| Tiny | arc_easy 50.0% (10) |" in text
    assert "| Tiny | hellaswag 50.0% (10) |" in text
