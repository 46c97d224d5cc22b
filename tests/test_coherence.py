"""Signs of collapse."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_quantbench import coherence
from pytest_quantbench.samples import Run


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


def test_agreement_and_loops_are_counted_by_prompt():
    reference = Part(["one two three", "four five six"], [(1, 2, 3), (4, 5, 6)])
    quantized = Part(["one two four", "la la la la la"], [(1, 2, 9), (7, 7, 7)])
    found = coherence.of(quantized, None, reference, None)
    assert (found.prompts, found.looping, found.reference_looping) == (2, 1, 0)
    assert (found.first_token_agreement, found.greedy_prefix_tokens) == (0.5, 1.0)
    assert not found.collapsed


def test_loops_that_the_reference_does_not_have_are_a_collapse():
    reference = Part(["one two three", "four five six"], [(1,), (4,)])
    quantized = Part(["la la la la la", "na na na na na"], [(7,), (8,)])
    assert coherence.of(quantized, None, reference, None).collapsed
    assert not coherence.of(quantized, None, quantized, None).collapsed


def test_nothing_measured_says_nothing():
    found = coherence.of(None, None, None, None)
    assert (found.looping, found.first_token_agreement, found.guessing_p, found.collapsed) == (None, None, None, False)
