"""Verdicts of one criterion: the whole interval decides."""

import dataclasses

import numpy as np
import pytest
from builders import make_losses, make_task, make_throughput

from pytest_quantbench.errors import ComparisonError
from pytest_quantbench.judge import accuracy_drop, rules, speed_ratio
from pytest_quantbench.measures.samples import SizeSamples

NOISE = np.random.default_rng(0).standard_normal(640)


@pytest.mark.parametrize(
    ("shift", "limit", "outcome"),
    [(0.05, 1.0, "pass"), (0.5, 1.0, "fail"), (0.05, 0.38, "undecided"), (0.5, None, "informational")],
)
def test_perplexity_is_decided_by_the_whole_interval(shift, limit, outcome):
    reference = make_losses(2 + 0.1 * NOISE)
    quantized = make_losses(2 + 0.1 * NOISE + shift + 0.1 * np.roll(NOISE, 7))
    verdict = rules.judge_perplexity(quantized, reference, limit)
    assert verdict.outcome == outcome
    assert verdict.low < verdict.estimate < verdict.high
    assert bool(verdict.needed) == (outcome == "undecided")


def test_too_few_tokens_are_undecided_and_not_certain():
    verdict = rules.judge_perplexity(make_losses(np.full(100, 2.0)), make_losses(np.full(100, 1.0)), 1.0)
    assert (verdict.outcome, verdict.low) == ("undecided", None)
    assert "fewer than 128 tokens" in verdict.sentence


def test_identical_likelihoods_are_an_error_and_never_a_pass():
    with pytest.raises(ComparisonError, match="bit-identical"):
        rules.judge_perplexity(make_losses(NOISE), make_losses(NOISE), 1.0)


@pytest.mark.parametrize(("limit", "outcome"), [(0.5, "pass"), (None, "informational")])
def test_a_candidate_of_the_references_very_weights_has_no_delta(limit, outcome):
    """A file in BF16 or F32, or one in 4 bits of weights that lay on its grid."""
    verdict = rules.judge_perplexity(make_losses(NOISE), make_losses(NOISE), limit, floor=0.01)
    assert (verdict.outcome, verdict.estimate, verdict.low, verdict.high) == (outcome, 0.0, 0.0, 0.0)
    assert "its decoded weights are the reference's to the last bit, and so are its losses on 640 tokens" in (
        verdict.sentence
    )
    assert limit is None or (verdict.p_good, verdict.p_bad) == (0.0, 1.0)


def test_a_candidate_of_other_weights_cannot_have_the_references_losses():
    with pytest.raises(ComparisonError, match="bit-identical"):
        rules.judge_perplexity(make_losses(NOISE, weights_sha256="v"), make_losses(NOISE), 1.0, floor=0.01)


def test_the_same_weights_with_rounded_inputs_are_judged_by_their_losses():
    verdict = rules.judge_perplexity(make_losses(2 + 0.1 * NOISE), make_losses(2 - 0.1 * NOISE), 9.0, floor=0.01)
    assert verdict.low < verdict.estimate < verdict.high


@pytest.mark.parametrize("change", [{"protocol_sha256": "q on c"}, {"protocol_sha256": "p on d"}])
def test_other_protocols_are_not_compared(change):
    with pytest.raises(ComparisonError, match="different protocols"):
        rules.judge_perplexity(make_losses(NOISE, **change), make_losses(NOISE + 1), 1.0)


def test_a_perplexity_that_overflows_fails_with_its_nats():
    verdict = rules.judge_perplexity(make_losses(np.full(640, 800.0)), make_losses(NOISE), 1.0)
    assert verdict.outcome == "fail"
    assert "800 nats per token" in verdict.sentence


@pytest.mark.parametrize(
    ("lost", "questions", "limit", "outcome"),
    [(0, 1000, 3.0, "pass"), (80, 1000, 3.0, "fail"), (5, 200, 3.0, "undecided"), (0, 20, 3.0, "undecided")],
)
def test_accuracy_is_decided_by_the_whole_interval(lost, questions, limit, outcome):
    reference = np.ones(questions, bool)
    quantized = reference.copy()
    quantized[:lost] = False
    assert accuracy_drop.judge_accuracy("t", make_task(quantized), make_task(reference), limit).outcome == outcome


@pytest.mark.parametrize(("right", "outcome"), [(60, "undecided"), (200, "pass")])
def test_where_the_reference_guesses_no_drop_can_show(right, outcome):
    """A quarter of four choices is what guessing gives: the pass of a model that knows nothing is none."""
    reference = np.arange(240) < right
    verdict = accuracy_drop.judge_accuracy("t", make_task(reference), make_task(reference), 3.0)
    assert verdict.outcome == outcome
    assert ("guessing 25.0%: a model that guesses might drop" in verdict.sentence) == (outcome == "undecided")
    assert (verdict.p_good > 0.05) == (outcome == "undecided")  # or Holm's correction would let it pass


def test_a_reference_that_writes_nothing_right_shows_no_drop_either():
    written = dataclasses.replace(make_task(np.zeros(200, bool)), choices=0)
    assert accuracy_drop.judge_accuracy("t", written, written, 3.0).outcome == "undecided"


def test_what_is_worse_than_a_guessing_reference_still_fails():
    reference = np.arange(400) < 100
    assert (
        accuracy_drop.judge_accuracy("t", make_task(np.zeros(400, bool)), make_task(reference), 3.0).outcome == "fail"
    )


