"""Run Python programs that a model wrote, each in a process of its own with limits on time, memory and files.

This keeps mistakes in: endless loops, memory without end, files and processes left behind, output, our environment
variables. It is no protection from malice. A program can use the network, read whatever this user can read (a token
that the Hub's library keeps in a file included) and write or delete outside its own folder. A process that it moves
out of its process group outlives it, until it has used up its own CPU seconds. On macOS memory is not limited at all,
for the system does not enforce RLIMIT_AS. Where that matters, run the tests in a container or a virtual machine without
a network.

The number of processes is not limited: the system counts all of a user's, so that a program's luck would depend on what
else is running. Memory and file size are limited for each process and file, not for all that a program starts.
"""

import math
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pytest_quantbench.errors import SandboxError
from pytest_quantbench.measures.accuracy import sandbox_child
from pytest_quantbench.progress import track

FILE_BYTES = 2**24  # no file that a program writes gets larger
LAST_WAITS = 50  # of 10 ms, for killed processes to be gone before their folder is removed
CHANNEL_BYTES = 4096  # a report is shorter


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """Whether the program reached its end, and what ended it otherwise."""

    passed: bool
    why: str


def run(program: str, *, seconds: float, memory_bytes: int) -> Execution:
    """Run a program with this Python, isolated, in an empty folder, without standard input; its output is discarded.

    It passes when it reaches its end within `seconds` on the clock, the interpreter's start included; after an exit,
    whatever its code, it has not. `memory_bytes` limits the address space of each process, of which Python itself takes
    some 30 MB and libraries with threads of their own much more.
    """
    token = secrets.token_hex(16)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        code, report = _executed(folder, f"{token}\n{program}", seconds, memory_bytes)
    if report == token:
        return Execution(passed=True, why="reached its end")
    return Execution(passed=False, why=report or _why(code, seconds))


def run_all(programs: Sequence[str], *, seconds: float, memory_bytes: int, what: str) -> list[Execution]:
    """Run programs, as many at once as there are cores; the results in their order. `what` names the bar of progress.

    Raises SandboxError where not even an empty program passes: no figure could be told from a model's failure.
    """
    nothing = run("", seconds=seconds, memory_bytes=memory_bytes)
    if not nothing.passed:
        raise SandboxError(
            f"An empty program does not pass here ({nothing.why}) within {seconds:g} s and {memory_bytes:,} bytes, so "
            f"nothing that a model writes could. Allow more, and see whether `env -i {sys.executable} -I -c 0` works."
        )
    with ThreadPoolExecutor(_cores()) as pool:
        executions = pool.map(lambda program: run(program, seconds=seconds, memory_bytes=memory_bytes), programs)
        return list(track(executions, what=what, unit="program", total=len(programs)))


def _executed(folder: str, content: str, seconds: float, memory_bytes: int) -> tuple[int | None, str]:
    """The exit code, None where time ended first, and what the program's process reported."""
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb", 0) as channel:
        try:
            process = _started(folder, writing, math.ceil(seconds) + 1, memory_bytes)
        finally:
            os.close(writing)
        try:
            with suppress(subprocess.TimeoutExpired):
                process.communicate(content.encode(errors="replace"), timeout=seconds)
            code = process.poll()
        finally:
            _end(process)
        os.set_blocking(reading, False)  # a process that got away may hold the other end
        return code, (channel.read(CHANNEL_BYTES) or b"").decode(errors="replace")


def _started(folder: str, channel: int, cpu_seconds: int, memory_bytes: int) -> subprocess.Popen[bytes]:
    limits = [str(limit) for limit in (channel, cpu_seconds, memory_bytes, FILE_BYTES)]
    return subprocess.Popen(
        [sys.executable, "-I", "-B", "-X", "utf8", str(Path(sandbox_child.__file__).resolve()), *limits],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=folder,
        env={},
        pass_fds=[channel],
        start_new_session=True,  # a process group of its own, to be killed whole
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill the whole process group and wait until nothing is left of it."""
    for _ in range(LAST_WAITS):
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):  # macOS says the latter of those that are dead
            break
        time.sleep(0.01)
        process.poll()  # collects the first of the group, which would count as there
    if process.stdin is not None:
        process.stdin.close()
    process.wait()


def _why(code: int | None, seconds: float) -> str:
    """What ended a program that reported nothing."""
    if code is None:
        return f"took longer than {seconds:g} s"
    if code < 0:
        return f"killed by signal {-code} ({signal.strsignal(-code)})"
    return f"ended with exit code {code} before its end"


def _cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
