"""Every decoded matrix against the original one, and every quantizer on synthetic matrices."""

import pytest

pytestmark = pytest.mark.weights


def test_weights(cell):
    for tensor in cell.samples("weights").tensors:
        assert tensor.snr_db > 0, f"{tensor.name}: decoding gives more noise than weight ({tensor.snr_db:.1f} dB)"


def test_integrity(cell):
    problems = cell.problems
    assert not problems, "\n".join(problems)


def test_codec(quantbench_codec):
    for row in quantbench_codec:
        assert row.snr_db > 0, f"{row.method} at {row.width} bits on {row.case}: more noise than weight"
