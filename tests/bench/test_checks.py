"""Checks by the engine that took the samples: whether a speed is judged there, and how many runs it may take."""

import pytest
from builders import make_throughput

from pytest_quantbench.bench.checks.throughput import ThroughputCheck, not_deployed
from pytest_quantbench.catalog.corpora import PROMPTS
from pytest_quantbench.catalog.settings import Settings


class Timing:
    """An engine as a check sees it."""

    def __init__(self, *, judges_speed, backend="cpu", name="fake"):
        self.judges_speed, self.backend, self.name = judges_speed, backend, name


SLOW = make_throughput([[10, 11], [20, 21], [30, 29], [40, 41], [50, 52]])
FAST = make_throughput([[20, 22], [41, 41], [60, 59], [80, 83], [99, 104]])


@pytest.mark.parametrize("backend", ["cpu", "cuda", "metal", "mps"])
@pytest.mark.parametrize("judges_speed", [False, True])
def test_the_engine_says_whether_speed_is_judged_wherever_it_ran(backend, judges_speed):
    check = ThroughputCheck(Timing(judges_speed=judges_speed, backend=backend))
    verdict = check.look(FAST, SLOW, 1.5, 0.05, None)
    assert verdict.outcome == ("pass" if judges_speed else "informational")
    assert (verdict.value, verdict.reference_value) == pytest.approx((60.9, 30.4))
    first, most = check.extent(FAST, Settings(runs=3, most_runs=12))
    assert (first, most) == (3 * len(PROMPTS), (12 if judges_speed else 3) * len(PROMPTS))


def test_an_engine_whose_speed_is_shown_only_is_named_with_its_place():
    assert not_deployed(Timing(judges_speed=True)) == ""
    mlx = Timing(judges_speed=False, name="mlx")
    assert not_deployed(mlx) == "on a CPU, where nobody deploys the engine mlx"
    told = ThroughputCheck(mlx).look(FAST, SLOW, 1.5, 0.05, None)
    assert told.not_judged == not_deployed(mlx)
    assert ThroughputCheck(mlx).look(FAST, SLOW, None, 0.05, None).not_judged == ""  # there is nothing to judge by
