"""T3: the log-likelihood of every choice of every question, from the layer walk, in float32.

lm-eval asks and judges (see questions); what contexts and choices share is computed once (see scoring).
"""

import time
from dataclasses import replace

from pytest_quantbench.artifacts import Artifact
from pytest_quantbench.questions import Questions
from pytest_quantbench.samples import AccuracySamples
from pytest_quantbench.scoring import answers
from pytest_quantbench.stream import Walk


def measure(artifact: Artifact, questions: Questions, *, host: bool) -> AccuracySamples:
    """One artifact's answers, on a walk of its own. Raises WeightError where a logit is not a number."""
    began = time.perf_counter()
    walk = Walk(artifact, host=host)
    walk.run(questions.plan.batches, f"T3 {artifact.manifest.recipe}")
    return replace(answer(questions, walk), seconds=time.perf_counter() - began)


def answer(questions: Questions, walk: Walk, *, track: int = 0, first: int = 0) -> AccuracySamples:
    """The answers of one track of a walk, whose batches from `first` on are the questions'."""
    return AccuracySamples(
        tasks=questions.judged(answers(questions.plan, walk, track=track, first=first)),
        available=questions.available,
        cut_contexts=questions.cut_contexts,
        weights_sha256=walk.weights_sha256(track),
        seconds=0.0,
    )
