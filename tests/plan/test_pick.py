"""Which artifact is taken: the smallest that meets all, with an error probability that a simulation shows."""

import dataclasses

import generated_suite
import numpy as np
import pytest
from builders import make_change, make_verdict
from scipy.stats import norm

from pytest_quantbench.errors import QuantbenchError
from pytest_quantbench.judge.coherence import Coherence
from pytest_quantbench.plan.pick import pick
from pytest_quantbench.plan.requirements import REQUIREMENTS
from pytest_quantbench.record.pairing import Measured
from pytest_quantbench.record.schema import NoiseFloor


@pytest.fixture(scope="module")
def cells():
    return [Measured(record=record, arrays=arrays) for record, arrays in generated_suite.cells(1)]


def words(choice):
    others = (*choice.rejected, *choice.undecided, *choice.larger, *filter(None, [choice.picked]))
    return {each.record.recipe: each.word for each in others}


def test_the_smallest_that_meets_all_is_taken(cells):
    (choice,) = pick(cells, {"max-ppl-delta": 20.0, "max-gb": 1e6})
    assert choice.picked.record.recipe == "int2-vptq"
    assert set(words(choice).values()) == {"meets all"}
    sizes = [each.gigabytes for each in (choice.picked, *choice.larger)]
    assert sizes == sorted(sizes)


def test_what_is_too_large_is_rejected_by_its_size_alone(cells):
    gigabytes = next(cell.record.compression.compressed_gb for cell in cells if cell.record.recipe == "int4")
    (choice,) = pick(cells, {"max-gb": gigabytes})
    assert words(choice)["int4"] == "meets all"  # exactly as large as allowed
    assert words(choice)["int8"] == words(choice)["bf16"] == "does not"
    assert any("size" in each.sentence for each in choice.rejected[0].weighings)


def test_a_limit_that_nothing_meets(cells):
    (choice,) = pick(cells, {"max-gb": 1e-9})
    assert choice.picked is None
    assert len(choice.rejected) == len(cells)


def test_the_reference_loses_nothing(cells):
    (choice,) = pick(cells, {"max-ppl-delta": 0.005, "max-accuracy-drop": 0.9})
    assert words(choice)["bf16"] == "meets all"


def test_what_was_not_measured_is_undecided_and_says_what_measures_it(cells):
    without = [dataclasses.replace(cell, record=dataclasses.replace(cell.record, throughput=None)) for cell in cells]
    (choice,) = pick(without, {"min-tps": 1.0})
    assert set(words(choice).values()) == {"undecided"}
    weighing = choice.undecided[0].weighings[0]
    assert weighing.sentence == "speed, asked: at least 1: its speed was not measured"
    assert weighing.settled_by == "quantbench run -k CELL -m t1 measures it"


def test_a_limit_below_the_noise_floor_decides_nothing(cells):
    noisy = [
        dataclasses.replace(
            cell,
            record=dataclasses.replace(
                cell.record,
                noise_floor=NoiseFloor(perplexity_points=50.0, kl_nats=None, drop_points=None, flipped_points=None),
            ),
        )
        for cell in cells
    ]
    (choice,) = pick(noisy, {"max-ppl-delta": 20.0})
    assert words(choice)["int4"] == "undecided"
    assert "rounding alone changes it by 50" in choice.undecided[0].weighings[0].sentence


COLLAPSED = Coherence(
    prompts=5,
    looping=5,
    only_here=5,
    first_token_agreement=0.0,
    greedy_prefix_tokens=0.0,
    guessing_p=None,
    loops=True,
    guesses=None,
)

ODD = make_verdict("perplexity_delta", "anomalous")
WORSE = make_verdict("size_reduction_percent", baseline=(make_change("size", sentence="size +11.11 %: worse."),))


@pytest.mark.parametrize(
    ("changes", "word", "why"),
    [
        ({"coherence": COLLAPSED}, "does not", "its outputs have collapsed"),
        ({"integrity": ("A layer is zero.",)}, "does not", "its weights are not what they should be: A layer is zero"),
        ({"verdicts": (WORSE,)}, "does not", "it got worse since its baseline: size +11.11 %: worse"),
        ({"verdicts": (ODD, WORSE)}, "does not", "it got worse since its baseline: size +11.11 %: worse"),
        ({"verdicts": (ODD, make_verdict("size_reduction_percent", "fail"))}, "undecided", "it is better than its"),
        ({"verdicts": (ODD,)}, "undecided", "it is better than its original"),
    ],
)
def test_what_overrules_all_figures(cells, changes, word, why):
    odd = [
        dataclasses.replace(cell, record=dataclasses.replace(cell.record, **changes))
        if cell.record.recipe == "int2-vptq"
        else cell
        for cell in cells
    ]
    (choice,) = pick(odd, {"max-ppl-delta": 20.0})
    found = next(e for e in (*choice.rejected, *choice.undecided) if e.record.recipe == "int2-vptq")
    assert (found.word, found.why[: len(why)]) == (word, why)
    assert choice.picked.record.recipe == "int2"


def test_nothing_required_is_an_error(cells):
    with pytest.raises(QuantbenchError, match=r"Nothing is required. Give one or more of --max-gb, --max-ppl-delta"):
        pick(cells, {})


