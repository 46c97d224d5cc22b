"""Speed ratios of timed runs, as estimates. Definitions: docs/method.md.

A run is a prompt and a rate, in the order of time. A ratio is the mean over prompts of the difference of mean log
rates. Errors of several kinds are made of the same runs and the widest one holds, whatever error probability is asked
for: over prompts, as far as prompts disagree, for other prompts like these; and over rounds, as far as what else the
machine does lasts (see `rounds`).
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pytest_quantbench.stats.estimates import NO_SPREAD, Ratio, Student
from pytest_quantbench.stats.rounds import Widest, mean_of_rounds, wider

Runs = Sequence[tuple[int, float]]  # (prompt, rate), in the order of time


def paired_ratio(reference: Runs, quantized: Runs) -> Ratio | None:
    """Of runs that stood beside each other, prompt by prompt: what slowed both of a pair cancels. None with fewer than
    two pairs, or if all differ by the same factor.
    """
    pairs = list(zip(reference, quantized, strict=False))
    logarithms = [math.log(mine / other) for (_, other), (_, mine) in pairs]
    return _ratio(_over_prompts(reference, quantized), mean_of_rounds(logarithms))


def unpaired_ratio(reference: Runs, quantized: Runs, drift: float = 0.0) -> Ratio | None:
    """Of runs of different times, on the prompts that both have. `drift`: how much faster the machine itself was beside
    the one, as a share, which the error contains. None with fewer than two common prompts, or without any spread.
    """
    found = _over_prompts(reference, quantized)
    if found is None:
        return None
    common = {prompt for prompt, _ in reference} & {prompt for prompt, _ in quantized}
    sides = [_rounds_of(runs, common) for runs in (reference, quantized)]
    known = [side for side in sides if side is not None]
    rounds = None if not known else known[0] if len(known) == 1 else known[1].less(known[0])
    in_order = mean_of_rounds(_differences(reference, quantized)) if len(known) < len(sides) else None
    widest = wider(found, rounds, in_order)
    assert widest is not None
    return Ratio(logarithm=widest.shaken(math.log1p(drift)))


def _ratio(*found: Student | Widest | None) -> Ratio | None:
    """With all of these errors, of figures that are the same but for prompts that were run more often."""
    widest = wider(*found)
    if widest is None or max(error for error, _ in widest.errors) <= NO_SPREAD:
        return None
    return Ratio(logarithm=widest)


def _over_prompts(reference: Runs, quantized: Runs) -> Student | None:
    """Prompts − 1 degrees of freedom. None with fewer than two common prompts, or if all differ by the same factor."""
    differences = _differences(reference, quantized)
    if len(differences) < 2:
        return None
    error = float(differences.std(ddof=1)) / math.sqrt(len(differences))
    if error <= NO_SPREAD:
        return None
    return Student(value=float(differences.mean()), standard_error=error, degrees=len(differences) - 1)


def _by_prompt(runs: Runs) -> dict[int, float]:
    """The mean log rate of each."""
    return {
        prompt: float(np.mean([math.log(rate) for each, rate in runs if each == prompt]))
        for prompt in dict.fromkeys(each for each, _ in runs)
    }


def _differences(reference: Runs, quantized: Runs) -> NDArray[np.float64]:
    """(prompts,) of the mean log rates of every prompt that both have, in the order in which it was run first."""
    before, after = _by_prompt(reference), _by_prompt(quantized)
    return np.array([after[prompt] - before[prompt] for prompt in after if prompt in before], np.float64)


def _rounds_of(runs: Runs, common: set[int]) -> Widest | None:
    """The mean of log rates without what is the prompt's own, in the order of time. None where every prompt was run
    once: then nothing is left, and only the differences from the other side's, in that order, tell what lasts.
    """
    means = _by_prompt(runs)
    left = [math.log(rate) - means[prompt] for prompt, rate in runs if prompt in common]
    return mean_of_rounds(left, beside=len(common) - 1)
