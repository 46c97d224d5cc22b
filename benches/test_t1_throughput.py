"""T1: tokens per second of the resident model, each run timed by pytest-benchmark."""

import pytest

pytestmark = pytest.mark.t1


def test_throughput(cell, request, settle):
    if cell.kept_throughput is None:
        benchmark, session = request.getfixturevalue("benchmark"), cell.throughput_session
        benchmark.pedantic(session.run, setup=session.run_reference, rounds=session.rounds)
    verdict = cell.judge("throughput")
    if cell.kept_throughput is None:
        benchmark.extra_info.update(cell.figures("throughput"))
    settle(verdict)
