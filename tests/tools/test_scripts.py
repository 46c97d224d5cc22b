"""Every script of tools/ and benches/ can be imported, so that what it uses is still where it looks for it."""

from pathlib import Path

import pytest
from gates import run_python

ROOT = Path(__file__).parent.parent.parent
FILES = (path for folder in ("tools", "benches") for path in ROOT.joinpath(folder).rglob("*.py"))
SCRIPTS = sorted(path.relative_to(ROOT) for path in FILES)
PROGRAMS = [script for script in SCRIPTS if "__main__" in ROOT.joinpath(script).read_text()]


@pytest.mark.parametrize("script", SCRIPTS, ids=str)
def test_a_script_can_be_imported(script):
    """Under another name than `__main__`, with which it would run, and in a process of its own: PyTorch and
    Transformers bear being imported only once, and pytester forgets modules.
    """
    found = run_python(f"import runpy; runpy.run_path({str(ROOT / script)!r}, run_name='imported')", ROOT)
    assert found.returncode == 0, found.stderr


@pytest.mark.parametrize("script", PROGRAMS, ids=str)
def test_a_program_says_how_it_is_called(script):
    assert f"python {script.as_posix()}" in ROOT.joinpath(script).read_text().split('"""')[1]


def test_there_are_scripts():
    assert {Path("tools/peers/quality.py"), Path("benches/test_size.py")} <= set(SCRIPTS)
    assert Path("tools/kill_runs.py") in PROGRAMS
