"""The divergence as a record has it: its interval holds the full sum in float64, and what sampling may have moved."""

from dataclasses import replace

import numpy as np
import pytest
from builders import make_perplexity, make_record, make_scored
from text_like_logits import compact, quick_kl, text_like

from pytest_quantbench.engines.divergence import Fidelity
from pytest_quantbench.engines.logits import HostLogits
from pytest_quantbench.record import perplexity_summary
from pytest_quantbench.record.perplexity_schema import Divergence
from pytest_quantbench.report import markdown
from pytest_quantbench.stats import series

TOP = np.zeros(640, np.uint32)  # the likeliest token of every position


def divergence(fidelity, count) -> Divergence:
    nll = np.full(count, 2.0, np.float32)
    found = perplexity_summary.perplexity(make_scored(nll, fidelity=fidelity), make_scored(nll)).divergence
    assert found is not None
    return found


@pytest.mark.parametrize("vocabulary", [2048, 8192])
@pytest.mark.parametrize("noise", [0.01, 0.3])
def test_the_interval_holds_the_divergence_of_these_tokens(vocabulary, noise):
    first, second = text_like(1, 256, vocabulary, noise)
    found = divergence(HostLogits(second).against(compact(first)), len(first))
    truth = quick_kl(first, second).mean()
    assert found.kl_interval.low < truth < found.kl_interval.high
    assert found.kl_nats == pytest.approx(truth, rel=0.02)
    assert (found.sampled_nats == 0) == (vocabulary == 2048)
    assert found.sampled_nats < 0.02 * truth


def test_what_sampling_may_have_moved_is_two_standard_errors_and_widens_the_interval():
    kl, same = np.random.default_rng(0).random(640).astype(np.float32), np.ones(640, bool)
    exact = divergence(Fidelity(kl_nats=kl, error_nats=np.zeros_like(kl), same_top=same, likeliest=TOP), 640)
    sampled = divergence(Fidelity(kl_nats=kl, error_nats=np.full_like(kl, 0.1), same_top=same, likeliest=TOP), 640)
    assert exact.sampled_nats == 0
    assert exact.kl_interval == series.mean(kl).interval()
    assert sampled.sampled_nats == pytest.approx(2 * 0.1 / np.sqrt(640))
    assert exact.kl_interval.low - sampled.kl_interval.low == pytest.approx(sampled.sampled_nats)
    assert sampled.kl_interval.high - exact.kl_interval.high == pytest.approx(sampled.sampled_nats)


def test_the_report_says_what_was_sampled():
    kl = np.full(640, 0.5, np.float32) + np.arange(640, dtype=np.float32) % 2 / 10
    shown = []
    for error in (0.0, 0.1):
        found = divergence(
            Fidelity(kl_nats=kl, error_nats=np.full_like(kl, error), same_top=kl > 0, likeliest=TOP), 640
        )
        shown.append(markdown.markdown([make_record(perplexity=make_perplexity(divergence=found))], []))
    assert "by sampling" not in shown[0]
    assert "| … of that, by sampling | ±\u00a00.008 |" in shown[1]
    before = make_perplexity(divergence=replace(found, sampled_nats=0.0, missed_nats=0.03))
    assert "| at most 0.030 more |" in markdown.markdown([make_record(perplexity=before)], [])
