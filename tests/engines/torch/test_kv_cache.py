"""Caches of branches: a branch sees the keys and values of its own rows, until the last branch has seen them."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch_models import filled
from transformers_models import SMALL, save

from pytest_quantbench.engines.batches import Batch, Places
from pytest_quantbench.engines.torch.kv_cache import argument, caches

pytestmark = pytest.mark.unit
FAMILY = [
    Batch(tokens=np.zeros((2, 3), np.int32), lengths=(3, 2)),
    Batch(tokens=np.zeros((3, 2), np.int32), lengths=(2, 1, 2), parent=0, rows=(1, 0, 1)),
    Batch(tokens=np.zeros((1, 1), np.int32), lengths=(1,), parent=0, rows=(0,)),
    Batch(tokens=np.zeros((1, 4), np.int32), lengths=(4,)),
]


def made(layers):
    return caches(FAMILY, Places.of(FAMILY), layers, torch.device("cpu"))


def drawn(rows, length, seed):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((rows, 2, length, 4), np.float32))


def test_who_neither_is_a_branch_nor_has_one_needs_no_cache():
    assert [None if held is None else len(held) for held in made(3)] == [3, 3, 3, None]


def test_a_branch_sees_the_keys_of_its_rows_and_then_they_are_let_go():
    root, first, second, _ = made(1)
    keys, values = drawn(2, 3, 0), drawn(2, 3, 1)
    own, _ = root.update(keys, values, 0)
    assert torch.equal(own, keys)
    for branch, rows, length in ((first, (1, 0, 1), 2), (second, (0,), 1)):
        assert root.layers[0].keys is not None
        more = drawn(len(rows), length, 2), drawn(len(rows), length, 3)
        for found, before, after in zip(branch.update(*more, 0), (keys, values), more, strict=True):
            assert torch.equal(found, torch.cat([before[list(rows)], after], dim=2))
    assert root.layers[0].keys is None
    assert second.layers[0].keys is None  # nobody goes on from it


def test_a_cache_says_how_many_keys_stand_before():
    root, first, _, _ = made(1)
    assert (root.get_seq_length(), root.get_mask_sizes(3, 0)) == (0, (3, 0))
    assert (first.get_seq_length(), first.get_mask_sizes(2, 0)) == (3, (5, 0))
    assert first.get_max_length() == -1


def test_a_model_says_by_which_name_it_takes_a_cache(tmp_path):
    save(tmp_path, SMALL["llama-default"], [[1]])
    assert argument(filled(tmp_path)) in ("cache", "past_key_values")
    assert argument(torch.nn.Linear(2, 2)) is None
