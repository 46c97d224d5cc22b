"""The noise floor: how far the reference is from itself under an arithmetic that should not matter.

Its activations are rounded to bfloat16 after every layer, as they are where models are deployed, and it is measured on
the same tokens and questions again; where all is measured with bfloat16 activations, it is in float32. A criterion that
is tighter than what this alone changes judges rounding noise and not the quantizer, and is refused.
"""

import numpy as np

from pytest_quantbench import measures
from pytest_quantbench.bench.schedule import Schedule
from pytest_quantbench.bench.target import Target
from pytest_quantbench.bench.wants import Want
from pytest_quantbench.catalog.criteria import Metric
from pytest_quantbench.errors import ComparisonError
from pytest_quantbench.measures.accuracy.measure import ACCURACY
from pytest_quantbench.measures.perplexity.measure import PERPLEXITY
from pytest_quantbench.measures.samples import AccuracySamples, PerplexitySamples
from pytest_quantbench.record.schema import NoiseFloor
from pytest_quantbench.stats import series
from pytest_quantbench.stats.proportions import flips

FLOORS = {"perplexity": "perplexity_points", "accuracy": "drop_points"}  # by check or measure: the NoiseFloor's figure


def noise_floor(
    plain_losses: PerplexitySamples | None,
    rounded_losses: PerplexitySamples | None,
    plain_answers: AccuracySamples | None,
    rounded_answers: AccuracySamples | None,
) -> NoiseFloor | None:
    """What was measured of it: each figure on the tokens or the questions that the rounded model has; None: nothing."""
    points = kl_nats = drop = flipped = None
    if plain_losses is not None and rounded_losses is not None:
        rounded = rounded_losses.nll_nats
        after, before = map(series.perplexity, (rounded, plain_losses.nll_nats[: len(rounded)]))
        points = None if after is None or before is None else abs(after - before)  # None: a perplexity overflows
        fidelity = rounded_losses.fidelity
        kl_nats = None if fidelity is None else float(fidelity.kl_nats.mean(dtype=np.float64))
    if plain_answers is not None and rounded_answers is not None:
        name, answered = next(iter(rounded_answers.tasks.items()))
        plain = plain_answers.tasks[name].first(len(answered.ids))
        observed = flips(plain.correct, answered.correct)
        drop, flipped = abs(observed.value), 100 * observed.rate
    found = NoiseFloor(perplexity_points=points, kl_nats=kl_nats, drop_points=drop, flipped_points=flipped)
    return None if found == NoiseFloor.nothing() else found


def noise_floor_of(
    target: Target, schedule: Schedule, check: str | None = None, of: str | None = None
) -> NoiseFloor | None:
    """How far a target's reference is from itself, as far as that is measured; by a `check` that has a figure of it,
    it is now. The check's figures are `of` one text or task, all others of the first.
    """
    reference, rounded = target.reference, target.rounded
    if check in FLOORS and (measure := measures.get(check)).needs == "walk":
        schedule.ensure([Want(target=rounded, measure=measure)])
        schedule.samples.need(rounded, measure)
    losses = [schedule.samples.get(each, PERPLEXITY) for each in (reference, rounded)]
    answers = [schedule.samples.get(each, ACCURACY) for each in (reference, rounded)]
    if of is not None:
        losses = [each and each.part(of) for each in losses] if check == PERPLEXITY.name else losses
        answers = [each and each.part(of) for each in answers] if check == ACCURACY.name else answers
    return noise_floor(losses[0], losses[1], answers[0], answers[1])


def of_check(check: str, floor: NoiseFloor | None) -> float | None:
    """The figure for a check's metric; None where the check has none, or it was not measured."""
    found: float | None = None if floor is None or check not in FLOORS else getattr(floor, FLOORS[check])
    return found


def refuse_tighter(metric: Metric, limit: float, floor: NoiseFloor | None, of: str | None = None) -> None:
    """Raise ComparisonError for a limit on perplexity or accuracy that noise alone goes beyond; `of`: the text or task
    where it is not the first.
    """
    points = of_check(metric.measure, floor)
    if points is not None and abs(limit) < points:
        raise ComparisonError(
            f"The criterion {metric.label} < {limit:g} {metric.unit}".rstrip()
            + (f" on {of}" if of else "")
            + f" is tighter than the noise floor: between float32 and bfloat16 activations the reference differs from "
            f"itself by {points:.3g} on these samples. Choose a limit above that in [tool.quantbench.criteria], or "
            f"measure more."
        )
