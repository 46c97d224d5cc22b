"""Gates as users write them, for tests that run the plugin from outside."""

import subprocess
import sys
from pathlib import Path

BENCHES = Path(__file__).parents[1] / "benches"
GATE = """
import pytest

@pytest.mark.size
def test_size(cell, settle):
    settle(cell.judge("size"))
"""
CHECKS = """
import pytest

@pytest.mark.t2
def test_perplexity(cell, settle):
    settle(cell.judge_all("perplexity"))
"""


def run_python(code: str, directory: Path) -> "subprocess.CompletedProcess[str]":
    """Python code in a process of its own, from this directory."""
    return subprocess.run([sys.executable, "-c", code], cwd=directory, capture_output=True, text=True, timeout=120)
