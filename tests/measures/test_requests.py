"""Continuations scored along shared contexts, against one plain forward pass for each."""

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import CONFIGS, InMemory, slow_answer

from pytest_quantbench.engines.batches import Batch
from pytest_quantbench.engines.mlx.kv_cache import KeysValues
from pytest_quantbench.engines.mlx.walk import Walk
from pytest_quantbench.errors import CorpusError, WeightError
from pytest_quantbench.measures import requests as scoring
from pytest_quantbench.measures.requests import Request, answers, cut, planned


def ids(rng, length):
    return tuple(int(token) for token in rng.integers(0, 2048, length))


def loglikelihoods(walk, requests):
    plan = planned(requests)
    walk.run(plan.batches, "")
    return answers(plan, walk)


def questions(preamble=0, count=6):
    rng = np.random.default_rng(0)
    begin = ids(rng, preamble)
    for _ in range(count):
        context = begin + ids(rng, int(rng.integers(3, 9)))
        yield from (Request(context=context, continuation=ids(rng, int(rng.integers(1, 6)))) for _ in range(3))


@pytest.mark.parametrize("host", [True, False])
@pytest.mark.parametrize("preamble", [0, 40])
@pytest.mark.parametrize("architecture", CONFIGS)
def test_answers_are_those_of_plain_forward_passes(architecture, preamble, host):
    weights, requests = InMemory(architecture), list(questions(preamble))
    answers = loglikelihoods(Walk(weights, host=host), requests)
    for request, answer in zip(requests, answers, strict=True):
        total, greedy = slow_answer(weights.model, request)
        assert answer.loglikelihood == pytest.approx(total, abs=1e-4)
        assert answer.greedy == greedy


def test_a_greedy_continuation_is_known_for_one():
    weights = InMemory("llama")
    context = ids(np.random.default_rng(1), 5)
    following = []
    for _ in range(3):
        following.append(int(mx.argmax(weights.model(mx.array([[*context, *following]]))[0, -1])))
    wrong = [*following[:2], (following[2] + 1) % 2048]
    requests = [Request(context=context, continuation=tuple(each)) for each in (following, wrong, following[:1])]
    assert [a.greedy for a in loglikelihoods(Walk(weights, host=True), requests)] == [True, False, True]


@pytest.mark.parametrize("setting", [("TOKENS_AT_ONCE", 1), ("TOKENS_AT_ONCE", 30), ("LOGITS_AT_ONCE", 1)])
def test_batches_order_and_company_change_nothing(setting, monkeypatch):
    weights, requests = InMemory("llama"), list(questions(40))
    together = loglikelihoods(Walk(weights, host=True), requests)
    monkeypatch.setattr(scoring, *setting)
    order = np.random.default_rng(2).permutation(len(requests))
    apart = loglikelihoods(Walk(weights, host=True), [requests[index] for index in order])
    for place, index in enumerate(order):
        assert apart[place].loglikelihood == pytest.approx(together[index].loglikelihood, abs=1e-4)


def test_every_context_is_run_once_and_a_preamble_once_for_all():
    plan = planned(list(questions(40)))
    tokens = [batch.tokens.shape for batch in plan.batches]
    assert tokens[0] == (1, 40)
    roots = [batch for batch in plan.batches if batch.parent == 0]
    assert sum(batch.tokens.shape[0] for batch in roots) == 6
    assert sum(map(len, plan.scored)) == sum(len(request.continuation) for request in questions(40))


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(1, 6), st.integers(1, 5), st.integers(0, 3)), min_size=1, max_size=20))
def test_every_token_of_every_request_is_scored_once(kinds):
    requests = [
        Request(context=(kind,) * context, continuation=tuple(range(10, 10 + length)))
        for context, length, kind in kinds
    ]
    plan = planned(requests)
    scored = [(index, token) for places in plan.scored for _, _, index, token in places]
    assert sorted(scored) == sorted((i, t) for i, request in enumerate(requests) for t in request.continuation)
    for batch, places in zip(plan.batches, plan.scored, strict=True):
        assert all(row < batch.tokens.shape[0] and place < batch.tokens.shape[1] for row, place, _, _ in places)
        assert batch.parent is None or len(batch.rows) == batch.tokens.shape[0]


def test_a_context_is_cut_from_the_left_and_a_choice_never():
    request = Request(context=tuple(range(10)), continuation=(1, 2, 3))
    assert cut(request, 12) == request
    assert cut(request, 6).context == (6, 7, 8, 9)
    assert len(cut(request, 6).context + request.continuation) - 1 == 6
    with pytest.raises(CorpusError, match="A choice of 3 tokens is longer than the model's 2"):
        cut(request, 2)


def test_keys_and_values_are_let_go_when_the_last_branch_has_seen_them():
    walk = Walk(InMemory("llama"), host=True)
    tokens = np.array([[1, 2, 3], [4, 5, 6]])
    family = [Batch(tokens=tokens), *(Batch(tokens=np.array([[7, 8]]), parent=0, rows=(row,)) for row in (1, 0))]
    walk.run(family, "")
    given = [item for calls in walk._calls[0] for call in calls for item in (*call.args, *call.kwargs.values())]
    held = [item for item in given if isinstance(item, KeysValues)]
    assert len(held) == 3 * len(family)
    assert all(cache.held is None for cache in held)


def test_the_first_layer_that_gives_no_numbers_is_named():
    weights = InMemory("llama")
    name = next(name for name in weights.names if "layers.1.mlp.down_proj" in name)
    weights.parameters[name] = mx.full(weights.parameters[name].shape, mx.nan)
    with pytest.raises(WeightError, match="Decoder layer 1 gives values that are no numbers"):
        Walk(weights, host=True).run([mx.array([[1, 2, 3]])], "")
