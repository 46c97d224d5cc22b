"""T1: tokens per second of the resident model, each run timed by pytest-benchmark."""

import pytest

pytestmark = [pytest.mark.t1, pytest.mark.filterwarnings("ignore:Benchmark fixture was not used")]


def test_throughput(cell, benchmark, settle):
    session = cell.throughput_session
    if session is not None:  # else the runs of an earlier session are taken
        benchmark.pedantic(session.run, setup=session.prepare, rounds=session.rounds)
    verdict = cell.judge("throughput")
    benchmark.extra_info.update(cell.figures("throughput"))
    settle(verdict)
