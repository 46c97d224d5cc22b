"""What drivers tell of an accelerator: by a `nvidia-smi` of our own, and Apple's commands in its place."""

import json
import platform
import sys
import time

import pytest

from pytest_quantbench.engines import accelerator as module
from pytest_quantbench.engines.accelerator import Accelerator, accelerator

H200 = "NVIDIA H200, 550.90.07, 143771, 1980, 1980, 3201"
OTHER = "NVIDIA T4, 550.90.07, 15360, 300, 1590, 405"


@pytest.fixture
def driver(tmp_path, monkeypatch):
    """A function from Python code to a `nvidia-smi` that runs it, the only one on PATH."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def made(code):
        file = tmp_path / "nvidia-smi"
        file.write_text(f"#!{sys.executable}\nimport os, subprocess, sys, time\n{code}\n")
        file.chmod(0o755)

    return made


def test_a_driver_is_asked_for_name_memory_and_clocks(driver):
    driver(f"""
assert sys.argv[1] == "--query-gpu=name,driver_version,memory.total,clocks.sm,clocks.max.sm,clocks.mem", sys.argv
assert sys.argv[2:] == ["--format=csv,noheader,nounits"], sys.argv
print("{H200}")""")
    assert accelerator("cuda") == Accelerator(
        name="NVIDIA H200",
        driver="550.90.07",
        memory_gb=150.8,
        clock_mhz=1980.0,
        most_clock_mhz=1980.0,
        memory_clock_mhz=3201.0,
    )


def test_what_the_driver_does_not_tell_is_null(driver):
    driver('print("NVIDIA H200 MIG 1g.18gb, 550.90.07, [N/A], [N/A], [Not Supported], [Unknown Error]")')
    assert accelerator("cuda") == Accelerator(name="NVIDIA H200 MIG 1g.18gb", driver="550.90.07")
    driver('print("NVIDIA H200, [N/A], 1024, 1.5, , 3")')
    assert accelerator("cuda") == Accelerator(name="NVIDIA H200", memory_gb=1.1, clock_mhz=1.5, memory_clock_mhz=3.0)


@pytest.mark.parametrize(("visible", "name"), [("", "NVIDIA H200"), ("1,0", "NVIDIA T4"), ("MIG-x", "NVIDIA H200")])
def test_of_several_the_first_that_is_visible_is_told(visible, name, driver, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    driver(f"""
rows = {[H200, OTHER]!r}
chosen = [each for each in sys.argv if each.startswith("--id=")]
if chosen and not chosen[0][5:].isdecimal():
    sys.exit("No devices were found")
print("\\n".join(rows[int(chosen[0][5:]):] if chosen else rows))""")
    assert accelerator("cuda").name == name


@pytest.mark.parametrize(
    "code",
    [
        "sys.exit(9)",
        "print('No devices were found')",
        "print('')",
        "print(', , , , ,')",
        r"sys.stdout.buffer.write(b'\xff\xfe')",
        "os.kill(os.getpid(), 11)",
    ],
)
def test_a_driver_that_tells_nothing_is_no_error(code, driver):
    driver(code)
    assert accelerator("cuda") is None


def test_no_driver_and_a_file_that_cannot_be_run_are_no_error(driver, tmp_path):
    assert accelerator("cuda") is None
    (tmp_path / "nvidia-smi").write_bytes(b"\x00\x01")
    (tmp_path / "nvidia-smi").chmod(0o755)
    assert accelerator("cuda") is None


@pytest.mark.parametrize(
    "code", ["time.sleep(60)", "subprocess.run([sys.executable, '-c', 'import time; time.sleep(8)'])"]
)
def test_a_driver_that_hangs_is_waited_for_once_and_not_for_long(code, driver, monkeypatch):
    """Also where it has started another program, which holds what it prints to."""
    monkeypatch.setattr(module, "MOST_SECONDS", 0.5)
    driver(code)
    began = time.monotonic()
    assert accelerator("cuda") is None
    assert time.monotonic() - began < 4


def test_a_cpu_has_none(driver):
    driver(f'print("{H200}")')
    assert accelerator("cpu") is None


def test_apples_graphics_are_told_by_the_chip_and_their_cores(monkeypatch):
    told = {
        "machdep.cpu.brand_string": "Apple M3 Max\n",
        "hw.memsize": "137438953472\n",
        "-json": json.dumps({"SPDisplaysDataType": [{"_name": "x"}, {"sppci_cores": "40"}]}),
    }
    monkeypatch.setattr(module, "_told", lambda command: told.get(command[-1], ""))
    monkeypatch.setattr(platform, "mac_ver", lambda: ("15.1", ("", "", ""), ""))
    found = accelerator("metal")
    assert found == Accelerator(name="Apple M3 Max, 40 graphics cores", driver="macOS 15.1", memory_gb=137.4)
    for odd in ("", "[]", "{", '{"SPDisplaysDataType": 3}', '{"SPDisplaysDataType": [{}]}'):
        told["-json"] = odd
        assert accelerator("metal").name == "Apple M3 Max"
    told.clear()
    assert accelerator("metal") is None
