"""What a record says of retrieval, its arrays, its table and its picture."""

import altair
import numpy as np
import pytest
from builders import make_record, make_task

from pytest_quantbench.judge.retrieval_drop import judge_retrieval
from pytest_quantbench.measures.retrieval.samples import RetrievalSamples, Stratum
from pytest_quantbench.record.raw import raw, texts_of
from pytest_quantbench.record.retrieval_summary import retrieval
from pytest_quantbench.report.charts import CHARTS, Charted
from pytest_quantbench.report.markdown.retrieval import section

STRATA = [Stratum(above=a, up_to=u, hops=h) for a, u in ((0, 512), (512, 1024)) for h in (1, 2)]
QUESTIONS = 160


def samples(*right):
    """Right answers by stratum."""
    return RetrievalSamples(
        strata={e.name: make_task(np.arange(QUESTIONS) < r) for e, r in zip(STRATA, right, strict=True)},
        depths={e.name: np.full(QUESTIONS, e.above + 100) for e in STRATA},
        context_tokens=1024,
        weights_sha256="w",
        seconds=2.0,
    )


REFERENCE, QUANTIZED = samples(160, 160, 160, 40), samples(160, 159, 60, 40)


def summarized(verdicts=True):
    found = judge_retrieval(QUANTIZED.strata, REFERENCE.strata, 5.0)
    return retrieval(QUANTIZED, REFERENCE, (found,) if verdicts else ())


def test_every_stratum_has_its_figures_and_its_outcome():
    found = summarized()
    assert (found.questions, found.context_tokens, found.time_sec) == (QUESTIONS, 1024, 2.0)
    assert [each.name for each in found.strata] == [each.name for each in STRATA]
    assert [each.outcome for each in found.strata] == ["pass", "pass", "fail", "informational"]
    assert [each.reference for each in found.strata] == ["can", "can", "can", "cannot"]
    third = found.strata[2]
    assert (third.above, third.up_to, third.hops, third.mean_depth_tokens) == (512, 1024, 1, 612.0)
    assert third.accuracy.bf16_accuracy == 1.0
    assert third.accuracy.drop_points.estimate == pytest.approx(62.5)
    assert third.accuracy.chance == 0.25


def test_without_a_limit_nothing_has_an_outcome():
    assert {each.outcome for each in summarized(verdicts=False).strata} == {"informational"}


def test_the_reference_has_its_accuracy_alone():
    found = retrieval(REFERENCE, None, ())
    assert [each.accuracy.accuracy for each in found.strata] == [1.0, 1.0, 1.0, 0.25]
    assert {each.reference for each in found.strata} == {each.outcome for each in found.strata} == {None}
    assert retrieval(None, None, ()) is None


def test_a_cell_is_paired_with_as_many_questions_of_the_reference():
    found = retrieval(QUANTIZED.first(80), REFERENCE, ())
    assert found.questions == found.strata[0].accuracy.questions == 80


def test_answers_and_depths_lie_beside_the_record():
    arrays = raw({"retrieval": QUANTIZED})
    name = STRATA[2].name
    assert arrays[f"retrieval/{name}/correct"].sum() == 60
    assert (arrays[f"retrieval/{name}/depths"] == 612).all()
    assert texts_of(arrays[f"retrieval/{name}/options"])[0] == ["a", "b", "c", "d"]


def test_the_table_has_a_row_for_each_stratum_and_says_what_is_not_judged():
    lines = section([make_record(recipe="kv2", level="kv", bits=16, retrieval=summarized())])
    rows = [line for line in lines if line.startswith("| Tiny-kv2")]
    assert len(rows) == len(STRATA)
    assert "| 512–1k" in rows[2]
    assert "+62.5 [" in rows[2]
    assert "fail ✗" in rows[2]
    assert "BF16 cannot" in rows[3]
    assert section([make_record()]) == []


@pytest.mark.parametrize("width", [760, None])
def test_the_map_has_a_square_for_each_stratum_of_bf16_and_of_each_recipe(width):
    told = {"level": "kv", "bits": 16, "retrieval": summarized()}
    cells = [Charted(record=make_record(recipe=name, **told)) for name in ("kv4", "kv2")]
    specification = CHARTS["retrieval"].draw(cells, width)
    altair.Chart.from_dict(specification).to_dict()
    squares = list(specification["datasets"].values())
    assert [len(rows) for rows in squares] == [len(STRATA)] * 3
    assert [row["told"] for row in squares[0]] == ["100", "100", "100", "25"]
    assert [row["told"] for row in squares[1]] == ["100 ✓", "99 ✓", "38 ✗", "25 ·"]


def test_there_is_no_map_without_questions_or_of_the_reference_alone():
    assert CHARTS["retrieval"].draw([Charted(record=make_record())]) is None
    assert CHARTS["retrieval"].draw([Charted(record=make_record(retrieval=retrieval(REFERENCE, None, ())))]) is None
