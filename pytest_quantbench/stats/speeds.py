"""Speed ratios of timed runs, as estimates. Definitions: docs/method.md.

A run is a prompt and a rate, in the order of time. A ratio is the mean over prompts of the difference of mean log
rates. Two errors are made of the same runs and the wider one holds: over prompts, as far as prompts disagree, for other
prompts like these; and over rounds, as far as what else the machine does lasts (see `rounds`).
"""

import math
from collections.abc import Sequence

import numpy as np

from pytest_quantbench.stats.estimates import NO_SPREAD, Ratio, Student
from pytest_quantbench.stats.rounds import mean_of_rounds, wider

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
    sides = [mean_of_rounds(_beyond_prompts(runs, common)) for runs in (reference, quantized)]
    known = [side for side in sides if side is not None]
    rounds = None
    if known:
        error = math.hypot(*(side.standard_error for side in known))
        rounds = Student(value=found.value, standard_error=error, degrees=min(side.degrees for side in known))
    widest = wider(found, rounds)
    assert widest is not None
    moved = math.hypot(widest.standard_error, math.log1p(drift))
    return _ratio(Student(value=found.value, standard_error=moved, degrees=widest.degrees))


def _ratio(*found: Student | None) -> Ratio | None:
    """By the error that is the widest, of figures that are the same but for prompts that were run more often."""
    widest = wider(*found)
    if widest is None or widest.standard_error <= NO_SPREAD:
        return None
    value = next(each.value for each in found if each is not None)
    return Ratio(logarithm=Student(value=value, standard_error=widest.standard_error, degrees=widest.degrees))


def _over_prompts(reference: Runs, quantized: Runs) -> Student | None:
    """Prompts − 1 degrees of freedom. None with fewer than two common prompts, or if all differ by the same factor."""
    logs = [_by_prompt(runs) for runs in (reference, quantized)]
    differences = np.array([logs[1][prompt] - logs[0][prompt] for prompt in sorted(logs[0].keys() & logs[1].keys())])
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


def _beyond_prompts(runs: Runs, common: set[int]) -> list[float]:
    """Log rates without what is the prompt's own, in the order of time."""
    means = _by_prompt(runs)
    return [math.log(rate) - means[prompt] for prompt, rate in runs if prompt in common]
