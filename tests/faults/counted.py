"""A plugin for sessions under test: what is built and walked is written to the file `$COUNTED`."""

import os
from pathlib import Path

from pytest_quantbench.bench.shared_walk import SharedWalk
from pytest_quantbench.compress.writer import Build


def counted(owner, name, told):
    original = getattr(owner, name)

    def run(self, *given):
        with Path(os.environ["COUNTED"]).open("a") as file:
            file.write(f"{owner.__name__} {told(self, *given)}\n")
        return original(self, *given)

    setattr(owner, name, run)


counted(Build, "run", lambda build, what: what)
counted(SharedWalk, "taken", lambda walk: walk.labels)
