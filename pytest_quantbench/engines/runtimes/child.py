"""The side of a runtime's own process: it takes requests from standard input and answers on standard output.

A module that runs models calls `serve` with what runs them. The two pipes are moved out of the way first, so that what
a library prints goes to standard error, which the other side keeps for the case that something fails. It ends when its
input does, and within a second of the process that started it, should that be killed.
"""

import os
import resource
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from pytest_quantbench.engines import process_memory
from pytest_quantbench.engines.runtimes.frames import HEAD, Message, lengths, packed, unpacked

BATCH_TOKENS = 512  # that are read at once, which is what llama.cpp by default computes at once
WATCHED_EVERY_SECONDS = 0.5
Ids = NDArray[np.int32]
R = TypeVar("R")
Rows = NDArray[np.float32]


class Refused(Exception):
    """The runtime does not take a file, or fails on it: one sentence for the user."""


class Runner(Protocol):
    """What runs one model at a time, with a cache of keys and values that goes on from call to call."""

    def load(self, source: Path, *, context: int, threads: int, options: Mapping[str, Any]) -> Mapping[str, Any]:
        """Load a file or directory, for so many positions: `vocabulary`, how many logits a position has, and `told`,
        in one line how the model is run. Raises Refused.
        """

    def forget(self) -> None:
        """Empty the cache: the next token stands at position 0."""

    def read(self, ids: Ids, scored: int) -> Rows:
        """Read (n,) tokens, at most BATCH_TOKENS, behind those in the cache; (scored, vocabulary) logits of the last so
        many. Raises Refused.
        """


def serve(make: Callable[[], Runner]) -> None:
    """Answer what a runtime is asked until nobody asks any more."""
    answer_with(make, ANSWERS)


def answer_with(make: Callable[[], R], how: Mapping[str, Callable[[R, Message], Message]]) -> None:
    """Answer requests until there are none: `how` has a function for each kind of them, which gets what `make` made.
    Every answer also tells the process's memory, now and at most.
    """
    asked, answers = _apart()
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    runner = make()
    while (request := _received(asked)) is not None:
        try:
            answer = how[request.values["do"]](runner, request)
        except Refused as refused:
            answer = Message(values={"error": str(refused)})
        told = {**answer.values, "peak_bytes": peak_bytes(), "resident_bytes": process_memory.resident()}
        answers.write(packed(Message(values=told, arrays=answer.arrays)))
        answers.flush()


def _end_with(parent: int) -> None:
    """End this process when its parent is gone: it may be in the middle of long work, and nobody waits for that."""
    while os.getppid() == parent:
        time.sleep(WATCHED_EVERY_SECONDS)
    os._exit(1)


def _apart() -> tuple[BinaryIO, BinaryIO]:
    """The two pipes under numbers of their own; nobody reads from standard input, and prints go to standard error."""
    asked, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return asked, answers


def _received(asked: BinaryIO) -> Message | None:
    """The next request; None at the end."""
    head = asked.read(HEAD.size)
    if len(head) < HEAD.size:
        return None
    told, arrays = lengths(head)
    return unpacked(asked.read(told), asked.read(arrays))


def _load(runner: Runner, request: Message) -> Message:
    """`seconds` until the model can be asked, `at` which time of the system's clock it can, and the process's memory
    before: the most that it ever had, and what it had.
    """
    values, before, began = request.values, peak_bytes(), time.perf_counter()
    had = process_memory.resident()
    found = runner.load(
        Path(values["source"]), context=values["context"], threads=values["threads"], options=values["options"]
    )
    took = {"seconds": time.perf_counter() - began, "at": time.monotonic()}
    return Message(values={**found, **took, "before_bytes": before, "had_bytes": had})


def _read(runner: Runner, request: Message) -> Message:
    """`logits` (scored, vocabulary) of the last tokens; with `anew` the cache is emptied first."""
    began = time.perf_counter()
    if request.values["anew"]:
        runner.forget()
    rows = runner.read(request.arrays["ids"], request.values["scored"])
    return Message(values={"seconds": time.perf_counter() - began}, arrays={"logits": rows})


def _timed(runner: Runner, request: Message) -> Message:
    """Greedy generation behind a prompt: `tokens` (n,), and `seconds` (n,) from the start until each was there."""
    runner.forget()
    tokens, seconds = [], []
    ids, began = request.arrays["ids"], time.perf_counter()
    while len(ids) > BATCH_TOKENS:
        runner.read(ids[:BATCH_TOKENS], 0)
        ids = ids[BATCH_TOKENS:]
    for _ in range(request.values["new_tokens"]):
        tokens.append(int(runner.read(ids, 1)[0].argmax()))
        seconds.append(time.perf_counter() - began)
        ids = np.array(tokens[-1:], np.int32)
    return Message(values={}, arrays={"tokens": np.array(tokens, np.int32), "seconds": np.array(seconds)})


ANSWERS: Mapping[str, Callable[[Runner, Message], Message]] = {"load": _load, "read": _read, "timed": _timed}


def peak_bytes() -> int:
    """The most memory that this process has had, pages of mapped files included.

    Linux counts what the parent had when it forked into `ru_maxrss`, and tells the process's own peak elsewhere.
    """
    if sys.platform == "darwin":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    told = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return int(told.split()[1]) * 1024  # `VmHWM:    1234 kB`
