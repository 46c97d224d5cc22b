"""Energy: a tree of power capping, a driver and a chip that are made up, and machines that tell nothing."""

import ctypes
import sys
import types

import pytest

from pytest_quantbench.engines import energy


@pytest.fixture
def powercap(tmp_path, monkeypatch):
    """A tree as Linux has it: two packages, memory of one counted by itself, and what lies within a package."""
    monkeypatch.setattr(energy, "POWERCAP", tmp_path)
    zones = {"0": "package-0", "0:0": "core", "0:1": "dram", "1": "package-1", "2": "psys"}
    for number, name in zones.items():
        zone(tmp_path, number).mkdir()
        (zone(tmp_path, number) / "name").write_text(f"{name}\n")
        (zone(tmp_path, number) / "max_energy_range_uj").write_text("1000000000\n")
        counted(tmp_path, number, 0)
    return tmp_path


def zone(folder, number):
    return folder / f"intel-rapl:{number}"


def counted(folder, number, microjoules):
    (zone(folder, number) / "energy_uj").write_text(f"{microjoules}\n")


def test_packages_and_memory_are_added_and_what_lies_within_is_not_counted_twice(powercap):
    meter = energy.meter_of("cpu")
    assert meter.joules() == 0
    for number, joules in {"0": 5, "0:0": 4, "0:1": 2, "1": 1, "2": 100}.items():
        counted(powercap, number, joules * 1_000_000)
    assert meter.joules() == pytest.approx(8)
    assert meter.of == "the processors and their memory, by RAPL"


def test_a_counter_that_begins_anew_goes_on(powercap):
    counted(powercap, "0", 999_000_000)
    meter = energy.meter_of("cpu")
    counted(powercap, "0", 2_000_000)
    assert meter.joules() == pytest.approx(3)
    counted(powercap, "0", 998_000_000)
    counted(powercap, "1", 500_000)
    assert meter.joules() == pytest.approx(3 + 996 + 0.5)
    counted(powercap, "0", 1_000_000)
    assert meter.joules() == pytest.approx(3 + 996 + 0.5 + 3)


def test_a_counter_that_may_not_be_read_is_left_out_and_one_that_breaks_off_tells_no_more(powercap):
    (zone(powercap, "1") / "energy_uj").unlink()
    meter = energy.meter_of("cpu")
    counted(powercap, "0", 7_000_000)
    assert meter.joules() == pytest.approx(7)
    (zone(powercap, "0") / "energy_uj").write_text("denied")
    assert meter.joules() is None
    for number in ("0", "0:1"):
        (zone(powercap, number) / "name").unlink()
    assert energy.meter_of("cpu") is None


@pytest.mark.parametrize("folder", ["empty", "none"])
def test_where_nothing_tells_there_is_no_meter(tmp_path, monkeypatch, folder):
    (tmp_path / "empty").mkdir()
    monkeypatch.setattr(energy, "POWERCAP", tmp_path / folder)
    monkeypatch.setattr(energy, "DRIVER", "libno-such-driver.so.1")
    monkeypatch.setattr(energy, "APPLE", "no_such_package")
    assert [energy.meter_of(backend) for backend in ("cpu", "cuda", "metal", "mps")] == [None] * 4


class Driver:
    """NVIDIA's library: a device whose counter goes up by 1.5 J every time, or one that has none."""

    def __init__(self, *, counts=True):
        self.millijoules, self.counts, self.asked = 0, counts, []

    def nvmlInit_v2(self):
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, index, device):
        self.asked.append(index.value)
        return 0

    def nvmlDeviceGetHandleByUUID(self, uuid, device):
        self.asked.append(uuid)
        return 0

    def nvmlDeviceGetTotalEnergyConsumption(self, device, found):
        self.millijoules += 1500
        ctypes.cast(found, ctypes.POINTER(ctypes.c_ulonglong))[0] = self.millijoules
        return 0 if self.counts else 3


@pytest.mark.parametrize(("visible", "asked"), [("", 0), ("2,3", 2), ("GPU-1a, GPU-2b", b"GPU-1a")])
def test_the_driver_is_asked_of_the_device_that_is_seen(monkeypatch, visible, asked):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    driver = Driver()
    monkeypatch.setattr(ctypes, "CDLL", lambda name: driver)
    meter = energy.meter_of("cuda")
    assert driver.asked == [asked]
    first = meter.joules()
    assert meter.joules() - first == pytest.approx(1.5)


def test_an_accelerator_without_a_counter_or_with_an_older_driver_tells_nothing(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Driver(counts=False))
    assert energy.meter_of("cuda") is None
    monkeypatch.setattr(ctypes, "CDLL", lambda name: types.SimpleNamespace(nvmlInit_v2=lambda: 0))
    assert energy.meter_of("cuda") is None


def test_windows_of_apples_counters_are_laid_end_to_end(monkeypatch):
    windows = []

    class Monitor:
        def begin_window(self, name):
            windows.append(name)

        def end_window(self, name):
            assert windows[-1] == name
            return types.SimpleNamespace(cpu_total_mj=1000, gpu_mj=2000, dram_mj=None, ane_mj=0)

    module = types.ModuleType("zeus_apple_silicon")
    vars(module).update(AppleEnergyMonitor=Monitor, __spec__=types.SimpleNamespace(name="zeus_apple_silicon"))
    monkeypatch.setitem(sys.modules, "zeus_apple_silicon", module)
    meter = energy.meter_of("metal")
    assert [meter.joules(), meter.joules()] == [3.0, 6.0]
    assert len(windows) == 3
