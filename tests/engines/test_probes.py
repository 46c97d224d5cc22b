"""A fixed product as a clock: one at a time on a CPU, on an accelerator so many that its launch does not count."""

import time

import numpy as np
import pytest

from pytest_quantbench import engines
from pytest_quantbench.engines import probes
from pytest_quantbench.engines.probes import Size
from pytest_quantbench.measures.throughput_runs import PROBE_SIDE, PROBES


class Device:
    """A device with a clock of its own, that takes so long for every call to begin, for the wait, and a product."""

    def __init__(self, monkeypatch, size, *, launch=0.0, wait=0.0, product):
        self.size, self.launch, self.wait, self.product = size, launch, wait, product
        self.now, self.probes = 0.0, 0
        monkeypatch.setattr(time, "perf_counter", lambda: self.now)

    def multiplied(self):
        self.probes += 1
        self.now += self.wait + self.size.calls * max(self.launch, self.size.stacked * self.product)


@pytest.mark.parametrize(("launch", "wait", "product"), [(10e-6, 15e-6, 0.6e-6), (20e-6, 200e-6, 4e-6)])
def test_a_clock_that_falls_shows_on_an_accelerator_whose_launch_takes_longer_than_a_product(
    monkeypatch, launch, wait, product
):
    """By 30 %: of products that are timed one by one, nothing would be seen on CUDA, and little on Metal."""
    found = {}
    size = probes.size(PROBE_SIDE, on_cpu=False)
    for factor in (1.0, 1 / 0.7):
        device = Device(monkeypatch, size, launch=launch, wait=wait, product=factor * product)
        found[factor] = probes.per_second(device.multiplied, size, PROBES)
        assert device.probes == 1 + PROBES
        assert 0.3e-3 < device.now / device.probes < 10e-3
    assert found[1 / 0.7] / found[1.0] == pytest.approx(0.7, abs=0.03)


def test_a_cpu_is_asked_for_one_product_at_a_time(monkeypatch):
    size = probes.size(PROBE_SIDE, on_cpu=True)
    device = Device(monkeypatch, size, product=1e-3)
    assert probes.per_second(device.multiplied, size, 3) == pytest.approx(1000)
    assert (device.probes, size) == (3, Size(calls=1, stacked=1))


def test_a_call_is_as_much_work_whatever_the_side_and_its_stack_is_small():
    stacks = {side: probes.size(side, on_cpu=False).stacked for side in (64, 256, 512, 8192)}
    assert stacks == {64: 4096, 256: 64, 512: 8, 8192: 1}
    assert all(4 * stack * side**2 <= 2**26 for side, stack in stacks.items() if side < 8192)


@pytest.mark.parametrize("name", ["mlx", "torch:cpu"])
def test_engines_multiply_as_many_as_they_are_asked_for(name, monkeypatch):
    """The same speed by one as by several, as far as a busy machine has one."""
    if name.startswith("torch"):
        pytest.importorskip("torch")
    engine = engines.get(name)
    one = engine.products_per_second(128, 20)
    monkeypatch.setattr(probes, "size", lambda side, on_cpu: Size(calls=4, stacked=8))
    assert np.log(engine.products_per_second(128, 20) / one) == pytest.approx(0, abs=2)
