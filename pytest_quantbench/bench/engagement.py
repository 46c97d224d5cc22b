"""Whether a quantized cache did anything: figures that are those of the same weights without it are of nothing else.

An engine counts how often it held keys and values by a method; this looks at what came of it, whatever the engine says.
Losses on a text that are the same to the last bit are an error. Answers to questions are not: a method that leaves the
last tokens in 16 bits never touches a short question, and then there is no verdict on it.
"""

from typing import Any

from pytest_quantbench.bench.sample_store import Samples
from pytest_quantbench.bench.target import Target
from pytest_quantbench.catalog.criteria import METRICS, metric_of
from pytest_quantbench.catalog.recipes import Part, Recipe
from pytest_quantbench.errors import ComparisonError
from pytest_quantbench.measures import WalkMeasure
from pytest_quantbench.measures.samples import PerplexitySamples
from pytest_quantbench.quantizers import kv

NOTHING = {
    "size": "a quantized cache leaves the model's files as they are; what the cache takes stands in the record",
    "throughput": "T1 runs with a cache in 16 bits",
}
USUAL_CHANNELS = 64  # of a head, where no walk saw them: ages do not depend on it
UNTOUCHED = "no question is long enough for the cache to hold any of it in fewer bits"


def said_nothing_of(recipe: Recipe, check: str) -> str | None:
    """Why a check says nothing of a recipe that quantizes the cache; None: it does."""
    if recipe.kind in METRICS[metric_of(check)].of:
        return None
    return NOTHING.get(check, "it is asked of recipes that quantize the cache")


def is_untouched(target: Target, measure: WalkMeasure[Any], samples: Samples) -> bool:
    """Whether a target's cache changed nothing of what was measured, beside the same weights without it."""
    if target.recipe.cache is None:
        return False
    found, others = (samples.get(each, measure) for each in (target, without_cache(target)))
    return found is not None and others is not None and measure.is_same(found, others)


def without_cache(target: Target) -> Target:
    """The same weights with a cache in 16 bits."""
    return Target(model=target.model, recipe=target.recipe.of_weights)


def refuse_idle(target: Target, measure: WalkMeasure[Any], samples: Any, other: Target, others: Any) -> None:
    """Raise ComparisonError where a target's losses are those of the `other`, whose cache is in 16 bits."""
    held = target.recipe.cache
    if held is None or not isinstance(samples, PerplexitySamples) or not measure.is_same(samples, others):
        return
    raise ComparisonError(
        f"The cache of {target.id} has never engaged: its losses on {len(samples.nll_nats)} tokens are those of "
        f"{other.id} to the last bit. {_why(held, samples)}"
    )


def _why(held: Part, samples: PerplexitySamples) -> str:
    """The reason, and the way out."""
    channels = samples.cache_shapes[0][1] if samples.cache_shapes else USUAL_CHANNELS
    form = kv.make(held).form(channels)
    ages = [stage.age + stage.chunk for part in (form.keys, form.values) for stage in part if stage.rounding]
    deepest = int(samples.depths.max(initial=0))
    if not ages or deepest >= min(ages) + form.sinks:
        return f"The engine ran the model without the method {held.quantizer}."
    return (
        f"No token looks back on more than {deepest}, and the method {held.quantizer} leaves the last "
        f"{min(ages) - 1 + form.sinks} in 16 bits: give longer windows with --context N."
    )
