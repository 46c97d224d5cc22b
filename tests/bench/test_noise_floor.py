"""The noise floor: what the reference differs from itself by, figure by figure, and the limits that are below it."""

import math

import numpy as np
import pytest
from builders import make_losses, make_task

from pytest_quantbench.bench.noise_floor import noise_floor, refuse_tighter
from pytest_quantbench.catalog.criteria import METRICS
from pytest_quantbench.engines.divergence import Fidelity
from pytest_quantbench.errors import ComparisonError
from pytest_quantbench.measures.samples import AccuracySamples


def losses(perplexity, tokens, **changes):
    return make_losses([math.log(perplexity)] * tokens, **changes)


def answers(correct):
    return AccuracySamples(
        tasks={"t": make_task(correct)}, available={"t": 9}, cut_contexts=0, weights_sha256="w", seconds=0.0
    )


def test_nothing_measured_is_nothing():
    assert noise_floor(None, None, None, None) is None
    assert noise_floor(losses(4.0, 8), None, answers([True]), None) is None


def test_perplexities_are_compared_on_the_tokens_of_the_rounded_model():
    plain = make_losses(np.log([4.0] * 4 + [900.0] * 4))  # read further since, for another cell
    fidelity = Fidelity(
        kl_nats=np.array([0.1, 0.3] * 2, np.float32),
        error_nats=np.zeros(4, np.float32),
        same_top=np.ones(4, bool),
        likeliest=np.zeros(4, np.uint32),
    )
    floor = noise_floor(plain, losses(4.25, 4, fidelity=fidelity), None, None)
    assert floor.perplexity_points == pytest.approx(0.25, rel=1e-5)
    assert floor.kl_nats == pytest.approx(0.2)
    assert (floor.drop_points, floor.flipped_points) == (None, None)


def test_answers_count_by_their_difference_and_by_how_many_flip():
    plain, rounded = [True] * 6 + [False] * 4 + [True] * 90, [False] * 2 + [True] * 4 + [True] + [False] * 3
    floor = noise_floor(None, None, answers(plain), answers(rounded))
    assert floor.drop_points == pytest.approx(10.0)  # two lost, one gained, of ten
    assert floor.flipped_points == pytest.approx(30.0)
    assert floor.perplexity_points is None


def test_a_limit_below_it_is_refused_by_its_own_figure():
    floor = noise_floor(losses(4.0, 4), losses(4.25, 4), answers([True] * 10), answers([True] * 9 + [False]))
    for metric, limit in (("perplexity_delta", 0.2), ("depth_perplexity_delta", 0.2), ("accuracy_drop_points", 9.0)):
        with pytest.raises(ComparisonError, match="is tighter than the noise floor"):
            refuse_tighter(METRICS[metric], limit, floor)
    for metric, limit in (
        ("perplexity_delta", 0.3),
        ("depth_perplexity_delta", 0.3),
        ("retrieval_drop_points", 1e-9),
        ("accuracy_drop_points", 11.0),
        ("throughput_ratio", 1e-9),
        ("size_reduction_percent", 1e-9),
    ):
        refuse_tighter(METRICS[metric], limit, floor)
    refuse_tighter(METRICS["perplexity_delta"], 1e-9, None)
