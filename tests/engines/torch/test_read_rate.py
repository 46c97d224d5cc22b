"""Reading memory by PyTorch: a rate that this machine can have."""

from copy import copy
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from pytest_quantbench import engines
from pytest_quantbench.engines import bandwidth, machine
from pytest_quantbench.engines.machine import describe
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


def test_no_more_is_read_than_half_of_what_is_free(monkeypatch):
    """A model that nearly fills a card leaves the read less room, and no error of the allocator."""
    sums = []
    monkeypatch.setattr(torch.Tensor, "sum", lambda self: sums.append(self.nbytes))
    monkeypatch.setattr(device, "free_bytes", lambda where: 10**8)
    device.read_bytes_per_second(torch.device("cpu"), 10**10)
    assert set(sums) == {5 * 10**7}


def test_the_engine_says_on_how_many_threads_it_computes(monkeypatch):
    engine = engines.get("torch:cpu")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
    assert (engine.threads, engine.device_name) == (7, "")
    assert describe(engine).threads == 7
    card: Any = copy(engine)
    card.device = torch.device("cuda", 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda where: f"a card, {where.index}")
    assert (card.threads, card.device_name) == (None, "a card, 1")
    assert describe(card).device == "a card, 1"


def test_what_is_free_on_a_cpu_is_what_the_system_has_to_give(monkeypatch, tmp_path):
    (tmp_path / "meminfo").write_text("MemTotal: 100 kB\nMemAvailable: 40 kB\n")
    monkeypatch.setattr(machine, "MEMORY", tmp_path / "meminfo")
    assert engines.get("torch:cpu").free_bytes() == 40 * 1024
    monkeypatch.setattr(machine, "MEMORY", tmp_path / "nothing")
    assert engines.get("torch:cpu").free_bytes() == machine.memory_bytes()
