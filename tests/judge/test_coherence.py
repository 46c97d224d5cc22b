"""Signs of collapse."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_quantbench.judge import coherence
from pytest_quantbench.measures.throughput_samples import Run


@given(st.text("abc", min_size=1, max_size=80), st.text("xyz", max_size=30), st.integers(4, 6))
def test_what_repeats_four_times_is_a_loop(stretch, front, times):
    assert coherence.loops(front + stretch * times)


@pytest.mark.parametrize(
    "text", ["", "a", "abcabcabc", "the cat sat on the mat and the dog sat on the log", "x" + " " * 40 + "y"]
)
def test_what_does_not_is_none(text):
    assert not coherence.loops(text)


def test_long_periods_do_not_count():
    stretch = "".join(chr(97 + index % 26) + str(index) for index in range(60))  # 170 characters
    assert not coherence.loops(stretch * 5)


def runs(texts, tokens):
    return tuple(
        Run(
            prompt=prompt,
            prompt_tokens=1,
            new_tokens=3,
            seconds=1.0,
            first_token_seconds=0.1,
            prefill_tokens_per_second=1.0,
            latencies_seconds=np.zeros(2, np.float32),
            tokens=tokens[prompt],
            text=text,
        )
        for prompt, text in enumerate(texts)
    )


class Part:
    def __init__(self, texts, tokens):
        self.runs = runs(texts, tokens)


class Answered:
    """One task with so many right answers of so many questions with four choices."""

    def __init__(self, right, questions):
        self.correct = np.arange(questions) < right
        self.ids = tuple(map(str, range(questions)))
        self.choices, self.chance = 4, 0.25
        self.tasks = {"task": self}


def test_agreement_and_loops_are_counted_by_prompt():
    reference = Part(["one two three", "four five six"], [(1, 2, 3), (4, 5, 6)])
    quantized = Part(["one two four", "la la la la la"], [(1, 2, 9), (7, 7, 7)])
    found = coherence.of(quantized, None, reference, None)
    assert (found.prompts, found.looping, found.only_here) == (2, 1, 1)
    assert (found.first_token_agreement, found.greedy_prefix_tokens) == (0.5, 1.0)
    assert (found.loops, found.guesses, found.collapsed) == (False, None, False)


LOOP, TEXT = "la la la la la", "one two three"


@pytest.mark.parametrize(
    ("reference", "quantized", "collapsed"),
    [
        ([TEXT] * 5, [LOOP] * 5, True),
        ([TEXT] * 5, [LOOP] * 3 + [TEXT] * 2, True),
        ([TEXT] * 5, [LOOP] * 2 + [TEXT] * 3, False),
        ([LOOP] * 5, [LOOP] * 5, False),
        ([LOOP] * 3 + [TEXT] * 2, [LOOP] * 5, True),  # loops on all that the reference did not loop on
        ([LOOP] * 4 + [TEXT], [LOOP] * 5, False),  # one prompt may be an accident
    ],
)
def test_loops_that_the_reference_does_not_have_are_a_collapse(reference, quantized, collapsed):
    before, after = (Part(texts, [(1,)] * 5) for texts in (reference, quantized))
    assert coherence.of(after, None, before, None).collapsed == collapsed


@pytest.mark.parametrize(
    ("before", "after", "questions", "guesses"),
    [
        (160, 50, 200, True),
        (160, 100, 200, False),  # much worse, but it knows something
        (63, 60, 200, False),  # neither knows much: no evidence of a collapse
        (6, 4, 10, False),
        (50, 45, 200, False),  # the reference guesses itself
    ],
)
def test_guessing_takes_evidence(before, after, questions, guesses):
    found = coherence.of(None, Answered(after, questions), None, Answered(before, questions))
    assert (found.guesses, found.loops, found.collapsed) == (guesses, None, guesses)


def test_nothing_measured_says_nothing():
    found = coherence.of(None, None, None, None)
    assert (found.looping, found.first_token_agreement, found.guessing_p) == (None, None, None)
    assert (found.loops, found.guesses, found.collapsed) == (None, None, False)
