"""In which form a query sees a token, by the positions of both, and what is rounded together."""

import numpy as np
import pytest

from pytest_quantbench.engines.batches import Batch, Places
from pytest_quantbench.engines.held_caches import (
    HeldCache,
    HoldsCaches,
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
LATER = {"values": (Stage(rounding=None), Stage(rounding=Summed(1), age=4)), "sinks": 1}
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
    held.saw(0, (2, 64, 64, 0), np.arange(3)[None])
    held.refuse_unused("mamba")


@pytest.mark.parametrize("part", ["keys", "values"])
@pytest.mark.parametrize("window", [None, 1, 3, 4, 20])
def test_tokens_in_few_bits_are_those_in_a_stage_that_rounds_and_in_the_window(part, window):
    form = CacheForm(keys=(FULL, Stage(rounding=Summed(1), age=2), LATE, Stage(rounding=None, age=7)), **LATER)
    queries = np.arange(12)
    rounds = np.array([stage.rounding is not None for stage in form.stages(part)] + [False])
    seen = rounds[form.reached(part, queries, queries)] & (queries[None] <= queries[:, None])
    if window is not None:
        seen &= queries[None] > queries[:, None] - window
    assert form.in_few_bits(part, queries, window).tolist() == seen.sum(1).tolist()
    assert seen.any() == (window is None or window > {"keys": 2, "values": 4}[part])


class Aged:
    """Holds tokens in few bits from an age on."""

    name, version = "aged", 1

    def __init__(self, age):
        self._form = CacheForm(keys=(FULL, Stage(rounding=Summed(1), age=age)), values=())

    def form(self, channels):
        return self._form


class Seen(HoldsCaches):
    """What a walk of these batches tells."""

    def __init__(self, age, batches, windows=(0,)):
        self.batches, self._held = batches, [HeldCache(Aged(age)), None]
        for number, places in enumerate(Places.of(batches)):
            own = places.keys[:, -batches[number].tokens.shape[1] :]
            for layer, window in enumerate(windows):
                self._held[0].saw(layer, (1, 8, 8, window), own, number)


FAMILY = [
    Batch(tokens=np.zeros((2, 4), int), lengths=(4, 2)),
    Batch(tokens=np.zeros((3, 3), int), parent=0, rows=(0, 1, 1), lengths=(3, 3, 1)),
    Batch(tokens=np.zeros((1, 1), int), parent=1, rows=(1,)),
]


def test_what_hangs_on_a_token_in_few_bits_is_known_of_every_place():
    walk = Seen(2, FAMILY)
    no, yes = False, True
    assert walk.engaged(0).tolist() == [[no, no, yes, yes], [no, no, no, no]]  # row 1 ends behind its second token
    assert walk.engaged(1).tolist() == [[yes, yes, yes], [yes, yes, yes], [yes, yes, yes]]
    assert walk.engaged(1, track=1) is None
    deep = Seen(4, FAMILY)
    assert not deep.engaged(0).any()
    assert deep.engaged(1).tolist() == [[yes, yes, yes], [no, no, yes], [no, no, no]]
    assert deep.engaged(2).tolist() == [[yes]]
    assert not Seen(9, FAMILY).engaged(1).any()


def test_how_often_a_query_saw_a_token_in_few_bits_is_counted_over_layers():
    assert Seen(2, FAMILY[:1])._held[0].engaged == 2
    assert Seen(2, FAMILY[:1], windows=(0, 0, 2))._held[0].engaged == 4  # of two tokens none is of that age
    assert Seen(9, FAMILY)._held[0].engaged == 0


class Passing:
    """Holds the second of every four tokens in few bits while it is the newest but one."""

    name, version = "passing", 1

    def form(self, channels):
        stages = Stage(rounding=Summed(1), age=1, chunk=2), Stage(rounding=None, age=2)
        return CacheForm(keys=(FULL, *stages), values=())


def test_what_was_seen_in_few_bits_has_left_its_trace_in_what_follows():
    held = HeldCache(Passing())
    form = held.form(8)
    assert form.in_few_bits("keys", np.arange(4)).tolist() == [0, 0, 1, 0]
    held.saw(0, (1, 8, 8, 0), np.arange(4)[None], 0)
    assert held.engaged_in(0, 1, 4).tolist() == [[False, False, True, True]]
    held.begin()
    assert not held.engaged_in(0, 1, 4).any()


def test_a_text_is_long_enough_for_a_method_or_is_not():
    held = HeldCache(Aged(4))
    held.saw(0, (1, 8, 8, 0), np.array([[0]]))
    assert [held.engages(tokens) for tokens in (1, 4, 5, 9)] == [False, False, True, True]
    held.saw(0, (1, 8, 8, 4), np.array([[0]]))
    assert not held.engages(100)
