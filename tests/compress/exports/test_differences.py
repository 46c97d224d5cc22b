import numpy as np
import pytest

from pytest_quantbench.compress.exports.differences import Difference, told


def test_figures_are_of_all_tensors_and_lines_of_each():
    moved = Difference(reason="Weights moved")
    original = np.array([[3.0, 4.0]], np.float32)  # 25 in squares
    judged = np.array([[3.5, 4.0]], np.float32)  # off by 0.25
    exported = np.array([[3.5, 2.0]], np.float32)  # off by 4.25
    moved.add("a", original, judged, exported, "1 weight")
    moved.add("b", original, original, exported)
    (sentence,), lines = told([moved, Difference(reason="Nothing")])
    assert lines == (
        "a (1 weight): largest change 2, SNR 7.70 dB instead of 20.00 dB",
        "b: largest change 2, SNR 7.70 dB",
    )
    assert sentence == "Weights moved in 2 tensors: largest change 2, SNR 7.70 dB instead of 23.01 dB."
    assert 10 * np.log10(50 / 8.5) == pytest.approx(7.70, abs=0.01)


def test_where_nothing_differs_nothing_is_told():
    assert Difference(reason="Nothing").sentence == ""
    assert told([Difference(reason="Nothing")]) == ((), ())
