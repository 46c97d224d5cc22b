"""A runtime for tests, started as a process: a model whose logits are a few lines of arithmetic, and what can go wrong.

`FAKE_MOOD` says what it does besides: `dies`, `garbles`, `hangs`, `prints`, `explodes`, `claims`, or nothing.
"""

import os
import signal
import sys
import time

import numpy as np

from pytest_quantbench.engines.runtimes import Runtime
from pytest_quantbench.engines.runtimes.child import Refused, serve

VOCABULARY = 2048  # as many as Tiny has
FAKE = Runtime(
    name="fake", formats=("fake",), package="numpy", distribution="numpy", extra="fake", module="fake_runtime"
)


def logits_after(ids, vocabulary=VOCABULARY):
    """(vocabulary,) float32 logits behind these tokens: waves whose length is a sum over all of them by place."""
    length = sum((place + 1) * int(token) for place, token in enumerate(ids)) % 97 + 3
    return (4 * np.sin(np.arange(vocabulary) * 2 * np.pi / length)).astype(np.float32)


class Fake:
    """A `Runner`."""

    def __init__(self):
        self.seen = []

    def load(self, source, *, context, threads, options):
        if not source.exists():
            raise Refused(f"there is no {source}")
        self.vocabulary = options.get("vocabulary", VOCABULARY)
        return {"vocabulary": self.vocabulary, "told": f"{threads} threads, {context} positions"}

    def forget(self):
        self.seen = []

    def read(self, ids, scored):
        MOODS.get(os.environ.get("FAKE_MOOD", ""), lambda: None)()
        rows = []
        for place, token in enumerate(ids):
            self.seen.append(token)
            if place >= len(ids) - scored:
                rows.append(logits_after(self.seen, self.vocabulary))
        return np.array(rows, np.float32).reshape(scored, self.vocabulary)


def die():
    print("out of everything", file=sys.stderr)
    os.kill(os.getpid(), signal.SIGSEGV)


def explode():
    raise OSError("no such device")


MOODS = {
    "dies": die,
    "explodes": explode,
    "hangs": lambda: time.sleep(600),
    "prints": lambda: (print("loading tensors…"), os.write(1, b"and more\n")),
}
GARBAGE = {"garbles": b"llama_model_loader: loaded meta data\n", "claims": b"QBR1" + b"\xff" * 12}


if __name__ == "__main__":
    if (mood := os.environ.get("FAKE_MOOD", "")) in GARBAGE:
        os.write(1, GARBAGE[mood])
    serve(Fake)
