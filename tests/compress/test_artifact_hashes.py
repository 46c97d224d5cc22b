"""Tiny's artifacts are the recorded ones to the last byte: see tools/artifact_hashes.py, which also records them."""

import pytest

from tools.artifact_hashes import differences, file_hashes, fingerprint, is_elementwise, recipes, recorded

# Of every way of encoding that takes little time: fixed grids, floating-point levels. The slow tests have all.
HANDFUL = {"int8", "int4-rtn", "int4-mxfp4", "int4-nvfp4", "int8-mxfp8"}
ALL = {each.id: each for each in recipes()}
CASES = [pytest.param(name, marks=() if name in HANDFUL else pytest.mark.slow) for name in ALL]


@pytest.mark.parametrize("name", CASES)
def test_the_files_are_the_recorded_ones(name, tmp_path):
    """Whatever was renamed or moved in the code. Where arithmetic itself differs, only what does not depend on it."""
    other = differences(fingerprint(), recorded()["fingerprint"])
    if other and not is_elementwise(ALL[name]):
        pytest.skip(f"recorded where these were others: {', '.join(other)}")
    assert file_hashes(ALL[name], tmp_path) == recorded()["recipes"][name]


def test_every_recipe_is_recorded_and_no_other():
    assert set(recorded()["recipes"]) == set(ALL)
    assert set(ALL) >= HANDFUL


def test_no_two_recipes_give_the_same_files():
    """Else a hash would say nothing of the method that it stands for."""
    kept = [tuple(sorted(files.items())) for files in recorded()["recipes"].values()]
    assert len(set(kept)) == len(kept)


def test_another_byte_and_a_file_that_is_missing_are_differences():
    assert differences({"a": "1", "b": "2"}, {"a": "1", "b": "3", "c": "4"}) == ["b", "c"]
