"""Does the quantized model still make sense? Collapse is another thing than being a little worse.

Signs of it: greedy outputs that run into a loop where the reference's do not, accuracy that guessing explains, hardly
any agreement with the reference's first tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pytest_quantbench.measures.samples import AccuracySamples, TaskSamples
from pytest_quantbench.measures.throughput_samples import Run, ThroughputSamples
from pytest_quantbench.stats.proportions import GUESSING_P, above_chance_p, wilson

LONGEST_PERIOD = 80  # characters
REPEATS = 4
FEWEST_LOOPS = 2  # one prompt may loop by accident


@dataclass(frozen=True, slots=True, kw_only=True)
class Coherence:
    """Whether the model still makes sense. Prompts of T1 by whether the greedy outputs loop; agreement of the outputs.

    `loops`: it loops on most of the prompts that the reference does not loop on. `guesses`: its accuracy is no better
    than guessing, and surely nearer to that than to the reference's. Null: not measured.
    """

    prompts: int | None
    looping: int | None
    only_here: int | None  # prompts on which it loops and the reference does not
    first_token_agreement: float | None
    greedy_prefix_tokens: float | None  # mean over prompts
    guessing_p: float | None  # of so many right answers by guessing
    loops: bool | None
    guesses: bool | None

    @property
    def collapsed(self) -> bool:
        """Whether there is any sign of it."""
        return bool(self.loops or self.guesses)


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
    looped = [(loops(run.text), loops(before.text)) for run, before in pairs]
    only_here = sum(here and not there for here, there in looped)
    sound = sum(not there for _, there in looped)
    return Coherence(
        prompts=len(mine) or None,
        looping=sum(loops(run.text) for run in mine.values()) if mine else None,
        only_here=only_here if pairs else None,
        first_token_agreement=_mean([a.tokens[0] == b.tokens[0] for a, b in pairs]),
        greedy_prefix_tokens=_mean([_prefix(a.tokens, b.tokens) for a, b in pairs]),
        guessing_p=None if accuracy is None else _guessing_p(_judged(accuracy)),
        loops=only_here >= FEWEST_LOOPS and only_here > sound / 2 if pairs else None,
        guesses=_guesses(_judged(accuracy), _judged(reference_accuracy)) if accuracy and reference_accuracy else None,
    )


def _judged(samples: AccuracySamples) -> TaskSamples:
    return next(iter(samples.tasks.values()))


def _guesses(task: TaskSamples, reference: TaskSamples) -> bool:
    """Whether guessing explains the accuracy, which surely lies below the middle of chance and the reference's."""
    chance, before = task.chance, float(reference.correct.mean())
    theirs, ours = _guessing_p(reference), _guessing_p(task)
    if theirs is None or ours is None:  # nobody guesses what has to be written
        return False
    return theirs < GUESSING_P < ours and _upper(task) < (chance + before) / 2


def _upper(task: TaskSamples) -> float:
    return wilson(int(task.correct.sum()), len(task.ids)).high


def by_prompt(runs: Sequence[Run]) -> dict[int, Run]:
    """One run of every prompt: they are greedy, so all are alike."""
    return {run.prompt: run for run in reversed(runs)}


def _prefix(first: Sequence[int], second: Sequence[int]) -> int:
    """How many tokens two outputs have in common from the start."""
    pairs = list(zip(first, second, strict=False))
    return next((place for place, (a, b) in enumerate(pairs) if a != b), len(pairs))


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _guessing_p(task: TaskSamples) -> float | None:
    """The exact p of so many right answers by guessing; None where there is nothing to guess among."""
    return above_chance_p(int(task.correct.sum()), len(task.ids), task.chance) if task.chance else None
