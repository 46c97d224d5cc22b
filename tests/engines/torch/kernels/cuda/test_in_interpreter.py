"""All tests of `interpreted/`, in a process in which Triton interprets its kernels on the CPU."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("triton")

FOLDER = Path(__file__).parent / "interpreted"


def passed(level):
    """How many tests of this level there are, all of which pass."""
    command = [sys.executable, "-m", "pytest", FOLDER, "-q", "-x", "-m", level, "-p", "no:cacheprovider"]
    done = subprocess.run(command, env=os.environ | {"TRITON_INTERPRET": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    return int(re.search(r"(\d+) passed", done.stdout)[1])


def test_kernels_compute_what_the_decoded_matrix_computes():
    assert passed("not slow") >= 20


@pytest.mark.slow
def test_over_shapes_groups_bits_and_tokens():
    assert passed("slow") >= 300
