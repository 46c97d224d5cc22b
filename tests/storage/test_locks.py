"""Locks between processes: one at a time, and none that outlives its process."""

import io
import os
import platform
import signal
import subprocess
import sys
import time

from pytest_quantbench import progress
from pytest_quantbench.bench.measuring_locks import alone
from pytest_quantbench.storage.locks import held
from pytest_quantbench.storage.samples_cache import key_of

PROGRAM = """
import logging, sys, time
from pathlib import Path
from pytest_quantbench.kept import key_of
from pytest_quantbench.locks import held
from pytest_quantbench.measuring_locks import alone
logging.basicConfig()
with held(Path(sys.argv[1]), "counting"):
    print("in", flush=True)
    time.sleep(float(sys.argv[2]))
    print("out", flush=True)
"""


def other(path, seconds):
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(path), str(seconds)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_second_waits_says_so_and_gets_it_when_the_first_is_done(tmp_path):
    with held(tmp_path / "deep" / "lock", "counting"):
        waiting = other(tmp_path / "deep" / "lock", 0)
        time.sleep(1)
        assert waiting.poll() is None
    out, err = waiting.communicate(timeout=60)
    assert out.split() == ["in", "out"]
    assert f"Counting waited for process {os.getpid()} on {platform.node()}, which is counting since 20" in err


def test_who_waits_says_at_once_for_whom_now_and_then_and_when_it_goes_on(tmp_path, monkeypatch):
    said = io.StringIO()
    monkeypatch.setattr(progress, "_log", said)
    monkeypatch.setattr(progress, "_terminal", None)
    monkeypatch.setattr(progress, "QUIET_SECONDS", 0.5)
    holder = other(tmp_path / "lock", 2)
    assert holder.stdout.readline() == "in\n"
    with held(tmp_path / "lock", "adding"):
        holder.communicate()
    first, second, *_others, last = filter(None, said.getvalue().splitlines())
    assert first.startswith(f"quantbench: adding waits for process {holder.pid} on ")
    assert "which is counting since 20" in first
    assert first.endswith("0 s so far")
    assert second.startswith("quantbench: adding waits for")
    assert last.startswith("quantbench: adding goes on after")


def test_the_lock_of_a_killed_process_is_none(tmp_path):
    holder = other(tmp_path / "lock", 600)
    assert holder.stdout.readline() == "in\n"
    os.kill(holder.pid, signal.SIGKILL)
    began = time.monotonic()
    with held(tmp_path / "lock", "counting"):
        assert time.monotonic() - began < 30
    holder.communicate()


def test_a_process_does_not_wait_for_itself(tmp_path):
    with held(tmp_path / "lock", "counting"), held(tmp_path / "lock", "counting"):
        blocked = other(tmp_path / "lock", 0)
        time.sleep(0.5)
    with held(tmp_path / "lock", "counting"):  # after whoever waited
        pass
    assert blocked.communicate(timeout=60)[0].split() == ["in", "out"]


def test_it_is_given_back_after_an_error(tmp_path):
    try:
        with held(tmp_path / "lock", "counting"):
            raise ValueError
    except ValueError:
        pass
    assert other(tmp_path / "lock", 0).communicate(timeout=60)[0].split() == ["in", "out"]


def test_where_nobody_can_write_nobody_is_waited_for(tmp_path):
    (tmp_path / "cache").write_text("a file, not a folder")
    with held(tmp_path / "cache" / "lock", "counting"), held(tmp_path / "cache" / "lock", "counting"):
        pass
    assert (tmp_path / "cache").read_text() == "a file, not a folder"


def test_what_is_not_waited_for_is_gone_on_with_at_once(tmp_path):
    holder = other(tmp_path / "lock", 600)
    assert holder.stdout.readline() == "in\n"
    began = time.monotonic()
    with held(tmp_path / "lock", "adding", waits=False):
        assert time.monotonic() - began < 5
    holder.kill()
    holder.communicate()


def test_samples_of_the_reference_are_waited_for_only_where_nothing_else_is_wanted(tmp_path):
    contents = {"measuring T2 of Tiny-bf16": {"recipe": "bf16"}, "measuring T2 of Tiny-int4": {"recipe": "int4"}}
    path = tmp_path / "locks" / f"measuring-{key_of(contents['measuring T2 of Tiny-bf16'])}"
    path.parent.mkdir()
    holder = other(path, 2)
    assert holder.stdout.readline() == "in\n"
    began = time.monotonic()
    with alone(tmp_path, contents, {"measuring T2 of Tiny-bf16"}):
        assert time.monotonic() - began < 1.5
    with alone(tmp_path, dict([next(iter(contents.items()))]), set()):
        assert holder.wait(timeout=10) == 0
    holder.communicate()
