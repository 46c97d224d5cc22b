"""The comparing tables: the plan's columns, limits as they were, what is undecided and why a ratio is missing."""

import dataclasses

import generated_suite
import pytest
from builders import make_perplexity, make_record, make_verdict

from pytest_quantbench.record.accuracy_schema import Accuracy, TaskAccuracy
from pytest_quantbench.report.markdown import summary_tables
from pytest_quantbench.report.markdown.figures import TIED
from pytest_quantbench.report.tables import MARKS
from pytest_quantbench.stats.estimates import Interval


def lines_of(records):
    """With plain spaces."""
    return [line.replace(TIED, " ") for line in summary_tables.section(records)]


def reference(**changes):
    return make_record(level="bf16", recipe="bf16", bits=16, **changes)


def task(**changes):
    fields = {"accuracy": 0.7, "questions": 200, "chance": 0.25, "accuracy_raw": 0.7, "version": "1", "sha256": "h"}
    return TaskAccuracy(**(fields | changes))


def accuracy(**tasks):
    return Accuracy(arc_easy=None, hellaswag=None, combined=0.7, bf16_combined=0.7, delta=0.0, tasks=tasks)


@pytest.fixture(scope="module")
def records():
    return generated_suite.records(3, questions=100)


def test_the_plans_columns(records):
    heads = [line for line in lines_of(records) if line.startswith("| Model")]
    assert heads == [
        "| Model | BF16 | INT4 | INT4↓% | INT3 | INT3↓% | INT2 | INT2↓% |",
        "| Model | BF16 | INT4 | INT4× | INT3 | INT3× | INT2 | INT2× |",
        "| Model | BF16 | INT4 | INT4 Δ | INT3 | INT3 Δ | INT2 | INT2 Δ |",
        "| Model | Task | BF16 | INT4 | INT4↓ | INT3 | INT3↓ | INT2 | INT2↓ |",
    ]


def test_every_model_has_its_row_with_figures_and_marks(records):
    cells = {(record.model_id, record.recipe): record for record in records}
    lines = lines_of(records)
    for model in dict.fromkeys(record.model_id for record in records):
        mine = [line for line in lines if line.startswith(f"| {model} ")]
        assert len(mine) == 3 + 2  # size, throughput, perplexity; two tasks
        for line, metric in zip(mine, ("size_reduction_percent", "throughput_ratio", "perplexity_delta"), strict=False):
            shown = [cells[model, level] for level in ("int4", "int3", "int2")]
            outcomes = [next(v.outcome for v in record.verdicts if v.metric == metric) for record in shown]
            assert [cell.strip()[-1] for cell in line.replace(" †", "").split("|")[4:-1:2]] == [
                MARKS[each] for each in outcomes
            ]


def test_limits_are_those_that_were_judged_by():
    verdict = make_verdict("perplexity_delta", "undecided", of="c", limit=1.5)
    record = make_record(perplexity=make_perplexity(), verdicts=(verdict,))
    lines = lines_of([record])
    assert "| Tiny | – | 4.000 | +1.000 [+0.500, +1.500] ? |" in lines
    assert "| *limit* |  |  | < 1.5 |" in lines
    assert not any("limit" in line for line in lines_of([dataclasses.replace(record, verdicts=())]))


def test_limits_of_several_tasks_are_told_apart():
    verdicts = (
        make_verdict("accuracy_drop_points", of="arc_easy", limit=3.0),
        make_verdict("accuracy_drop_points", "fail", of="hellaswag", limit=4.0),
    )
    record = make_record(accuracy=accuracy(arc_easy=task(), hellaswag=task(), gsm_8=task()), verdicts=verdicts)
    lines = lines_of([record])
    assert "| Tiny | arc_easy | – | 70.0 | 1.0 [0.5, 1.5] ✓ |" in lines
    assert "| Tiny | hellaswag | – | 70.0 | 1.0 [0.5, 1.5] ✗ |" in lines
    assert "| Tiny | gsm_8 | – | 70.0 | – |" in lines
    assert "| *limit* |  |  |  | < 3 (arc_easy), < 4 (hellaswag) |" in lines


def test_what_was_left_out_of_a_ratio_is_told_once(records):
    """A reason in every cell made the table unreadable."""
    shown = [
        dataclasses.replace(r, throughput=dataclasses.replace(r.throughput, ratio=None, ratio_suppressed="it drifted"))
        for r in records
        if r.recipe in ("bf16", "int4", "int3")
    ]
    lines = lines_of(shown)
    begin = lines.index("## Throughput")
    rows = [line for line in lines[begin : lines.index("## Perplexity")] if line.startswith("| ")]
    assert sum(row.count("no ratio") for row in rows) == 2 * 3
    (told,) = [line for line in lines if "it drifted" in line]
    assert told.startswith("No ratio: it drifted (")
    assert told.count("-int4") == told.count("-int3") == 3


def test_why_a_criterion_was_not_judged_is_told_once():
    verdict = make_verdict("perplexity_delta", "informational", limit=None, not_judged="on a CPU", of="c")
    records = [
        make_record(recipe=r, level=r, perplexity=make_perplexity(), verdicts=(verdict,)) for r in ("int4", "int3")
    ]
    assert "Not judged: on a CPU (Tiny-int4, Tiny-int3)." in lines_of(records)


def test_a_difference_from_another_figure_than_the_columns_is_marked():
    same = make_record(perplexity=make_perplexity())
    original = reference(perplexity=make_perplexity(ppl=3.5, bf16_ppl=None, delta=None))
    assert not any("†" in line for line in lines_of([original, same]))
    longer = reference(perplexity=make_perplexity(ppl=3.6, tokens=2048, bf16_ppl=None, delta=None))
    assert "| Tiny | 3.600 | 4.000 | +0.500 [+0.400, +0.600] † |" in lines_of([longer, same])
    elsewhere = make_record(perplexity=make_perplexity(protocol_sha256="another"))
    lines = lines_of([original, elsewhere])
    assert any(line.endswith("† |") for line in lines)
    assert sum(line.startswith("†: the change is taken on other tokens") for line in lines) == 1


def test_how_many_samples_is_said_of_all_or_as_a_range(records):
    assert "Each of 15 runs." in " ".join(lines_of(records))
    short, long = (make_perplexity(tokens=tokens) for tokens in (512, 2048))
    both = [make_record(recipe=r, level=r, perplexity=p) for r, p in (("int4", short), ("int3", long))]
    assert "Each of 512 to 2,048 tokens; the models' own tables say of how many." in " ".join(lines_of(both))


def test_without_a_default_recipe_the_others_are_compared():
    part = make_perplexity(delta_interval=Interval(estimate=0.5, low=0.4, high=0.6))
    record = make_record(recipe="int4-gptq", perplexity=part)
    assert "| Model | BF16 | int4-gptq | int4-gptq Δ |" in lines_of([record])
    assert summary_tables.recipes_shown([record, make_record(recipe="int8", level="int8"), make_record()]) == ["int4"]
    assert summary_tables.section([reference(perplexity=part)]) == []
