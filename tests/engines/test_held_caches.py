"""In which form a query sees a token, by the positions of both, and what is rounded together."""

import numpy as np
import pytest

from pytest_quantbench.engines.batches import Batch, Places
from pytest_quantbench.engines.held_caches import (
    HeldCache,
    alike,
    alike_rows,
    given_back,
    held_caches,
    is_at_once,
    spans,
    weights_of,
)
from pytest_quantbench.engines.weights import Cached, Rounded
from pytest_quantbench.errors import ModelError
from pytest_quantbench.quantizers import kv
from pytest_quantbench.quantizers.kv.protocol import FULL, CacheForm, Stage


class Summed:
    """Gives every token of a group the group's sum."""

    looks = False

    def __init__(self, token_group):
        self.token_group = token_group

    def rounded(self, numbers, queries=None, keys=None):
        parts = np.arange(0, numbers.shape[1], self.token_group)
        sums = np.add.reduceat(numbers, parts, axis=1)
        return np.repeat(sums, self.token_group, axis=1)[:, : numbers.shape[1]]

    def stored_bits(self, tokens, channels):
        return 0.0


class Looks(Summed):
    """Gives back the sums of what it looks at."""

    looks = True

    def rounded(self, numbers, queries=None, keys=None):
        of_heads = queries.reshape(len(keys), -1, *queries.shape[1:]).sum(1)
        return of_heads.sum(2, keepdims=True) + keys.sum(2, keepdims=True) + 0 * numbers


LATE = Stage(rounding=Summed(2), age=3, chunk=2)
FORM = CacheForm(keys=(FULL, LATE), values=(Stage(rounding=Summed(1)),), sinks=1)


def _seen(form, part, queries, tokens):
    """By token and query, one after the other: the stage that the spans give."""
    table = np.full((len(queries), len(tokens)), -9)
    for span in spans(form, part, queries, tokens):
        for query in range(len(queries)):
            for token in range(span.first, span.last):
                if tokens[token] <= queries[query] and (span.seen is None or span.seen[query, token - span.first]):
                    assert table[query, token] == -9  # in one span only
                    table[query, token] = span.stage
    return table


@pytest.mark.parametrize("part", ["keys", "values"])
def test_every_token_up_to_the_query_is_in_one_span_in_the_stage_that_the_form_says(part):
    queries = np.arange(4, 9)
    tokens = np.array([0, 1, 2, 3, 4, 2**30, 5, 6, 7, 8])
    found = _seen(FORM, part, queries, tokens)
    for place, query in enumerate(queries):
        alone = FORM.reached(part, np.array([query]), tokens)[0]
        expected = np.where(tokens <= query, alone, -9)
        assert found[place].tolist() == expected.tolist()


def test_a_token_enters_a_later_stage_a_chunk_at_a_time():
    """With tokens 0 … 5 stored, three of them are of age 3, and so one chunk of two has gone on; token 0 is a sink."""
    (first,) = (span for span in spans(FORM, "keys", np.array([5]), np.arange(6)) if span.stage == 1)
    assert (first.first, first.last, first.seen) == (1, 2, None)


def _form(rounding):
    return CacheForm(keys=(Stage(rounding=rounding, chunk=rounding.token_group),), values=())


def test_tokens_of_a_row_are_rounded_in_their_order_without_what_pads_it():
    parent = Batch(tokens=np.zeros((2, 3), int), lengths=(3, 2))
    branch = Batch(tokens=np.zeros((2, 2), int), parent=0, rows=(0, 1), lengths=(2, 1))
    positions = Places.of([parent, branch])[1].keys
    numbers = np.arange(10, dtype=np.float32).reshape(2, 1, 5, 1)
    found = given_back(_form(Summed(2)), "keys", 0, numbers, positions)
    assert found[0, 0, :, 0].tolist() == [1, 1, 5, 5, 4]
    assert found[1, 0, :, 0].tolist() == [11, 11, 7, 8, 9]  # tokens 5, 6 and 8 are the row's; 7 and 9 pad it


def test_queries_and_keys_of_the_same_tokens_are_handed_on():
    positions = np.array([[0, 2**30, 1], [0, 1, 2]])
    queries = np.arange(24, dtype=np.float32).reshape(2, 2, 3, 2)
    keys = 100 * np.arange(6, dtype=np.float32).reshape(2, 1, 3, 1)
    found = given_back(_form(Looks(1)), "keys", 0, np.full((2, 1, 3, 1), 0.5, np.float32), positions, queries, keys)
    expected = queries.sum((1, 3)) + keys[:, 0, :, 0]
    assert found[0, 0, :, 0].tolist() == [expected[0, 0], 0.5, expected[0, 2]]
    assert found[1, 0, :, 0].tolist() == expected[1].tolist()


def test_rows_are_taken_together_where_they_stand_alike():
    positions = np.array([[0, 1, 2], [0, 2**30, 1], [0, 1, 2], [3, 4, 5]])
    found = [(rows.tolist(), places.tolist()) for rows, places in alike_rows(positions)]
    assert found == [([0, 2], [0, 1, 2]), ([1], [0, 2**30, 1]), ([3], [3, 4, 5])]
    assert [(rows.tolist(), there.tolist()) for rows, there in alike(positions)] == [
        ([1], [0, 2]),
        ([0, 2, 3], [0, 1, 2]),
    ]


@pytest.mark.parametrize(
    ("stages", "expected"),
    [
        ((), True),
        ((Stage(rounding=Summed(1)),), True),
        ((Stage(rounding=Looks(1)),), False),
        ((Stage(rounding=Summed(1), age=1),), False),
        ((Stage(rounding=Summed(1), chunk=2),), False),
        ((FULL, Stage(rounding=Summed(1), age=4)), False),
    ],
)
def test_what_is_held_in_one_form_whoever_looks(stages, expected):
    assert is_at_once(CacheForm(keys=stages, values=()), "keys") is expected


def test_what_a_track_reads_and_how_its_cache_is_held():
    method = kv.get("affine")()
    plain, rounding, cached = object(), Rounded(object()), Cached(object(), method)
    assert [weights_of(each) for each in (plain, rounding, cached)] == [plain, rounding.weights, cached.weights]
    held = held_caches([plain, rounding, cached])
    assert held[:2] == [None, None]
    assert held[2].method is method
    assert held[2].form(64) is held[2].form(64)


def test_a_method_that_has_never_engaged_is_refused():
    held = HeldCache(kv.get("affine")())
    with pytest.raises(ModelError, match="affine of the key-value cache has never engaged: no layer of 'mamba'"):
        held.refuse_unused("mamba")
    held.engaged += 1
    held.refuse_unused("mamba")
