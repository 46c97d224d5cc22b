"""Every decoded matrix against the original one, and every quantizer on synthetic matrices."""

import pytest

pytestmark = pytest.mark.weights

LOST = 0.3  # cosine with the original's: factors that others fold into columns leave more, another matrix less


def test_weights(cell):
    is_candidate = cell.recipe.candidate is not None
    for tensor in cell.samples("weights").tensors:
        assert not is_candidate or tensor.cosine > LOST, f"{tensor.name}: nothing is left of it ({tensor.cosine:.2f})"
        assert is_candidate or tensor.snr_db > 0, (
            f"{tensor.name}: decoding gives more noise than weight ({tensor.snr_db:.1f} dB)"
        )


def test_integrity(cell):
    problems = cell.problems
    assert not problems, "\n".join(problems)


def test_codec(quantbench_codec):
    for row in quantbench_codec:
        assert row.snr_db > 0, f"{row.method} at {row.width} bits on {row.case}: more noise than weight"
