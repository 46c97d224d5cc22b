"""Retrieval as a measure: its items are questions of each stratum of depth and hops, answered along a walk."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from pytest_quantbench.catalog.corpora import CONTEXT_TOKENS
from pytest_quantbench.checkpoints.tokenizer import frame_of, refuse_unknown_tokens
from pytest_quantbench.errors import CorpusError
from pytest_quantbench.measures.protocol import Inputs, Share, WalkMeasure
from pytest_quantbench.measures.requests import Answer, Plan, Request, answers, engaged, planned
from pytest_quantbench.measures.retrieval.haystack import CHAINS, Context, Haystack, Question
from pytest_quantbench.measures.retrieval.samples import RetrievalSamples, Stratum
from pytest_quantbench.measures.samples import TaskSamples
from pytest_quantbench.storage.sealed_json import json_sha256

if TYPE_CHECKING:
    from pytest_quantbench.engines.batches import Batch
    from pytest_quantbench.engines.protocol import Walk
    from pytest_quantbench.engines.walk_proof import Branching, Proof

Asked = tuple[str, Question]  # with the number of its context


class RetrievalShare(Share[RetrievalSamples]):
    """Some contexts by number, and all that is asked behind them."""

    def __init__(self, contexts: Mapping[int, Context], strata: Sequence[Stratum], tokens: int, version: int) -> None:
        self.contexts, self._strata = contexts, strata
        self._tokens, self._version = tokens, version
        self._plans: dict[Branching, Plan] = {}

    @cached_property
    def work(self) -> Mapping[str, Any]:
        """All that is told and asked."""
        content = [
            [number, each.ids, [[q.stratum.name, q.ids, q.choices, q.gold] for q in each.questions]]
            for number, each in self.contexts.items()
        ]
        return {"version": self._version, "asked": json_sha256(content)}

    def _requests(self) -> list[Request]:
        """One for each choice of each question."""
        return [
            Request(context=each.ids + asked.ids, continuation=choice, preamble=len(each.ids))
            for each in self.contexts.values()
            for asked in each.questions
            for choice in asked.choices
        ]

    def plan(self, proof: Proof) -> Plan:
        """How a walk of a model of this architecture answers them. Raises ModelError where none can."""
        branching = proof.for_choices()
        if branching not in self._plans:
            self._plans[branching] = planned(self._requests(), branching)
        return self._plans[branching]

    def batches(self, proof: Proof) -> Sequence[Batch]:
        """Each context once, its questions and their choices as branches of it."""
        return self.plan(proof).batches

    def scored(
        self,
        walk: Walk,
        *,
        track: int,
        first: int,
        seconds: float,
        before: RetrievalSamples | None,
        reference: RetrievalSamples | None,
    ) -> RetrievalSamples:
        """The choices that one track finds likeliest, behind those of before."""
        began = time.perf_counter()
        found = iter(answers(self.plan(walk.proof), walk, track=track, first=first))
        asked = [(str(number), q) for number, each in self.contexts.items() for q in each.questions]
        rows = [(number, q, [next(found) for _ in q.choices]) for number, q in asked]
        samples = RetrievalSamples(
            strata={each.name: _stratum([row for row in rows if row[1].stratum == each]) for each in self._strata},
            depths={
                each.name: np.array([q.depth for _, q in asked if q.stratum == each], np.int64) for each in self._strata
            },
            context_tokens=self._tokens,
            weights_sha256=walk.weights_sha256(track),
            seconds=seconds + time.perf_counter() - began,
        )
        return samples if before is None else before.joined(samples)


def _stratum(rows: Sequence[tuple[str, Question, Sequence[Answer]]]) -> TaskSamples:
    """Questions with the answers to their choices, as T3 has those of a task."""
    plain = [[each.loglikelihood for each in found] for _, _, found in rows]
    per_token = [
        [value / len(choice) for value, choice in zip(values, q.choices, strict=True)]
        for values, (_, q, _) in zip(plain, rows, strict=True)
    ]
    return TaskSamples(
        ids=tuple(number for number, _, _ in rows),
        hashes=tuple(json_sha256([number, q.text, q.options, q.ids, q.choices, q.depth]) for number, q, _ in rows),
        correct=_right(per_token, rows),
        correct_raw=_right(plain, rows),
        loglikelihoods=tuple(map(tuple, plain)),
        texts=("",) * len(rows),
        gold=tuple(q.gold for _, q, _ in rows),
        choices=CHAINS,
        version=str(RETRIEVAL.version),
        questions=tuple(q.text for _, q, _ in rows),
        engaged=engaged([found for _, _, found in rows]),
        options=tuple(q.options for _, q, _ in rows),
    )


def _right(values: Sequence[Sequence[float]], rows: Sequence[tuple[str, Question, Any]]) -> Any:
    """(questions,) bool: whether the right choice has the highest value; the first of several that have."""
    return np.array([int(np.argmax(each)) == q.gold for each, (_, q, _) in zip(values, rows, strict=True)], np.bool_)


class Retrieval(WalkMeasure[RetrievalSamples]):
    """Needles and hop chains. Its marker is its label."""

    name, label, version = "retrieval", "retrieval", 2
    samples = RetrievalSamples

    def share(
        self, inputs: Inputs, items: int | None, before: RetrievalSamples | None, of: str | None = None
    ) -> Share[RetrievalSamples] | None:
        """`--retrieval-questions` of each stratum, and so as many contexts; later, more of them."""
        start = 0 if before is None else before.questions
        stop = inputs.settings.retrieval_questions if before is None or items is None else items
        if start >= stop:
            return None
        return inputs.once(("retrieval", start, stop), lambda: self._share(inputs, start, stop))

    def is_same(self, samples: RetrievalSamples, other: RetrievalSamples) -> bool:
        """Whether all log-likelihoods are, on the questions that both have."""
        common = min(samples.questions, other.questions)
        return common > 0 and all(
            each.loglikelihoods[:common] == other.strata[name].loglikelihoods[:common]
            for name, each in samples.strata.items()
        )

    def _share(self, inputs: Inputs, start: int, stop: int) -> RetrievalShare:
        haystack = inputs.once("haystack", lambda: haystack_of(inputs))
        contexts = {number: haystack.context(number) for number in range(start, stop)}
        known = inputs.capacity.vocabulary
        for each in contexts.values():
            refuse_unknown_tokens(each.ids, known)
            refuse_unknown_tokens(
                (token for q in each.questions for ids in (q.ids, *q.choices) for token in ids), known
            )
        return RetrievalShare(contexts, haystack.strata, haystack.tokens, self.version)


def haystack_of(inputs: Inputs) -> Haystack:
    """Contexts of the length that is asked for, else of 2,048 tokens or as many as the model takes. Raises CorpusError
    for more than it takes.
    """
    asked, longest = inputs.settings.retrieval_context, inputs.capacity.longest_input(CONTEXT_TOKENS)
    if asked is not None and inputs.capacity.positions is not None and asked > longest:
        raise CorpusError(
            f"--retrieval-context {asked} is longer than the {longest:,} tokens that {inputs.model.name} takes: choose "
            f"at most so many."
        )
    start = frame_of(inputs.tokenizer).start(inputs.tokenizer)
    tokens = asked or min(longest, CONTEXT_TOKENS)
    return Haystack(inputs.tokenizer, start=start, tokens=tokens, seed=inputs.settings.seed)


RETRIEVAL = Retrieval()
