"""Starts small_disks.py in a namespace where disks can be mounted, or skips where there can be none."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

NAMESPACE = ["unshare", "--map-root-user", "--mount"]


def test_small_disks_and_such_as_cannot_be_written(tmp_path):
    mount = f"mount -t tmpfs none {tmp_path}"
    if not shutil.which("unshare") or subprocess.run([*NAMESPACE, "sh", "-c", mount], check=False).returncode:
        pytest.skip("no disk can be mounted here")
    command = [*NAMESPACE, sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--basetemp", str(tmp_path / "t")]
    file = Path(__file__).with_name("small_disks.py")
    run = subprocess.run([*command, str(file)], cwd=file.parents[2], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
