"""The table of retrieval: what it says of strata that BF16 can do, cannot do, and may be able to do."""

from dataclasses import replace

import numpy as np
from builders import make_record, make_task

from pytest_quantbench.judge.retrieval_drop import judge_retrieval
from pytest_quantbench.measures.retrieval.samples import RetrievalSamples, Stratum
from pytest_quantbench.record.retrieval_summary import retrieval
from pytest_quantbench.report.markdown.retrieval import section

RIGHT = {1: 160, 2: 52, 3: 40}  # of 160, by hops: all, surely above chance but not by the limit, chance


def test_what_bf16_may_be_able_to_do_is_judged_and_marked():
    strata = {hops: Stratum(above=0, up_to=512, hops=hops) for hops in RIGHT}
    samples = RetrievalSamples(
        strata={strata[hops].name: make_task(np.arange(160) < count) for hops, count in RIGHT.items()},
        depths={each.name: np.full(160, 300) for each in strata.values()},
        context_tokens=512,
        weights_sha256="a",
        seconds=1.0,
    )
    found = retrieval(samples, samples, [judge_retrieval(samples.strata, samples.strata, 5.0)])
    rows = [line for line in section([replace(make_record(), retrieval=found)]) if line.startswith("|")][2:]
    assert [row.split("|")[-2].strip() for row in rows] == ["pass ✓", "pass ✓ (can BF16?)", "BF16 cannot"]
