"""Our attention against its definition in float64, and its masks against each row alone."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import causal_mask_function, sliding_window_causal_mask_function

from pytest_quantbench.engines.batches import Batch, Places
from pytest_quantbench.engines.torch.attention import ATTENTION, QUERIES, placed

pytestmark = pytest.mark.unit
ATTEND, MASK = AttentionInterface()[ATTENTION], AttentionMaskInterface()[ATTENTION]
HEADS, KEY_HEADS, SIZE = 4, 2, 8


class Attends:
    """What a model's own attention says of itself."""

    num_key_value_groups = HEADS // KEY_HEADS
    is_causal = True


def drawn(queries, keys, dtype=torch.float32):
    torch.manual_seed(queries)
    shapes = ((2, HEADS, queries, SIZE), (2, KEY_HEADS, keys, SIZE), (2, KEY_HEADS, keys, SIZE))
    return [torch.randn(shape).to(dtype) for shape in shapes]


def defined(query, key, value, mask, scaling, softcap=None, sinks=None):
    """In float64, head by head."""
    query, key, value = (each.double() for each in (query, key, value))
    out = torch.empty(query.shape[0], query.shape[2], HEADS, SIZE, dtype=torch.float64)
    for head in range(HEADS):
        group = head // (HEADS // KEY_HEADS)
        scores = query[:, head] @ key[:, group].transpose(1, 2) * scaling
        scores = scores if softcap is None else softcap * torch.tanh(scores / softcap)
        powers = scores.masked_fill(~mask, -torch.inf).exp()
        total = powers.sum(-1, keepdim=True) + (0 if sinks is None else sinks[head].double().exp())
        out[:, :, head] = powers / total @ value[:, group]
    return out


@pytest.mark.parametrize("softcap", [None, 3.0])
@pytest.mark.parametrize("sinks", [None, torch.tensor([0.5, -1.0, 2.0, 0.0])])
@pytest.mark.parametrize(
    ("queries", "keys", "masked"), [(7, 7, False), (QUERIES + 9, QUERIES + 9, False), (5, 9, True)]
)
def test_attention_is_what_it_is_defined_as(softcap, sinks, queries, keys, masked):
    query, key, value = drawn(queries, keys)
    mask = torch.ones(queries, keys, dtype=torch.bool).tril(keys - queries)
    if masked:
        mask[0, 1] = False
    asked = {name: what for name, what in (("softcap", softcap), ("s_aux", sinks)) if what is not None}
    given = mask.expand(2, 1, queries, keys) if masked else None
    found, weights = ATTEND(Attends(), query, key, value, given, scaling=0.3, **asked)
    expected = defined(query, key, value, mask, 0.3, softcap, sinks)
    assert weights is None
    assert (found - expected).abs().max() < 2e-6


def test_numbers_that_are_added_to_scores_hide_as_booleans_do():
    query, key, value = drawn(5, 5)
    hidden = torch.ones(5, 5, dtype=torch.bool).tril()
    added = torch.zeros(5, 5).masked_fill(~hidden, -torch.inf).expand(2, 1, 5, 5)
    found, _ = ATTEND(Attends(), query, key, value, added, softcap=2.0)
    assert (found - defined(query, key, value, hidden, SIZE**-0.5, 2.0)).abs().max() < 2e-6


def test_a_soft_cap_in_bfloat16_is_computed_in_float32():
    query, key, value = drawn(6, 6, torch.bfloat16)
    found, _ = ATTEND(Attends(), query, key, value, None, softcap=2.0)
    exact = defined(query, key, value, torch.ones(6, 6, dtype=torch.bool).tril(), SIZE**-0.5, 2.0)
    assert found.dtype == torch.bfloat16
    assert (found.double() - exact).abs().max() < 2**-8 * exact.abs().max()


FAMILY = [
    Batch(tokens=np.zeros((2, 12), np.int64), lengths=(12, 10)),
    Batch(tokens=np.zeros((3, 9), np.int64), parent=0, rows=(0, 1, 0), lengths=(7, 4, 9)),
    Batch(tokens=np.zeros((4, 3), np.int64), parent=1, rows=(0, 0, 1, 2), lengths=(2, 3, 1, 2)),
]


@pytest.mark.parametrize("window", [None, 4])
@pytest.mark.parametrize("number", range(3))
def test_masks_of_branches_follow_the_places_of_keys(window, number):
    places, batch = Places.of(FAMILY)[number], FAMILY[number]
    width, before = batch.tokens.shape[1], places.keys.shape[1] - batch.tokens.shape[1]
    function = causal_mask_function if window is None else sliding_window_causal_mask_function(window)
    with placed(places):
        mask = MASK(
            batch_size=len(batch.tokens),
            q_length=width,
            kv_length=before + width,
            q_offset=before,
            mask_function=function,
            local_size=window,
            allow_is_causal_skip=False,
        )
    visible = places.visible(width, window)
    for row, length in enumerate(batch.lengths):  # what pads a row sees what it may
        np.testing.assert_array_equal(mask.numpy()[row, :, :length], visible[row, :, :length])


def test_without_places_plain_causal_masks_are_left_to_the_kernel():
    asked = {"batch_size": 2, "q_length": 6, "kv_length": 6, "mask_function": causal_mask_function}
    assert MASK(**asked) is None
    with placed(Places.of(FAMILY)[2]):
        pass
    assert MASK(**asked) is None
