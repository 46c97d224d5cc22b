"""Another process that holds a lock for a while."""

import subprocess
import sys

PROGRAM = """
import logging, sys, time
from pathlib import Path
from pytest_quantbench.storage.locks import held
logging.basicConfig()
with held(Path(sys.argv[1]), "counting"):
    print("in", flush=True)
    time.sleep(float(sys.argv[2]))
    print("out", flush=True)
"""


def lock_holder(path, seconds):
    """It says `in` when it has the lock, and `out` when so many seconds are over."""
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(path), str(seconds)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
