"""The chart of retrieval: what a square's sign says, of a cell with a limit and of one without."""

import json
from dataclasses import replace

import numpy as np
import pytest
from builders import make_record, make_task

from pytest_quantbench.judge.retrieval_drop import judge_retrieval
from pytest_quantbench.measures.retrieval.samples import RetrievalSamples, Stratum
from pytest_quantbench.record.retrieval_summary import retrieval
from pytest_quantbench.report.charts import CHARTS, Charted
from pytest_quantbench.report.tables import MARKS

STRATA = (Stratum(above=0, up_to=512, hops=1), Stratum(above=512, up_to=1024, hops=1))
NOTE = "BF16 cannot do it."


def drawn(right, limit):
    """The squares' texts, the original's first, and whether the chart has the note; of as many right of 160."""
    samples = RetrievalSamples(
        strata={each.name: make_task(np.arange(160) < count) for each, count in zip(STRATA, right, strict=True)},
        depths={each.name: np.full(160, each.up_to) for each in STRATA},
        context_tokens=1024,
        weights_sha256="a",
        seconds=1.0,
    )
    found = retrieval(samples, samples, [judge_retrieval(samples.strata, samples.strata, limit)])
    told = json.dumps(CHARTS["retrieval"].draw([Charted(record=replace(make_record(), retrieval=found))]))
    return texts_of(json.loads(told)), NOTE in told


def texts_of(part):
    """All that stands in squares."""
    if isinstance(part, dict):
        return (
            [part["told"]]
            if isinstance(part.get("told"), str)
            else [t for each in part.values() for t in texts_of(each)]
        )
    return [text for each in part for text in texts_of(each)] if isinstance(part, list) else []


@pytest.mark.parametrize(
    ("right", "limit", "told"),
    [
        ((160, 40), 5.0, [f"100 {MARKS['pass']}", f"25 {MARKS['informational']}"]),
        ((160, 40), None, ["100", f"25 {MARKS['informational']}"]),
        ((160, 160), None, ["100", "100"]),
    ],
)
def test_only_what_bf16_cannot_do_is_marked_so(right, limit, told):
    squares, noted = drawn(right, limit)
    assert set(told) <= set(squares) <= {*told, "100", "25"}
    assert noted == (40 in right)
