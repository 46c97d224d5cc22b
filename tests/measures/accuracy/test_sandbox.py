"""Programs that go well and programs that go wrong in every way that a language model has found."""

import os
import sys
import tempfile
import time
from pathlib import Path

import pytest

from pytest_quantbench.errors import SandboxError
from pytest_quantbench.measures.accuracy import sandbox
from pytest_quantbench.measures.accuracy.sandbox import Execution, run, run_all

MEMORY = 2**28
PASSED = Execution(passed=True, why="reached its end")
not_macos = pytest.mark.skipif(sys.platform == "darwin", reason="macOS does not enforce RLIMIT_AS")


def why(program, seconds=30.0, memory_bytes=MEMORY):
    execution = run(program, seconds=seconds, memory_bytes=memory_bytes)
    assert not execution.passed
    return execution.why


def passes(program, seconds=30.0):
    return run(program, seconds=seconds, memory_bytes=MEMORY) == PASSED


def seconds_of(call):
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


@pytest.fixture(autouse=True)
def nothing_left_behind(tmp_path, monkeypatch):
    """Every run's folder is made here, and none is left."""
    folder = tmp_path / "folders"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    "program",
    [
        "",
        "def add(a, b):\n    return a + b\n\nassert add(2, 3) == 5",
        "from dataclasses import dataclass\n@dataclass\nclass P:\n    x: int = 1\nassert P() == P(1)",
        "text = 'Ünïcödé 漢字 🙂'\nassert len(text) == 12",
        "import sys\nassert sys.argv[1:] == []",
        "torn = '\ud800'",
        "if __name__ == '__main__':\n    raise SystemExit('not run by code_eval either')",
        "print('x' * 10**7)\nimport sys\nprint('y' * 10**7, file=sys.stderr)",
        "x = '" + "long " * 10**5 + "'\nassert len(x) == 5 * 10**5",
        "import os, sys\nassert sys.stdin.read() == ''\nassert os.read(0, 1) == b''",
    ],
)
def test_what_reaches_its_end_passes(program):
    assert passes(program)


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        ("assert 1 + 1 == 3", "AssertionError"),
        ("assert 1 + 1 == 3, 'wrong sum'", "AssertionError: wrong sum"),
        ("def f(:", "SyntaxError: invalid syntax (<program>, line 1)"),
        ("x = 1\0", "null bytes"),
        ("undefined()", "NameError: name 'undefined' is not defined"),
        ("def f():\n    return f()\nf()", "RecursionError"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("input()", "EOFError"),
        ("raise ValueError('x' * 10**6)", "ValueError: xxx"),
        (
            "class Odd(Exception):\n    def __str__(self):\n        return 1 / 0\nraise Odd",
            "exit code 1 before its end",
        ),
        ("import sys\nassert 'torn' in sys.modules, '\\ud800'", "AssertionError: ?"),
    ],
)
def test_an_exception_is_named(program, expected):
    found = why(program)
    assert expected in found
    assert len(found) <= 300


@pytest.mark.parametrize("leave", ["import sys\nsys.exit(0)", "import os\nos._exit(0)", "raise SystemExit", "exit()"])
def test_leaving_before_the_assertions_is_not_passing(leave):
    assert why(f"{leave}\nassert False") == "ended with exit code 0 before its end"


def test_a_forked_copy_cannot_pass_for_the_program():
    program = "import os\npid = os.fork()\nif pid:\n    os.waitpid(pid, 0)\n    raise ValueError('parent')"
    assert why(program) == "ValueError: parent"


def test_a_forked_copy_that_fails_does_not_fail_the_program():
    assert passes("import os\npid = os.fork()\nif pid:\n    os.waitpid(pid, 0)\nelse:\n    raise ValueError('child')")


def test_what_a_program_writes_to_every_open_file_is_no_pass():
    assert not run(
        "import os\nfor fd in range(3, 100):\n    try:\n        os.write(fd, b'reached its end')\n"
        "    except OSError:\n        pass\nos._exit(0)",
        seconds=30,
        memory_bytes=MEMORY,
    ).passed


@pytest.mark.parametrize(
    "program", ["while True:\n    pass", "import time\ntime.sleep(60)", "import os\nos.read(0, 1)"]
)
def test_time_has_an_end(program):
    if "read" in program:
        assert passes(program)  # standard input is at its end, so nobody waits for it
        return
    assert seconds_of(lambda: why(program, seconds=0.5)) < 5
    assert why(program, seconds=0.5) == "took longer than 0.5 s"


def test_signals_ignored_do_not_help():
    stubborn = "import signal, time\nfor n in (2, 15):\n    signal.signal(n, signal.SIG_IGN)\ntime.sleep(60)"
    assert why(stubborn, seconds=1) == "took longer than 1 s"


@pytest.mark.parametrize("end", ["", "\nassert False, 'no'"])
def test_threads_that_go_on_are_not_waited_for(end):
    program = f"import threading, time\nthreading.Thread(target=time.sleep, args=(60,)).start(){end}"
    assert seconds_of(lambda: run(program, seconds=30, memory_bytes=MEMORY)) < 20
    assert run(program, seconds=30, memory_bytes=MEMORY).why == ("AssertionError: no" if end else "reached its end")


def test_exit_handlers_have_no_say():
    assert passes("import atexit, os\natexit.register(os._exit, 3)")


@pytest.mark.parametrize("number", [11, pytest.param(40, marks=not_macos)])
def test_a_signal_is_named(number):
    assert why(f"import os\nos.kill(os.getpid(), {number})").startswith(f"killed by signal {number} (")


