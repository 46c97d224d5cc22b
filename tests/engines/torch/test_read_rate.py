"""Reading memory by PyTorch: a rate that this machine can have."""

import pytest

torch = pytest.importorskip("torch")

from pytest_quantbench.engines import bandwidth
from pytest_quantbench.engines.torch import device


def test_memory_is_read_at_a_rate_that_memory_has():
    found = device.read_bytes_per_second(torch.device("cpu"), 10**8)
    assert 1e8 < found < 1e13
    assert (
        found > bandwidth.on_one_thread(10**8) / 10
    )  # PyTorch's sum is no slower than numpy's, give or take other load


def test_an_accelerator_is_asked_for_several_sums_at_once(monkeypatch):
    """Seen from here, where there is none: on `meta` a sum costs nothing, and waiting is what is counted."""
    sums, waited = [], []
    monkeypatch.setattr(torch.Tensor, "sum", lambda self: sums.append(self.nbytes))
    monkeypatch.setattr(device, "wait", waited.append)
    meta = torch.device("meta")
    assert device.read_bytes_per_second(meta, 10**9) > 1e11
    assert set(waited) == {meta}
    assert sums == [10**9] * 8 * len(waited)
