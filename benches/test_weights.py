"""Every decoded matrix against the original one."""

import pytest

pytestmark = pytest.mark.weights


def test_weights(cell):
    for tensor in cell.weight_samples.tensors:
        assert tensor.snr_db > 0, f"{tensor.name}: decoding gives more noise than weight ({tensor.snr_db:.1f} dB)"
