"""Does the quantized model still make sense? Collapse is another thing than being a little worse.

Signs of it: greedy outputs that run into a loop where the reference's do not, accuracy that guessing explains, hardly
any agreement with the reference's first tokens.
"""

from collections.abc import Sequence

import numpy as np

from pytest_quantbench.proportions import above_chance_p
from pytest_quantbench.record import Coherence
from pytest_quantbench.samples import AccuracySamples, Run, ThroughputSamples

LONGEST_PERIOD = 80  # characters
REPEATS = 4
GUESSING_P = 0.05


def loops(text: str) -> bool:
    """Whether a text holds a stretch of at most 80 characters four or more times in a row.

    A stretch of white space alone does not count. O(80 × characters).
    """
    letters = np.array([ord(letter) for letter in text], dtype=np.uint32)
    for period in range(1, min(LONGEST_PERIOD, len(letters) // REPEATS) + 1):
        same = letters[period:] == letters[:-period]
        ends = np.flatnonzero(_run_lengths(same) >= (REPEATS - 1) * period)
        if any(text[end + 1 : end + 1 + period].strip() for end in ends):
            return True
    return False


def _run_lengths(same: "np.ndarray[tuple[int], np.dtype[np.bool_]]") -> "np.ndarray[tuple[int], np.dtype[np.intp]]":
    """How many True there are in a row up to each place."""
    places = np.arange(len(same))
    last_false = np.maximum.accumulate(np.where(same, -1, places))
    return places - last_false


def of(
    throughput: ThroughputSamples | None,
    accuracy: AccuracySamples | None,
    reference_throughput: ThroughputSamples | None,
    reference_accuracy: AccuracySamples | None,
) -> Coherence:
    """The signs of collapse in what was measured; those of what was not are null."""
    mine, other = (by_prompt(part.runs) if part else {} for part in (throughput, reference_throughput))
    pairs = [(run, other[prompt]) for prompt, run in mine.items() if prompt in other]
    looping = sum(loops(run.text) for run in mine.values())
    reference_looping = sum(loops(run.text) for run in other.values()) if other else None
    guessing = _guessing_p(accuracy)
    reference_guessing = _guessing_p(reference_accuracy)
    only_it_loops = reference_looping is not None and looping - reference_looping > len(mine) / 2
    only_it_guesses = (
        (guessing or 0) > GUESSING_P and reference_guessing is not None and reference_guessing < GUESSING_P
    )
    return Coherence(
        prompts=len(mine),
        looping=looping if mine else None,
        reference_looping=reference_looping,
        first_token_agreement=_mean([a.tokens[0] == b.tokens[0] for a, b in pairs]),
        greedy_prefix_tokens=_mean([_prefix(a.tokens, b.tokens) for a, b in pairs]),
        guessing_p=guessing,
        collapsed=only_it_loops or only_it_guesses,
    )


def by_prompt(runs: Sequence[Run]) -> dict[int, Run]:
    """One run of every prompt: they are greedy, so all are alike."""
    return {run.prompt: run for run in reversed(runs)}


def _prefix(first: Sequence[int], second: Sequence[int]) -> int:
    """How many tokens two outputs have in common from the start."""
    pairs = list(zip(first, second, strict=False))
    return next((place for place, (a, b) in enumerate(pairs) if a != b), len(pairs))


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _guessing_p(samples: AccuracySamples | None) -> float | None:
    """The exact p of so many right answers by guessing, on the judged task."""
    if samples is None:
        return None
    task = next(iter(samples.tasks.values()))
    return above_chance_p(int(task.correct.sum()), len(task.ids), 1 / task.choices)
