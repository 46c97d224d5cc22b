"""Where the tokens of branches stand, against a loop over their whole sequences."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pytest_quantbench.engines.batches import PADDING, Batch, Places, behind_each_other


def batch(lengths, parent=None, rows=()):
    return Batch(tokens=np.zeros((len(lengths), max(lengths)), np.int32), parent=parent, rows=rows, lengths=lengths)


@st.composite
def families(draw):
    """Batches of which each but the first may go on from one before it."""
    made = []
    for number in range(draw(st.integers(1, 4))):
        lengths = tuple(draw(st.lists(st.integers(1, 5), min_size=1, max_size=3)))
        parent = draw(st.none() | st.integers(0, number - 1)) if number else None
        rows = () if parent is None else tuple(draw(st.integers(0, len(made[parent].lengths) - 1)) for _ in lengths)
        made.append(batch(lengths, parent, rows))
    return made


def slow_keys(family, number, row):
    """The position of every key that a row sees, those of padding behind everything; and where its own tokens begin."""
    own, before, start = family[number], [], 0
    if own.parent is not None:
        before, ends = slow_keys(family, own.parent, own.rows[row])
        start = ends
    width, length = own.tokens.shape[1], own.lengths[row]
    return before + [start + place if place < length else PADDING for place in range(width)], start + length


@given(families())
def test_every_row_goes_on_at_the_end_of_its_own_context(family):
    for number, places in enumerate(Places.of(family)):
        for row, length in enumerate(family[number].lengths):
            keys, end = slow_keys(family, number, row)
            assert places.keys[row].tolist() == keys
            assert places.ends[row, 0] == end == places.starts[row] + length


@given(families(), st.none() | st.integers(1, 6))
def test_a_token_sees_what_stands_before_it_and_no_padding(family, window):
    for number, places in enumerate(Places.of(family)):
        width = family[number].tokens.shape[1]
        visible = places.visible(width, window)
        assert visible.shape == (len(family[number].lengths), 1, width, places.keys.shape[1])
        for row, length in enumerate(family[number].lengths):
            keys, end = slow_keys(family, number, row)
            for place in range(length):
                at = end - length + place
                expected = [key <= at and (window is None or key > at - window) for key in keys]
                assert visible[row, 0, place].tolist() == expected


def test_rows_without_a_gap_are_even():
    root, branch, ragged = batch((4, 4)), batch((2, 2), parent=0, rows=(1, 0)), batch((3, 1))
    later = batch((2,), parent=2, rows=(1,))
    assert [places.even for places in Places.of([root, branch, ragged, later])] == [True, True, True, False]
    assert [places.start for places in Places.of([root, branch])] == [0, 4]


def test_parts_stand_behind_each_other_and_branches_keep_their_parents():
    text = np.array([[1, 2]])
    first, second = [batch((3,)), batch((1,), parent=0, rows=(0,))], [batch((2,)), batch((1, 1), parent=0, rows=(0, 0))]
    joined = behind_each_other([text], first, second)
    assert [each.parent for each in joined] == [None, None, 1, None, 3]
    assert joined[0].tokens is text
