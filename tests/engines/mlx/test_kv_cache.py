"""Caches of branches: a branch sees the keys and values of its own rows, until the last branch has seen them."""

import mlx.core as mx
import numpy as np

from pytest_quantbench.engines.batches import Batch, Places
from pytest_quantbench.engines.mlx.kv_cache import Positions, caches, kinds

FAMILY = [
    Batch(tokens=np.zeros((2, 3), np.int32), lengths=(3, 2)),
    Batch(tokens=np.zeros((3, 2), np.int32), lengths=(2, 1, 2), parent=0, rows=(1, 0, 1)),
    Batch(tokens=np.zeros((1, 1), np.int32), lengths=(1,), parent=0, rows=(0,)),
    Batch(tokens=np.zeros((1, 4), np.int32), lengths=(4,)),
]


def positions():
    return [Positions(places) for places in Places.of(FAMILY)]


def random(rows, length, seed):
    return mx.array(np.random.default_rng(seed).standard_normal((rows, 2, length, 4)).astype(np.float32))


def test_who_neither_is_a_branch_nor_has_one_needs_no_cache():
    assert [None if held is None else len(held) for held in caches(FAMILY, positions(), [True] * 3)] == [3, 3, 3, None]


def test_a_branch_sees_the_keys_of_its_rows_and_then_they_are_let_go():
    (root,), (first,), (second,), _ = caches(FAMILY, positions(), [True])
    keys, values = random(2, 3, 0), random(2, 3, 1)
    own, _ = root.update_and_fetch(keys, values)
    assert mx.array_equal(own, keys)
    for branch, rows, length in ((first, (1, 0, 1), 2), (second, (0,), 1)):
        assert root.held is not None
        more = random(len(rows), length, 2), random(len(rows), length, 3)
        for found, before, after in zip(branch.update_and_fetch(*more), (keys, values), more, strict=True):
            expected = np.concatenate([np.array(before)[list(rows)], np.array(after)], axis=2)
            np.testing.assert_array_equal(np.array(found), expected)
    assert root.held is None


def test_rows_of_unlike_lengths_go_on_at_positions_of_their_own():
    (_,), (first,), _, _ = caches(FAMILY, positions(), [True])
    assert first.offset.tolist() == [2, 3, 2]
    mask = first.make_mask(2)
    assert mask.shape == (3, 1, 2, 5)
    assert mask[0, 0, 0].tolist() == [True, True, False, True, False]  # the context's third token is padding


def test_all_layers_and_recipes_share_a_mask():
    shared = positions()
    one, other = caches(FAMILY, shared, [True] * 2), caches(FAMILY, shared, [True] * 2)
    assert one[1][0].make_mask(2) is one[1][1].make_mask(2) is other[1][0].make_mask(2)


def test_of_a_layer_that_holds_something_else_there_is_none():
    (root,), _, _, alone = [held and list(held) for held in caches(FAMILY, positions(), [[False, True]])]
    assert alone is None
    assert root[0] is None
    assert root[1].branches == 2


def test_a_model_says_which_of_its_caches_take_keys_and_values():
    from unusual_models import unusual

    assert kinds(unusual("apertus")[1].model, 4) == [True] * 4
    assert kinds(unusual("lfm2")[1].model, 4) == [False, True, False, True]
    assert len(kinds(unusual("nanbeige")[1].model, 4)) == 8
