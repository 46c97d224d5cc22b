"""What a cell's page shows of raw samples, against counting by hand."""

import numpy as np
import pytest

from pytest_quantbench.record.raw import as_bytes
from pytest_quantbench.report.html.samples import MOST_QUESTIONS, samples, whole


def task(correct, ids=None, **more):
    count = len(correct)
    arrays = {
        "ids": np.array(ids or [f"q{place}" for place in range(count)]),
        "correct": np.array(correct, bool),
        "gold": np.ones(count, int),
        "choices": np.full(count, 2),
        "loglikelihoods": np.arange(2.0 * count),
    }
    return {f"accuracy/t/{name}": values for name, values in (arrays | more).items()}


def test_nothing_is_shown_of_nothing():
    assert samples({}, {}, True) == {}


def test_losses_are_subtracted_token_by_token_as_far_as_both_were_read():
    mine, other = np.float32([1, 2, 3, 9]), np.float32([1, 1, 1])
    found = samples({"perplexity/nll_nats": mine}, {"perplexity/nll_nats": other}, True)["loss_differences"]
    assert (found["least"], found["median"], found["most"]) == (0, 1, 2)
    assert sum(found["counts"]) + found["below"] + found["above"] == 3


def test_losses_on_other_texts_are_not_subtracted():
    arrays = {"perplexity/nll_nats": np.float32([1, 2])}
    assert "loss_differences" not in samples(arrays, arrays, False)


def test_a_histogram_counts_every_value_once():
    """The tails are counted beside the picture, and what is no number is told apart."""
    values = np.concatenate([np.random.default_rng(0).normal(0, 1, 9997), [1e6, -1e6, np.nan]])
    found = samples({"perplexity/kl_nats": values}, {}, False)["divergences"]
    assert sum(found["counts"]) + found["below"] + found["above"] == 9999
    assert found["not_numbers"] == 1
    assert found["below"] == found["above"] == 49
    assert -4 < found["low"] < -2 < 2 < found["high"] < 4
    assert found["most"] == 1e6


def test_values_that_are_all_the_same_are_one_bar():
    found = samples({"perplexity/kl_nats": np.zeros(7)}, {}, False)["divergences"]
    assert found["counts"] == [7]


def test_times_between_tokens_are_in_milliseconds():
    found = samples({"throughput/latencies_seconds": np.full((2, 3), 0.012)}, {}, False)["gaps"]
    assert found["median"] == pytest.approx(12)


def test_questions_are_compared_by_their_ids():
    """The reference was asked other questions in another order; only shared ones are lost or won."""
    mine = task([True, False, True, False], ["a", "b", "c", "x"])
    other = task([False, True, True], ["c", "b", "a"])
    found = samples(mine, other, False)["tasks"]["t"]
    assert (found["asked"], found["right"], found["compared"]) == (4, 2, 3)
    assert [each["id"] for each in found["lost"]] == ["b"]
    assert [each["id"] for each in found["won"]] == ["c"]
    assert found["lost"][0]["mine"] == [2, 3]
    assert found["lost"][0]["reference"] == [2, 3]
    assert found["won"][0]["reference"] == [0, 1]


def test_texts_and_options_come_with_a_question_where_they_were_kept():
    kept = {"questions": as_bytes(["Why?"]), "options": as_bytes([("so", "no")]), "texts": as_bytes([""])}
    found = samples(task([False], **kept), task([True]), False)["tasks"]["t"]["lost"][0]
    assert (found["text"], found["options"], found["gold"]) == ("Why?", ["so", "no"], 1)
    assert "text" not in samples(task([False]), task([True]), False)["tasks"]["t"]["lost"][0]


def test_written_answers_are_shown_of_both():
    written = {"gold": np.array([-1]), "choices": np.array([0]), "loglikelihoods": np.zeros(0)}
    mine = task([False], **written, texts=np.array(["41"]))
    other = task([True], **written, texts=np.array(["42"]))
    found = samples(mine, other, False)["tasks"]["t"]["lost"][0]
    assert (found["mine_text"], found["reference_text"]) == ("41", "42")
    assert "gold" not in found
    assert "mine" not in found


def test_many_questions_are_bounded_and_counted():
    count = MOST_QUESTIONS + 5
    found = samples(task([False] * count), task([True] * count), False)["tasks"]["t"]
    assert found["lost_total"] == count
    assert len(found["lost"]) == MOST_QUESTIONS


def test_a_task_of_which_the_reference_has_none_is_counted_alone():
    assert samples(task([True, False]), {}, False)["tasks"]["t"] == {"asked": 2, "right": 1}


def throughput(texts, prompts=(0, 0, 1)):
    return {
        "throughput/prompt": np.array(prompts),
        "throughput/tokens_per_second": np.full(len(prompts), 30.123456),
        "throughput/texts": as_bytes(texts),
        "throughput/prompts": as_bytes(["first", "second"]),
    }


def test_each_prompt_has_one_text_beside_the_reference_cells():
    found = samples(throughput(["a", "a", "b"]), throughput(["c", "c", "d"]), False)
    assert found["texts"] == [
        {"prompt": "first", "text": "a", "reference": "c"},
        {"prompt": "second", "text": "b", "reference": "d"},
    ]
    assert found["runs"]["tokens_per_second"] == [30.123] * 3


def test_interleaved_runs_of_the_reference_come_before_those_of_its_cell():
    own = {"throughput/reference_prompt": np.array([0]), "throughput/reference_texts": as_bytes(["between"])}
    found = samples(throughput(["a", "a", "b"]) | own, throughput(["c", "c", "d"]), False)["texts"]
    assert [each["reference"] for each in found] == ["between", None]


def test_half_a_character_is_replaced():
    """A model may write half of a surrogate pair, which no file in UTF-8 can hold."""
    assert whole("a\ud83db") == "a\ufffdb"
    assert whole("a😀b") == "a😀b"
    assert samples(throughput(["\ud83d", "", ""]), {}, False)["texts"][0]["text"] == "\ufffd"


def test_matrices_are_shown_by_name_in_the_models_order():
    arrays = {"weights/names": np.array(["b", "a"]), "weights/snr_db": np.array([np.inf, 3.0])}
    assert samples(arrays, {}, False)["matrices"] == {"names": ["b", "a"], "snr_db": [np.inf, 3.0]}