def test_without_the_reference_only_what_needs_none_is_decided(cells):
    (choice,) = pick(cells[1:], {"max-gb": 1e6})
    assert choice.picked.record.recipe == "int2-vptq"
    (choice,) = pick(cells[1:], {"max-gb": 1e6, "max-ppl-delta": 1.0, "max-accuracy-drop": 3.0})
    assert choice.picked is None
    told = [each.sentence for each in choice.undecided[0].weighings if each.word == "undecided"]
    assert len(told) == 2
    assert all("bf16 is not there, against which it is told: quantbench run -k " in each for each in told)
    assert all(not each.settled_by for each in choice.undecided[0].weighings)


def test_where_raw_samples_are_lost_it_says_whose(cells):
    lost = [dataclasses.replace(cells[0], arrays={}), *cells[1:]]
    (choice,) = pick(lost, {"max-ppl-delta": 1.0})
    sentence = choice.undecided[0].weighings[0].sentence
    assert "the raw samples of Qwen2.5-1.5B-Instruct-bf16 are not there" in sentence
    assert choice.undecided[0].weighings[0].settled_by == ""


def test_a_record_without_any_task_has_no_accuracy(cells):
    nothing = dataclasses.replace(cells[0].record.accuracy, tasks={})
    bare = [dataclasses.replace(c, record=dataclasses.replace(c.record, accuracy=nothing)) for c in cells]
    (choice,) = pick(bare, {"max-accuracy-drop": 3.0})
    assert set(words(choice).values()) == {"undecided"}


def test_no_more_tokens_are_asked_for_than_the_text_has(cells):
    """Of 100 windows that were drawn from 200 a limit beside the estimate asks for all."""
    text = dataclasses.replace(cells[2].record.perplexity, windows=100, text_windows=200)
    drawn = dataclasses.replace(cells[2], record=dataclasses.replace(cells[2].record, perplexity=text))
    estimate = REQUIREMENTS["max-ppl-delta"].seen(cells[0], drawn, None)
    assert estimate.whole == 2 * text.tokens
    (choice,) = pick([cells[0], drawn], {"max-ppl-delta": estimate.estimate.value * 1.001})
    assert choice.undecided[0].weighings[0].settled_by == f"all {2 * text.tokens:,} tokens of the text would settle it"


def test_every_model_gets_a_choice_of_its_own():
    found = [Measured(record=r, arrays=a) for r, a in generated_suite.cells(2, ("int4",))]
    choices = pick(found, {"max-ppl-delta": 5.0})
    assert [choice.model for choice in choices] == generated_suite.names(2)


def at_limit(base, rng, recipes, worse_nats):
    """Cells that lose `worse_nats` per token in truth, all of them, on tokens that were drawn."""
    losses = base.arrays["perplexity/nll_nats"]
    for recipe in recipes:
        noise = rng.normal(worse_nats, 0.3, len(losses)).astype(np.float32)
        record = dataclasses.replace(base.record, recipe=recipe, level=recipe[:4], noise_floor=None)
        yield Measured(record=record, arrays={**base.arrays, "perplexity/nll_nats": losses + noise})


@pytest.mark.slow
@pytest.mark.parametrize("recipes", [("int4",), ("int4", "int3", "int2", "int4-rtn", "int3-rtn", "int2-rtn")])
def test_a_cell_that_does_not_meet_a_limit_is_taken_in_five_of_a_hundred_runs_at_most(cells, recipes):
    """All lie on the limit itself, where a claim is wrong most often; the smallest that seems to meet it is taken."""
    rng, wrong, runs = np.random.default_rng(0), 0, 400
    base = cells[0]
    base = dataclasses.replace(base, record=dataclasses.replace(base.record, noise_floor=None))
    losses = base.arrays["perplexity/nll_nats"].astype(np.float64)
    for _ in range(runs):
        drawn = dataclasses.replace(base, arrays={**base.arrays, "perplexity/nll_nats": rng.permutation(losses)})
        limit = float(np.exp(losses.mean()) * np.expm1(0.05))
        (choice,) = pick([drawn, *at_limit(drawn, rng, recipes, 0.05)], {"max-ppl-delta": limit})
        wrong += choice.picked.record.recipe != "bf16"
    assert wrong / runs <= 0.05 + 3 * (0.05 * 0.95 / runs) ** 0.5


def test_looks_make_a_claim_less_sure(cells):
    """Growing while undecided, and stopping where it looks best, is wrong no more often than 5 % all the same."""
    seen = REQUIREMENTS["max-ppl-delta"].seen(cells[0], cells[2], None)
    assert seen.looks_factor == 2.0 ** len(seen.looks)
    rng, wrong, runs = np.random.default_rng(1), 0, 4000
    for _ in range(runs):
        sums = np.cumsum(rng.normal(0, 1, 8))  # of data that grow, whose mean lies on the limit
        scores = [sums[items - 1] / items**0.5 for items in (1, 2, 4, 8)]
        wrong += any(norm.cdf(score) * 2.0**look < 0.05 for look, score in enumerate(scores, 1))
    assert wrong / runs <= 0.05
