"""Checks by the engine that took the samples: whether a speed is judged there, and how many runs it may take."""

import numpy as np
import pytest
from builders import make_losses, make_throughput

from pytest_quantbench.bench.checks.perplexity import PerplexityCheck
from pytest_quantbench.bench.checks.throughput import ThroughputCheck, not_deployed
from pytest_quantbench.catalog.corpora import PROMPTS
from pytest_quantbench.catalog.settings import Settings
from pytest_quantbench.stats.window_sampling import Drawn


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


@pytest.mark.parametrize(
    ("scored", "how", "extent"),
    [
        (8192, {"fewest_windows": 8, "growing_windows": 16}, (65_536, 131_072)),
        (512, {"fewest_windows": 8, "growing_windows": 16}, (4096, 16_384)),  # of a model with a short context
        (64, {"fewest_windows": 8, "growing_windows": 16}, (512, 16_384)),
        (8192, {"tokens": 9000}, (16_384, 16_384)),
        (64, {"most_tokens": None}, (512, 400_000)),
    ],
)
def test_a_text_is_read_in_at_least_so_many_windows(scored, how, extent):
    drawn = Drawn(population=99, tokens=scored, begins=np.zeros(1, int), counts=np.ones(1, int))
    samples = make_losses([1.0], drawn=drawn, available_tokens=400_000)
    assert PerplexityCheck(Timing(judges_speed=True)).extent(samples, Settings(**how)) == extent


def test_an_engine_whose_speed_is_shown_only_is_named_with_its_place():
    assert not_deployed(Timing(judges_speed=True)) == ""
    mlx = Timing(judges_speed=False, name="mlx")
    assert not_deployed(mlx) == "on a CPU, where nobody deploys the engine mlx"
    told = ThroughputCheck(mlx).look(FAST, SLOW, 1.5, 0.05, None)
    assert told.not_judged == not_deployed(mlx)
    assert ThroughputCheck(mlx).look(FAST, SLOW, None, 0.05, None).not_judged == ""  # there is nothing to judge by
