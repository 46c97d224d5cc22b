import ml_dtypes
import numpy as np
import pytest

from pytest_quantbench.compress.exports import differences
from pytest_quantbench.compress.exports.differences import Difference, differ, told


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


def test_stretches_add_up_to_the_whole(monkeypatch):
    generator = np.random.default_rng(0)
    original = generator.standard_normal((5, 7)).astype(ml_dtypes.bfloat16)
    judged = generator.standard_normal((5, 7)).astype(np.float32)
    exported = judged.astype(np.float16)
    lines = []
    for stretch in (2**20, 4):
        monkeypatch.setattr(differences, "STRETCH", stretch)
        found = Difference(reason="Rounded")
        found.add("a", original, judged, exported)
        lines += found.lines
        assert found.signal == pytest.approx(float(np.square(original.astype(np.float64)).sum()))
        assert found.largest == np.abs(exported.astype(np.float32) - judged).max()
        assert differ(judged, exported)
        assert not differ(judged, judged.copy())
        last = judged.copy()
        last[-1, -1] += 1
        assert differ(judged, last)
    assert lines[0] == lines[1]
