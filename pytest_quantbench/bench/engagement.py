"""Whether a quantized cache did anything: figures that are those of the same weights without it are of nothing else.

An engine counts which queries have seen a token in few bits, and samples tell it of every token and every question: a
text without any is an error, whatever its losses. So are losses that are the same to the last bit, whatever the engine
counted. Answers to questions are no error: a method that leaves the last tokens in 16 bits never touches a short
question, and where it touches next to none of them there is no verdict.
"""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_quantbench.bench.sample_store import Samples
from pytest_quantbench.bench.target import Target
from pytest_quantbench.catalog.criteria import METRICS, metric_of
from pytest_quantbench.catalog.recipes import Part, Recipe
from pytest_quantbench.errors import ComparisonError
from pytest_quantbench.judge.verdict import Verdict
from pytest_quantbench.measures import WalkMeasure
from pytest_quantbench.measures.perplexity.measure import PERPLEXITY
from pytest_quantbench.measures.retrieval.samples import RetrievalSamples
from pytest_quantbench.measures.samples import AccuracySamples, PerplexitySamples
from pytest_quantbench.quantizers import kv

NOTHING = {
    "size": "a quantized cache leaves the model's files as they are; what the cache takes stands in the record",
    "throughput": "T1 runs with a cache in 16 bits",
}
UNKNOWN = "the engine does not tell whether the cache held any of it in fewer bits"
USUAL_CHANNELS = 64  # of a head, where no walk saw them: ages do not depend on it
LEAST = 0.1  # of tokens or questions: what is measured of fewer says nothing of a cache
UNTOUCHED = f"fewer than {LEAST:.0%} of what was asked is long enough for the cache to hold any of it in fewer bits"


def said_nothing_of(recipe: Recipe, check: str) -> str | None:
    """Why a check says nothing of a recipe that quantizes the cache; None: it does."""
    if recipe.kind in METRICS[metric_of(check)].of:
        return None
    return NOTHING.get(check, "it is asked of recipes that quantize the cache")


def engaged_in(samples: Any, of: str | None = None) -> NDArray[np.bool_]:
    """(items,): which tokens of a text, or which questions of a task (None: of the first) or of all strata, hang on a
    token that the cache held in few bits; (0,) where that is not known.
    """
    if isinstance(samples, AccuracySamples):
        return samples.tasks[of or next(iter(samples.tasks))].engaged
    if isinstance(samples, RetrievalSamples):
        return np.concatenate([each.engaged for each in samples.strata.values()])
    return samples.part(of).engaged if isinstance(samples, PerplexitySamples) else np.zeros(0, np.bool_)


def untouched(target: Target, measure: WalkMeasure[Any], samples: Samples, of: str | None = None) -> str:
    """Why nothing can be said of a target's cache: it held next to nothing of a text or task in few bits. Empty where
    it did. That answers are the same is no reason: a good cache changes none.
    """
    if target.recipe.cache is None or (found := samples.get(target, measure)) is None:
        return ""
    known = engaged_in(found, of)
    if not len(known):
        return UNKNOWN
    return "" if known.mean() >= LEAST else UNTOUCHED


def told(verdict: Verdict, target: Target, measure: WalkMeasure[Any], samples: Samples, of: str | None) -> Verdict:
    """A verdict with how many of the tokens or questions saw anything that the cache held in few bits, if not all."""
    if target.recipe.cache is None or (known := engaged_in(samples.need(target, measure), of)).all():
        return verdict
    what = "tokens" if measure.name == PERPLEXITY.name else "questions"
    few = f"The cache held something in fewer bits for {int(known.sum())} of the {len(known)} {what}."
    return replace(verdict, sentence=f"{verdict.sentence} {few}")


def refuse_unreached(target: Target, samples: Any) -> None:
    """Raise ComparisonError where no token of a text was ever seen in few bits, whatever the losses are."""
    held = target.recipe.cache
    if held is None or not isinstance(samples, PerplexitySamples):
        return
    if len(samples.engaged) and not samples.engaged.any():
        raise ComparisonError(
            f"The cache of {target.id} has never engaged: none of the {len(samples.nll_nats)} tokens that were scored "
            f"hangs on one that it held in fewer bits. {_why(held, samples)}"
        )


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
    windows = [window for *_, window in samples.cache_shapes]
    newest = min((stage.age for part in (form.keys, form.values) for stage in part if stage.rounding), default=0)
    if windows and min(windows) > 0 and max(windows) <= newest:
        return (
            f"No layer of the model keeps more than {max(windows)} tokens, and the method {held.quantizer} leaves the "
            f"last {newest} in 16 bits."
        )
    if not ages or deepest >= min(ages) + form.sinks:
        return f"The engine ran the model without the method {held.quantizer}."
    return (
        f"No token looks back on more than {deepest}, and the method {held.quantizer} leaves the last "
        f"{min(ages) - 1 + form.sinks} in 16 bits: give longer windows with --context N."
    )
