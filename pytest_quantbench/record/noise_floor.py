"""How far a rerun moves a cell's mean loss though nothing was changed: the floor beneath which no difference counts.

What a rerun changes though nothing was changed is known of the reference: its noise floor, which is how far it is from
itself between float32 and bfloat16 activations. Of a mean loss it is one draw, which may be small by chance. What such
rounding moves a cell by lies within a bound that holds for all draws: a cell whose predictions are `k` nats from the
reference's, and that is moved by noise of `n` nats, ends up at most n + 2 √(k n) from where it was (for small distances
the divergence is half the square of one in Fisher's metric, whose triangle inequality says so). The larger of the two
is the floor, and never less than what the order of summing changes in the type of the activations.
"""

import math
from collections.abc import Mapping

from pytest_quantbench.record.perplexity_schema import Perplexity
from pytest_quantbench.record.schema import NoiseFloor, Record

ORDER_NATS: Mapping[str, float] = {  # of a mean loss: another order of summing, as another machine has it
    "float32": 1e-5,
    "bfloat16": 1e-3,
}


def larger(*floors: NoiseFloor | None) -> NoiseFloor | None:
    """Of several noise floors the largest figures; None where there is none."""
    there = [floor for floor in floors if floor is not None]
    if not there:
        return None
    names = ("perplexity_points", "kl_nats", "drop_points", "flipped_points")
    values: dict[str, list[float]] = {n: [v for f in there if (v := getattr(f, n)) is not None] for n in names}
    return NoiseFloor(**{name: max(each) if each else None for name, each in values.items()})


def activations_of(record: Record) -> str:
    """In what its walks were computed: float32, where the record does not say."""
    return "float32" if record.machine is None else record.machine.activations


def floor_nats(noise: NoiseFloor | None, kl_nats: float, ppl: float | None, activations: str) -> float:
    """How far a mean loss may move though nothing was changed, in nats per token; `kl_nats` is how far the base's
    predictions are from the reference's, `activations` what they were computed in.
    """
    draw = 0.0 if noise is None or ppl is None else (noise.perplexity_points or 0.0) / ppl
    moved = 0.0 if noise is None else noise.kl_nats or 0.0
    return max(ORDER_NATS[activations], draw, moved + 2 * math.sqrt(max(kl_nats, 0.0) * moved))


def divergence_of(text: Perplexity | None) -> float:
    """How far a cell's predictions on a text are from the reference's, in nats per token; 0 for the reference."""
    return text.divergence.kl_nats if text is not None and text.divergence else 0.0
