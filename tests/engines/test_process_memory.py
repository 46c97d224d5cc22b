"""The peak of this process's memory: from a mark that the system lets be lowered, or from its beginning on."""

import os
import platform
import resource
import subprocess
import sys

import pytest

from pytest_quantbench.engines import process_memory

LINUX = pytest.mark.skipif(platform.system() != "Linux", reason="only Linux tells the mark of a process")
# In a process of its own: 300 MB are held and given back; then the mark is lowered; then 100 MB more.
HELD = """
import mmap
from pytest_quantbench.engines import process_memory
def hold(megabytes):
    with mmap.mmap(-1, megabytes << 20) as held:
        for page in range(0, len(held), mmap.PAGESIZE):
            held[page] = 1
begun = process_memory.peak("process").peak_bytes
hold(300)
before = process_memory.peak("process").peak_bytes
since = process_memory.lower_mark()
lowered = process_memory.peak(since).peak_bytes
hold(100)
print(since, *(value >> 20 for value in (begun, before, lowered, process_memory.peak(since).peak_bytes)))
"""


def run(code):
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ})
    return told.stdout.split()


@LINUX
def test_the_peak_is_of_what_came_after_the_mark_was_lowered():
    since, *values = run(HELD)
    begun, before, lowered, after = map(int, values)
    assert before >= begun + 295
    if since == "process":
        pytest.skip("this kernel lets no process lower its mark")
    assert lowered < before - 250
    assert 95 <= after - lowered <= 130


@LINUX
def test_a_mark_that_cannot_be_lowered_is_told_as_the_processs(monkeypatch, tmp_path):
    monkeypatch.setattr(process_memory, "CLEAR", tmp_path / "no such folder" / "clear_refs")
    since = process_memory.lower_mark()
    assert since == "process"
    found = process_memory.peak(since)
    assert found.since == "process"
    assert found.peak_bytes >= 2**20


@pytest.mark.parametrize(("system", "unit"), [("Darwin", 1), ("FreeBSD", 1024)])
def test_where_the_system_keeps_no_such_file_the_processs_own_count_is_taken(system, unit, monkeypatch, tmp_path):
    monkeypatch.setattr(process_memory, "STATUS", tmp_path / "status")
    monkeypatch.setattr(platform, "system", lambda: system)
    monkeypatch.setattr(resource, "getrusage", lambda who: resource.struct_rusage([0, 0, 4096, *[0] * 13]))
    assert process_memory.peak("process").peak_bytes == 4096 * unit


def test_a_status_without_that_line_is_no_error(monkeypatch, tmp_path):
    status = tmp_path / "status"
    status.write_text("Name:\tpython\nVmPeak:\t  1 kB\nVmHWM:\t  2048 kB\n")
    monkeypatch.setattr(process_memory, "STATUS", status)
    assert process_memory.peak("measure").peak_bytes == 2 << 20
    status.write_text("Name:\tpython\n")
    assert process_memory.peak("measure").peak_bytes > 2 << 20
