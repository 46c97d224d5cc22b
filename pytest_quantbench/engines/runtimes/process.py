"""A runtime's own process, from this side: requests, answers within a time, and an end whatever happens.

What goes wrong in it cannot take this process along: a crash of a native library, a loop without end, memory that is
not there. Each becomes one RunnerError with the last that the process said, and nothing of it is left running.
"""

import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from pytest_quantbench.engines.runtimes.frames import HEAD, Arrays, Garbled, Message, lengths, packed, unpacked
from pytest_quantbench.errors import RunnerError

PATIENCE_SECONDS = 900.0  # for one answer: a large file from a slow disk, a long text on a slow machine
SAID = 300  # characters of what a process said last
PIECE = 2**20  # bytes that are taken from a pipe at once


class Process:
    """One process, which ends with the block that it is used in: `with Process(…) as process`."""

    def __init__(self, name: str, module: str, *, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self.name, self._patience = name, patience_seconds
        with ExitStack() as opened:  # closed by `end`, or here where the process cannot be started
            self._said = opened.enter_context(tempfile.TemporaryFile())
            self._process = self._started(module)
            self._requests, self._answers = (
                self._unblocked(pipe, opened) for pipe in (self._process.stdin, self._process.stdout)
            )
            self._open = opened.pop_all()

    def _started(self, module: str) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path)},
            start_new_session=True,  # a process group of its own, to be ended whole
        )

    def _unblocked(self, pipe: IO[bytes] | None, opened: ExitStack) -> int:
        """The number of a pipe that is never waited for but with a deadline."""
        assert pipe is not None
        opened.callback(pipe.close)
        os.set_blocking(pipe.fileno(), False)
        return pipe.fileno()

    def __enter__(self) -> "Process":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def ask(self, what: str, values: Mapping[str, Any], arrays: Arrays | None = None) -> Message:
        """The answer to one request. Raises RunnerError where there is none, and ends the process then."""
        deadline = time.monotonic() + self._patience
        try:
            self._send(packed(Message(values={"do": what, **values}, arrays=arrays or {})), deadline)
            told, content = lengths(self._received(HEAD.size, deadline))
            answer = unpacked(self._received(told, deadline), self._received(content, deadline))
        except Garbled as error:
            raise self._failed(f"gave an answer that is none: {error}") from error
        except TimeoutError as error:
            raise self._failed(f"did not answer within {self._patience:g} seconds ({what})") from error
        except (BrokenPipeError, EOFError) as error:
            raise self._failed(f"ended before it answered ({what})") from error
        if (refused := answer.values.get("error")) is not None:
            self.end()
            raise RunnerError(f"{self.name} failed: {refused}.")
        return answer

    def _send(self, frame: bytes, deadline: float) -> None:
        left = memoryview(frame)
        while left:
            self._wait(self._requests, selectors.EVENT_WRITE, deadline)
            with suppress(BlockingIOError):
                left = left[os.write(self._requests, left) :]

    def _received(self, size: int, deadline: float) -> bytes:
        found = bytearray()
        while len(found) < size:
            self._wait(self._answers, selectors.EVENT_READ, deadline)
            piece = os.read(self._answers, min(size - len(found), PIECE))
            if not piece:
                raise EOFError
            found += piece
        return bytes(found)

    def _wait(self, pipe: int, event: int, deadline: float) -> None:
        """Until a pipe can be used. Raises TimeoutError."""
        with selectors.DefaultSelector() as selector:
            selector.register(pipe, event)
            if not selector.select(max(0.0, deadline - time.monotonic())):
                raise TimeoutError

    def _failed(self, what: str) -> RunnerError:
        """End the process, and say what it did, how it ended and what it said last."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(0.2)  # one that is about to end says why by its exit code
        code = self._process.poll()
        how = "" if code is None else f" (exit code {code})" if code >= 0 else f" ({signal.Signals(-code).name})"
        self._said.seek(0, os.SEEK_END)
        self._said.seek(max(0, self._said.tell() - SAID))
        lines = self._said.read().decode(errors="replace").strip().splitlines()
        self.end()
        said = f" It last said: {lines[-1]}" if lines else ""
        return RunnerError(f"The process of {self.name} {what}{how}.{said}")

    def end(self) -> None:
        """Kill the process with all that it started, and let go of its pipes. Once is enough."""
        with suppress(ProcessLookupError, PermissionError):  # macOS says the latter of those that are dead
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._open.close()
