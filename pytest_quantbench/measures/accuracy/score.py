"""T3: which questions a model answers rightly; the log-likelihood of every choice, or what it writes, beside it.

lm-eval asks and judges (see task_set). Log-likelihoods come from the layer walk, in float32, and what contexts and
choices share is computed once (see requests); answers are written by the model in memory (see generation).
"""

import time
from dataclasses import replace

from pytest_quantbench.compress.artifact import Artifact
from pytest_quantbench.engines.protocol import Engine, Walk
from pytest_quantbench.measures.accuracy.task_set import TaskSet
from pytest_quantbench.measures.requests import answers
from pytest_quantbench.measures.samples import AccuracySamples
from pytest_quantbench.quantizers.kv import KVQuantizer


def chosen(asked: TaskSet, walk: Walk, *, track: int = 0, first: int = 0) -> AccuracySamples:
    """The answers of one track of a walk, whose batches from `first` on are the choices'.

    Raises WeightError where a logit is not a number.
    """
    plan, began = asked.choices.plan(walk.proof), time.perf_counter()
    return AccuracySamples(
        tasks=asked.choices.judged(answers(plan, walk, track=track, first=first)) if plan.batches else {},
        available=asked.available,
        cut_contexts=asked.cut_contexts,
        weights_sha256=walk.weights_sha256(track),
        seconds=time.perf_counter() - began,
    )


def written(
    engine: Engine,
    asked: TaskSet,
    artifact: Artifact,
    samples: AccuracySamples,
    *,
    rounding: bool = False,
    cache: KVQuantizer | None = None,
) -> AccuracySamples:
    """With what the artifact's model writes; its tasks in the order in which they were asked for. `rounding`: it writes
    with activations in bfloat16; `cache`: with keys and values held so.
    """
    began = time.perf_counter()
    texts = asked.writing.answer(engine, artifact, rounding=rounding, cache=cache) if asked.writing.prompts else {}
    found = {**samples.tasks, **texts}
    tasks = {name: found[name] for name in asked.available}
    return replace(samples, tasks=tasks, seconds=samples.seconds + time.perf_counter() - began)