def test_other_questions_are_not_compared():
    with pytest.raises(ComparisonError, match="other questions"):
        accuracy_drop.judge_accuracy("t", make_task([True]), make_task([True], hashes="other"), 3.0)


@pytest.mark.parametrize(("stored", "outcome"), [(250, "pass"), (300, "pass"), (301, "fail")])
def test_size_is_exact_and_the_limit_itself_is_enough(stored, outcome):
    assert rules.judge_size(SizeSamples(stored_bytes=stored, bf16_bytes=1000), 70.0).outcome == outcome


def test_a_machine_that_slowed_down_settles_nothing():
    slow, fast = make_throughput([[10], [20], [30]]), make_throughput([[20], [41], [60]])
    drifted = dataclasses.replace(fast, probes_per_second=(1.0, 0.9))
    verdict = speed_ratio.judge_throughput(drifted, slow, 1.5)
    assert verdict.outcome == "undecided"
    assert "speed changed by -10%" in verdict.sentence
    interleaved = dataclasses.replace(drifted, reference_runs=slow.runs)
    assert speed_ratio.judge_throughput(interleaved, slow, 1.5).outcome == "undecided"
    steady = dataclasses.replace(interleaved, probes_per_second=(1.0, 0.97))
    assert speed_ratio.judge_throughput(steady, slow, 1.5).outcome == "pass"


def test_degenerate_perplexities_are_never_certain():
    spread = np.random.default_rng(0).normal(2.0, 0.5, 640)
    huge = np.full(640, 800.0)
    with pytest.raises(ComparisonError, match="reference's own perplexity overflows"):
        rules.judge_perplexity(make_losses(spread), make_losses(huge), 1.0)
    assert rules.judge_perplexity(make_losses(huge[:100]), make_losses(spread[:100]), 1.0).outcome == "undecided"
    failed = rules.judge_perplexity(make_losses(huge), make_losses(spread), 1.0)
    assert (failed.outcome, failed.p_good, failed.p_bad) == ("fail", 1.0, 0.0)
    alike = rules.judge_perplexity(
        make_losses(spread + 0.5), make_losses(spread), 0.0
    )  # the same difference everywhere: no spread
    assert alike.outcome == "undecided"


def test_throughput_pairs_by_prompt_and_is_informational_where_it_does_not_apply():
    slow = make_throughput([[10, 11], [20, 21], [30, 29], [40, 41], [50, 52]])
    fast = make_throughput([[20, 22], [41, 41], [60, 59], [80, 83], [99, 104]])
    assert speed_ratio.judge_throughput(fast, slow, 1.5).outcome == "pass"
    assert speed_ratio.judge_throughput(slow, fast, 1.5).outcome == "fail"
    assert speed_ratio.judge_throughput(fast, slow, 2.0).outcome == "undecided"
    verdict = speed_ratio.judge_throughput(slow, fast, 1.5, "on kernels that nobody deploys")
    assert (verdict.outcome, verdict.limit) == ("informational", None)
    assert verdict.estimate == pytest.approx(0.5, rel=0.05)
    assert verdict.not_judged == "on kernels that nobody deploys"


def test_one_prompt_is_too_few():
    assert (
        speed_ratio.judge_throughput(make_throughput([[1, 2]]), make_throughput([[1, 2]]), 1.5).outcome == "undecided"
    )


def test_intervals_on_a_limit_are_undecided_about_as_often_as_they_should_be():
    """A model exactly at the limit passes at most 5 % of the time; a gate on the estimate alone passes half."""
    rng = np.random.default_rng(2)
    outcomes = {"pass": 0, "fail": 0, "undecided": 0}
    for lost, gained, _ in rng.multinomial(1000, [0.075, 0.045, 0.88], size=400):
        reference, quantized = np.ones(1000, bool), np.ones(1000, bool)
        quantized[:lost] = False
        reference[lost : lost + gained] = False
        outcomes[accuracy_drop.judge_accuracy("t", make_task(quantized), make_task(reference), 3.0).outcome] += 1
    assert max(outcomes["pass"], outcomes["fail"]) / 400 < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 400)


def test_undecided_says_what_would_settle_it_and_what_could_have_been_settled():
    verdict = accuracy_drop.judge_accuracy("t", make_task([True] * 195 + [False] * 5), make_task([True] * 200), 3.0)
    assert verdict.outcome == "undecided"
    assert "questions would settle it; these 200 can tell a difference of" in verdict.needed
    assert verdict.detectable == pytest.approx(2.78, abs=0.05)
    assert 0.05 < verdict.p_good < 0.95


def test_a_smaller_alpha_decides_less():
    reference = make_losses(2 + 0.1 * NOISE)
    quantized = make_losses(2 + 0.1 * NOISE + 0.05 + 0.1 * np.roll(NOISE, 7))
    assert rules.judge_perplexity(quantized, reference, 0.45, 0.05).outcome == "pass"
    assert rules.judge_perplexity(quantized, reference, 0.45, 1e-9).outcome == "undecided"


def test_the_same_loss_everywhere_is_undecided():
    verdict = rules.judge_perplexity(make_losses(np.full(640, 2.1)), make_losses(np.full(640, 2.0)), 10.0)
    assert (verdict.outcome, verdict.low) == ("undecided", None)
