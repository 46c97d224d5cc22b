"""What a runtime's process may do, and that nothing of it is left."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from fake_runtime import FAKE, logits_after

from pytest_quantbench.engines.runtimes import RUNTIMES, Runtime, default_threads, runtime_for
from pytest_quantbench.engines.runtimes.process import Process
from pytest_quantbench.errors import RunnerError

LOAD = {"context": 64, "threads": 1, "options": {}}


def is_running(number):
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    return True


def read(process, source, ids=(1, 2, 3)):
    process.ask("load", {**LOAD, "source": str(source)})
    return process.ask("read", {"scored": 2, "anew": True}, {"ids": np.array(ids, np.int32)})


@pytest.mark.parametrize("mood", ["", "prints"])
def test_it_answers_whatever_it_prints(tmp_path, monkeypatch, mood):
    monkeypatch.setenv("FAKE_MOOD", mood)
    with FAKE.start() as process:
        answer = read(process, tmp_path)
        np.testing.assert_array_equal(answer.arrays["logits"], [logits_after([1, 2]), logits_after([1, 2, 3])])
        assert answer.values["seconds"] > 0
        assert answer.values["peak_bytes"] > 2**20
        number = process._process.pid
        assert is_running(number)
    assert not is_running(number)


@pytest.mark.parametrize(
    ("mood", "told"),
    [
        (
            "dies",
            r"The process of fake ended before it answered \(read\) \(SIGSEGV\)\. It last said: out of everything",
        ),
        ("explodes", r"ended before it answered \(read\) \(exit code 1\)\. It last said: OSError: no such device"),
        ("garbles", "gave an answer that is none: it begins with b'llama_model_load'"),
        ("claims", "gave an answer that is none: it claims"),
        ("hangs", r"did not answer within 2 seconds \(read\)"),
    ],
)
def test_what_goes_wrong_is_one_sentence_and_nothing_is_left(tmp_path, monkeypatch, mood, told):
    monkeypatch.setenv("FAKE_MOOD", mood)
    with Process("fake", "fake_runtime", patience_seconds=2.0 if mood == "hangs" else 60.0) as process:
        number = process._process.pid
        with pytest.raises(RunnerError, match=told):
            read(process, tmp_path)
        assert not is_running(number)


def test_what_it_refuses_is_said_in_its_words(tmp_path):
    with FAKE.start() as process:
        with pytest.raises(RunnerError, match=r"^fake failed: there is no .*nothing\.gguf\.$"):
            read(process, tmp_path / "nothing.gguf")
        assert not is_running(process._process.pid)


def test_a_module_that_is_not_there_is_told():
    with Process("fake", "no_such_module") as process, pytest.raises(RunnerError, match="No module named no_such"):
        process.ask("load", {})


def test_a_request_longer_than_a_pipe_holds_arrives(tmp_path):
    ids = np.arange(200_000, dtype=np.int32)
    with FAKE.start() as process:
        process.ask("load", {**LOAD, "source": str(tmp_path)})
        answer = process.ask("read", {"scored": 1, "anew": True}, {"ids": ids})
    np.testing.assert_array_equal(answer.arrays["logits"][0], logits_after(ids))


PARENT = """
import sys
from fake_runtime import FAKE
with FAKE.start() as process:
    process.ask("load", {"source": "/", "context": 8, "threads": 1, "options": {}})
    print(process._process.pid, flush=True)
    import numpy as np
    process.ask("read", {"scored": 1, "anew": True}, {"ids": np.ones(1, np.int32)})
"""


@pytest.mark.slow
def test_it_ends_with_the_process_that_started_it(monkeypatch):
    monkeypatch.setenv("FAKE_MOOD", "hangs")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, env=environment) as parent:
        number = int(parent.stdout.readline())
        assert is_running(number)
        parent.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 20
    while is_running(number) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_running(number)


def test_what_is_not_installed_is_told_with_the_way_out():
    missing = Runtime(name="x", formats=(), package="no_such_package", distribution="x", extra="llama", module="x")
    assert FAKE.missing == ""
    with pytest.raises(RunnerError, match=r"x is not installed\. .* pip install 'pytest-quantbench\[llama\]'"):
        missing.start()


def test_every_format_has_at_most_one(tmp_path):
    assert runtime_for("gguf").name == "llama.cpp"
    assert runtime_for("mlx").name == "mlx-lm"
    assert runtime_for("gptq") is None
    formats = [name for each in RUNTIMES for name in each.formats]
    assert len(formats) == len(set(formats))
    files = [tmp_path / "a-00001-of-00002.gguf", tmp_path / "a-00002-of-00002.gguf"]
    assert runtime_for("gguf").source(files) == files[0]
    assert runtime_for("mlx").source(files) == tmp_path


def test_threads_are_those_that_openmp_is_told(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert default_threads() == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "many")
    assert 1 <= default_threads() <= os.cpu_count()
