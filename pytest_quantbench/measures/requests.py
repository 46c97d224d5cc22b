"""Log-likelihoods of continuations: what several of them have in common is computed once.

Contexts of similar length are batched, and so are the choices of a batch of contexts: rows of a branch that goes on
from it (see batches), without their last token, whose successor nobody asks for. A preamble that several contexts
begin with is a batch of its own, and the contexts are branches of that. Norm and output head run at the scored
positions only.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pytest_quantbench.engines.batches import Batch
from pytest_quantbench.engines.logits import LOGITS_AT_ONCE
from pytest_quantbench.engines.protocol import Walk
from pytest_quantbench.engines.walk_proof import Branching
from pytest_quantbench.errors import CorpusError, WeightError

TOKENS_AT_ONCE = 4096
KEYS_AT_ONCE = 2**14  # of a branch, with what it goes on from: a row's keys are copied for each of its choices
LONGER = 1.5  # rows up to so much longer than the shortest are padded to one length
PREAMBLE_TOKENS, PREAMBLE_CONTEXTS = 16, 4  # a shorter beginning, or one of fewer contexts, is not worth a batch
Ids = tuple[int, ...]
Place = tuple[int, int, int, int]  # row and place in a batch, the request that is scored there, the token that follows


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """How likely is the continuation after the context? Token ids; neither may be empty. `preamble`: so many of the
    context's first tokens are known to be shared with other requests, and are computed once; 0: that is found out.
    """

    context: Ids
    continuation: Ids
    preamble: int = 0


class Engaging(Protocol):
    """What a quantized cache may have had a part in."""

    @property
    def engaged(self) -> bool | None:
        """Whether it hangs on a token that the cache held in few bits; None: all are in 16 bits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The sum of log-probabilities in nats, and whether every token of the continuation is the likeliest. `engaged`:
    whether it hangs on a token that the cache held in few bits; None: all are in 16 bits.
    """

    loglikelihood: float
    greedy: bool
    engaged: bool | None = None


@dataclass(slots=True)
class Plan:
    """All batches, and which position of which batch predicts which token of which request."""

    requests: int
    batches: list[Batch] = field(default_factory=list)
    scored: list[list[Place]] = field(default_factory=list)  # of each batch

    def add(self, batch: Batch) -> int:
        self.batches.append(batch)
        self.scored.append([])
        return len(self.batches) - 1


def cut(request: Request, longest: int) -> Request:
    """The request with as much of its context as a model of `longest` tokens takes: cut from the left, as lm-eval does.

    Raises CorpusError where the continuation alone is longer.
    """
    room = longest - len(request.continuation) + 1
    if room < 1:
        raise CorpusError(f"A choice of {len(request.continuation)} tokens is longer than the model's {longest}.")
    return Request(context=request.context[-room:], continuation=request.continuation)


def answers(plan: Plan, walk: Walk, *, track: int = 0, first: int = 0) -> list[Answer]:
    """The answers in the requests' order, from a walk whose batches from `first` on are the plan's.

    Raises WeightError where a logit is not a number.
    """
    sums, greedy = np.zeros(plan.requests), np.ones(plan.requests, bool)
    held: list[bool | None] = [None] * plan.requests
    for number, scored in enumerate(plan.scored, first):
        seen = walk.engaged(number, track)
        for row, place, index, _ in scored:
            if seen is not None:
                held[index] = bool(held[index]) or bool(seen[row, place])
        for part in _parts(scored, walk.vocabulary):
            rows, places, asked, tokens = (np.array(column) for column in zip(*part, strict=True))
            logits = walk.logits_at(number, rows, places, track)
            np.subtract.at(sums, asked, logits.nll(tokens))
            np.logical_and.at(greedy, asked, logits.likeliest() == tokens)
    if not np.isfinite(sums).all():
        raise WeightError("The output head gives logits that are no numbers: not a usable model.")
    return [
        Answer(loglikelihood=float(total), greedy=bool(flag), engaged=each)
        for total, flag, each in zip(sums, greedy, held, strict=True)
    ]


def engaged(questions: Sequence[Sequence[Engaging]]) -> NDArray[np.bool_]:
    """(questions,): whether any answer to each hangs on a token in few bits; (0,) where the cache is in 16 bits."""
    known = [[each.engaged for each in found if each.engaged is not None] for found in questions]
    return np.array([any(each) for each in known] if any(known) else [], np.bool_)


def _parts(scored: Sequence[Place], vocabulary: int) -> Iterator[Sequence[Place]]:
    together = max(1, LOGITS_AT_ONCE // vocabulary)
    for start in range(0, len(scored), together):
        yield scored[start : start + together]


def planned(requests: Sequence[Request], branching: Branching = "any") -> Plan:
    """The batches that a walk goes through, and where each request is answered. `branching`: what the model's
    architecture takes (see walk_proof): branches of contexts of any lengths, of contexts of one length, or none, which
    computes a context again for each of its choices.
    """
    if branching == "none":
        return _planned_whole(requests)
    longer = LONGER if branching == "any" else 1.0
    plan, asked = (
        Plan(requests=len(requests)),
        defaultdict[Ids, list[int]](list),
    )  # by context: the requests that have it
    for index, request in enumerate(requests):
        asked[request.context].append(index)
    known = {request.context: request.preamble for request in requests}
    for preamble, contexts in _by_preamble(known):
        root = plan.add(Batch(tokens=np.array([preamble], np.int32))) if preamble else None
        own = [context[len(preamble) :] for context in contexts]
        for together in _of_similar_length(own, len(preamble), longer):
            tokens, lengths = _padded([own[place] for place in together])
            rows = (0,) * len(together) if preamble else ()
            number = plan.add(Batch(tokens=tokens, lengths=lengths, parent=root, rows=rows))
            _plan_choices(plan, number, [asked[contexts[place]] for place in together], requests, len(preamble))
    return plan


def _planned_whole(requests: Sequence[Request]) -> Plan:
    """Every request is a row of its own, from its first token to the last but one."""
    plan, asked = Plan(requests=len(requests)), defaultdict[Ids, list[int]](list)
    for index, request in enumerate(requests):
        asked[request.context + request.continuation[:-1]].append(index)
    rows = list(asked)
    for together in _of_similar_length(rows, 0):
        tokens, lengths = _padded([rows[place] for place in together])
        number = plan.add(Batch(tokens=tokens, lengths=lengths))
        for row, place in enumerate(together):
            for index in asked[rows[place]]:
                first, following = len(requests[index].context) - 1, requests[index].continuation
                plan.scored[number] += [(row, at, index, token) for at, token in enumerate(following, first)]
    return plan


def _by_preamble(known: Mapping[Ids, int]) -> Iterator[tuple[Ids, list[Ids]]]:
    """Contexts that begin alike, with their common beginning; contexts that share none come last, together. `known`:
    of each context, how many tokens its requests say that it shares.
    """
    told, alike = defaultdict[Ids, list[Ids]](list), defaultdict[Ids, list[Ids]](list)
    for context, shared in known.items():
        if shared:
            told[context[:shared]].append(context)
        else:
            alike[context[:PREAMBLE_TOKENS]].append(context)
    yield from told.items()
    alone: list[Ids] = []
    for group in alike.values():
        first, last = min(group), max(group)  # what the smallest and the largest share, all share
        shortest = min(map(len, group)) - 1  # every context keeps a token of its own
        common = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), shortest)
        common = min(common, shortest)
        if common >= PREAMBLE_TOKENS and len(group) >= PREAMBLE_CONTEXTS:
            yield first[:common], group
        else:
            alone += group
    if alone:
        yield (), alone


def _plan_choices(
    plan: Plan, number: int, asked: Sequence[Sequence[int]], requests: Sequence[Request], preamble: int
) -> None:
    """The first tokens of all choices are scored at their context's end, the others in branches."""
    contexts = plan.batches[number]
    going_on: list[tuple[int, int]] = []  # (row of the context, request)
    for row, indices in enumerate(asked):
        for index in indices:
            plan.scored[number].append((row, contexts.lengths[row] - 1, index, requests[index].continuation[0]))
            if len(requests[index].continuation) > 1:
                going_on.append((row, index))
    inputs = [requests[index].continuation[:-1] for _, index in going_on]
    for together in _of_similar_length(inputs, preamble + contexts.tokens.shape[1]):
        tokens, lengths = _padded([inputs[place] for place in together])
        rows = tuple(going_on[place][0] for place in together)
        branch = plan.add(Batch(tokens=tokens, lengths=lengths, parent=number, rows=rows))
        for row, place in enumerate(together):
            index = going_on[place][1]
            following = requests[index].continuation[1:]
            plan.scored[branch] += [(row, place, index, token) for place, token in enumerate(following)]


def _padded(rows: Sequence[Ids]) -> tuple[NDArray[np.int32], tuple[int, ...]]:
    """(rows, longest) token ids, zeros behind the shorter ones, and every row's length."""
    lengths = tuple(map(len, rows))
    return np.array([[*ids, *(0,) * (max(lengths) - len(ids))] for ids in rows], np.int32), lengths


def _of_similar_length(sequences: Sequence[Ids], before: int, longer: float = LONGER) -> Iterator[list[int]]:
    """Places of neighbours by length, the longest up to so much `longer` (1: of one length) than the shortest.
    `before` tokens are what each goes on from.
    """
    slack = 2 if longer > 1 else 0
    together: list[int] = []
    for place in sorted(range(len(sequences)), key=lambda place: len(sequences[place])):
        length = len(sequences[place])
        if together:
            rows, shortest = len(together) + 1, len(sequences[together[0]])
            full = rows * length > TOKENS_AT_ONCE or (before > 0 and rows * (before + length) > KEYS_AT_ONCE)
            if full or length > max(longer * shortest, shortest + slack):
                yield together
                together = []
        together.append(place)
    if together:
        yield together