@not_macos
@pytest.mark.parametrize("program", ["bytearray(2**30)", "x = []\nwhile True:\n    x.append(bytearray(2**20))"])
def test_memory_has_an_end(program):
    assert why(program) == "MemoryError"
    assert run("x = bytearray(2**27)", seconds=30, memory_bytes=MEMORY).passed


@not_macos
def test_too_little_memory_for_python_itself_is_no_pass():
    assert not run("pass", seconds=30, memory_bytes=2**20).passed


def test_a_huge_file_ends_at_the_limit():
    program = (
        f"with open('huge', 'wb') as f:\n    for _ in range(100):\n        f.write(bytes({sandbox.FILE_BYTES // 50}))"
    )
    assert "File too large" in why(program)


def gone(pid, within=20.0):
    """Whether a process ends: not there any more, or only waiting for the system to collect it."""
    end = time.monotonic() + within
    while time.monotonic() < end:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        stat = Path(f"/proc/{pid}/stat")
        if stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.02)
    return False


CHILD = "import os, time\nif os.fork() == 0:\n    open({path!r}, 'w').write(str(os.getpid()))\n    {rest}\n"
WAIT = "while not os.path.exists({path!r}) or not open({path!r}).read():\n    time.sleep(0.01)\n"


@pytest.mark.slow
@pytest.mark.parametrize("end", ["", "raise ValueError", "time.sleep(60)"])
def test_children_do_not_outlive_the_program(end, tmp_path):
    path = str(tmp_path / "pid")
    program = CHILD.format(path=path, rest="time.sleep(600)") + WAIT.format(path=path) + end
    execution = run(program, seconds=5, memory_bytes=MEMORY)
    assert execution.passed == (end == "")
    assert gone(int(Path(path).read_text()), within=5)


def test_a_program_started_by_the_program_does_not_outlive_it(tmp_path):
    path = tmp_path / "pid"
    assert passes(
        "import subprocess, sys\nchild = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"open({str(path)!r}, 'w').write(str(child.pid))"
    )
    assert gone(int(path.read_text()), within=5)


@pytest.mark.slow
def test_one_that_leaves_the_group_has_its_cpu_seconds_and_no_more(tmp_path):
    path = str(tmp_path / "pid")
    program = CHILD.format(path=path, rest="os.setsid()\n    while True:\n        pass") + WAIT.format(path=path)
    assert passes(program, seconds=1)
    pid = int(Path(path).read_text())
    try:
        assert gone(pid, within=60)
    finally:
        if not gone(pid, within=0.1):
            os.kill(pid, 9)


def test_many_children_end_too():
    program = "import os\nfor _ in range(30):\n    if os.fork() == 0:\n        while True:\n            pass\n"
    assert passes(program)


def test_the_environment_is_empty(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "secret")
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    monkeypatch.setenv("PYTHONSTARTUP", "/somewhere/start.py")
    assert passes(
        "import os, sys\nassert not os.environ, dict(os.environ)\nassert '/somewhere' not in sys.path\n"
        "assert not os.path.exists('/proc/self/environ') or 'secret' not in open('/proc/self/environ').read()"
    )


def test_it_starts_in_an_empty_folder_of_its_own(tmp_path):
    own = "import os, tempfile\nassert os.listdir() == []\nopen('left', 'w').write('x')\nos.mkdir('deep')\n"
    assert passes(own)
    assert why(own + "raise ValueError(os.getcwd())").startswith(f"ValueError: {tmp_path.resolve() / 'folders'}")
    assert passes(own + "os.chmod('deep', 0)\nos.chmod('.', 0)")


def test_modules_of_the_folder_or_of_ours_are_not_in_the_way(tmp_path, monkeypatch):
    (tmp_path / "math.py").write_text("raise RuntimeError('ours')")
    monkeypatch.chdir(tmp_path)
    assert passes("import math\nassert math.floor(2.5) == 2")
    assert why("import resource_of_nobody") == "ModuleNotFoundError: No module named 'resource_of_nobody'"
    assert why("import math, sandbox") == "ModuleNotFoundError: No module named 'sandbox'"


def test_open_files_are_not_handed_on(tmp_path):
    with open(tmp_path / "secret", "w") as file:
        os.set_inheritable(file.fileno(), True)
        program = (
            "import os\nfor fd in range(200):\n    try:\n        found = os.fstat(fd).st_ino\n"
            f"    except OSError:\n        continue\n    assert found != {os.fstat(file.fileno()).st_ino}"
        )
        assert passes(program)


def test_all_run_in_their_order_and_beside_each_other(monkeypatch):
    monkeypatch.setattr(sandbox, "_cores", lambda: 4)
    programs = [f"import time\ntime.sleep({(8 - n) / 20})\nassert {n} % 3, 'number {n}'" for n in range(8)]
    executions = run_all(programs, seconds=30, memory_bytes=MEMORY, what="")
    assert [execution.passed for execution in executions] == [n % 3 > 0 for n in range(8)]
    assert executions[3].why == "AssertionError: number 3"
    sleeps = ["import time\ntime.sleep(1)"] * 4
    assert seconds_of(lambda: run_all(sleeps, seconds=30, memory_bytes=MEMORY, what="")) < 3.5
    assert run_all([], seconds=30, memory_bytes=MEMORY, what="") == []


def test_as_many_at_once_as_there_are_cores():
    assert 1 <= sandbox._cores() <= (os.cpu_count() or 1)


@not_macos
def test_where_nothing_can_pass_that_is_an_error_and_no_figure():
    with pytest.raises(SandboxError, match=r"An empty program does not pass here \(.*\) within 30 s and 1,024 bytes"):
        run_all(["pass"], seconds=30, memory_bytes=1024, what="")
