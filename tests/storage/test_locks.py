"""Locks between processes: one at a time, and none that outlives its process."""

import errno
import io
import os
import platform
import signal
import threading
import time

import pytest
from lock_holder import lock_holder

from pytest_quantbench import progress
from pytest_quantbench.storage.locks import held, held_folder, held_for_renaming, shared


def test_the_second_waits_says_so_and_gets_it_when_the_first_is_done(tmp_path):
    with held(tmp_path / "deep" / "lock", "counting"):
        waiting = lock_holder(tmp_path / "deep" / "lock", 0)
        time.sleep(1)
        assert waiting.poll() is None
    out, err = waiting.communicate(timeout=60)
    assert out.split() == ["in", "out"]
    assert f"Counting waited for process {os.getpid()} on {platform.node()}, which is counting since 20" in err


@pytest.mark.slow
def test_who_waits_says_at_once_for_whom_now_and_then_and_when_it_goes_on(tmp_path, monkeypatch):
    said = io.StringIO()
    monkeypatch.setattr(progress, "_log", said)
    monkeypatch.setattr(progress, "_terminal", None)
    monkeypatch.setattr(progress, "QUIET_SECONDS", 0.5)
    holder = lock_holder(tmp_path / "lock", 2)
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
    holder = lock_holder(tmp_path / "lock", 600)
    assert holder.stdout.readline() == "in\n"
    os.kill(holder.pid, signal.SIGKILL)
    began = time.monotonic()
    with held(tmp_path / "lock", "counting"):
        assert time.monotonic() - began < 30
    holder.communicate()


def test_a_process_does_not_wait_for_itself(tmp_path):
    with held(tmp_path / "lock", "counting"), held(tmp_path / "lock", "counting"):
        blocked = lock_holder(tmp_path / "lock", 0)
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
    assert lock_holder(tmp_path / "lock", 0).communicate(timeout=60)[0].split() == ["in", "out"]


def test_where_nobody_can_write_nobody_is_waited_for(tmp_path):
    (tmp_path / "cache").write_text("a file, not a folder")
    with held(tmp_path / "cache" / "lock", "counting"), held(tmp_path / "cache" / "lock", "counting"):
        pass
    assert (tmp_path / "cache").read_text() == "a file, not a folder"


def test_what_is_not_waited_for_is_gone_on_with_at_once(tmp_path):
    holder = lock_holder(tmp_path / "lock", 600)
    assert holder.stdout.readline() == "in\n"
    began = time.monotonic()
    with held(tmp_path / "lock", "adding", waits=False) as ours:
        assert not ours
        assert time.monotonic() - began < 5
    holder.kill()
    holder.communicate()


def test_who_is_at_work_together_waits_for_who_is_alone_and_says_so(tmp_path, caplog):
    holder = lock_holder(tmp_path / "lock", 1)
    assert holder.stdout.readline() == "in\n"
    with shared(tmp_path / "lock", "working"), shared(tmp_path / "lock", "working"):
        assert holder.poll() is not None or holder.stdout.readline() == "out\n"
        with held(tmp_path / "lock", "deleting", waits=False) as alone_there:
            assert not alone_there
    holder.communicate()
    assert f"Working waited for process {holder.pid} on {platform.node()}, which is counting since 20" in caplog.text


@pytest.mark.parametrize("lock", [lambda path: held(path, "adding"), held_folder], ids=["a file", "a folder"])
def test_a_thread_waits_for_another_and_not_for_itself(tmp_path, lock):
    path, order = tmp_path / "place", []

    def second():
        with lock(path):
            order.append("second")

    waiting = threading.Thread(target=second)
    with lock(path), lock(path):
        waiting.start()
        time.sleep(0.5)
        order.append("first")
    waiting.join(60)
    assert order == ["first", "second"]


def test_a_file_that_got_another_name_meanwhile_is_made_anew(tmp_path):
    """Two write to one temporary name: the second waits until the first has renamed its own."""
    found = []

    def second():
        with held_for_renaming(tmp_path / "new") as file:
            found.append((tmp_path / "new").read_bytes())
            file.write(b"second")

    with held_for_renaming(tmp_path / "new") as file:
        file.write(b"first")
        file.flush()
        waiting = threading.Thread(target=second)
        waiting.start()
        time.sleep(0.5)
        (tmp_path / "new").rename(tmp_path / "done")
    waiting.join(60)
    assert found == [b""]
    assert [(tmp_path / name).read_bytes() for name in ("done", "new")] == [b"first", b"second"]


def test_a_disk_without_locks_is_no_obstacle(tmp_path, monkeypatch):
    def none(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", none)
    with held(tmp_path / "lock", "adding") as alone_there, shared(tmp_path / "other", "working"), held_folder(tmp_path):
        assert alone_there
    with held_for_renaming(tmp_path / "file") as file:
        assert file.writable()
