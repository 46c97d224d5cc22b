"""docs/compare.md, as a user types it into a shell."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_quantbench.judge.change import FIGURES
from pytest_quantbench.record import folder

PAGE = (Path(__file__).parents[2] / "docs" / "compare.md").read_text()


@pytest.mark.slow
def test_the_pages_examples_end_as_it_says(tmp_path):
    """One after the other: equal runs are found equal, a gate on the baseline passes, shards become one folder."""
    blocks = re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)
    script = "\n".join(blocks).replace("quantbench ", f"{sys.executable} -m pytest_quantbench.cli ")
    known = {name: value for name, value in os.environ.items() if name != "PYTEST_PLUGINS"}
    found = subprocess.run(
        ["bash", "-ec", script], cwd=tmp_path, env=known, capture_output=True, text=True, timeout=400
    )
    assert found.returncode == 0, found.stdout + found.stderr
    said = " ".join(found.stdout.split())
    assert "No regression in 9 figures of 2 cells: all samples are the same to the last bit." in said
    assert re.search(r"baseline \S*monday: No regression in 5 figures of 1 cell: all samples are the same", said)
    assert "leads on the same" in said or "is the best of" in said
    assert {record.recipe for record in folder.read_all(tmp_path / "all")} == {"int4-rtn", "int3-rtn"}


def test_the_page_names_every_figure_that_a_worsening_is_allowed_of():
    (row,) = re.findall(r"^\| `--allow FIGURE=X` \| (.*?) \|$", PAGE, re.MULTILINE)
    assert set(re.findall(r"`(\w+)`", row)) == set(FIGURES)
