"""Every script of tools/ and benches/ can be imported, so that what it uses is still where it looks for it."""

import importlib.util
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
FILES = (path for folder in ("tools", "benches") for path in ROOT.joinpath(folder).rglob("*.py"))
SCRIPTS = sorted(path.relative_to(ROOT) for path in FILES)
PROGRAMS = [script for script in SCRIPTS if "__main__" in ROOT.joinpath(script).read_text()]


# PyTorch warns of itself while it is imported, by what was imported before it: it is no script's doing.
@pytest.mark.filterwarnings("ignore:Warning only once for all operators:UserWarning")
@pytest.mark.filterwarnings(r"ignore::UserWarning:torch\..*")
@pytest.mark.parametrize("script", SCRIPTS, ids=str)
def test_a_script_can_be_imported(script, monkeypatch):
    """Under another name than `__main__`, with which it would run."""
    spec = importlib.util.spec_from_file_location(f"imported_{script.stem}", ROOT / script)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)


@pytest.mark.parametrize("script", PROGRAMS, ids=str)
def test_a_program_says_how_it_is_called(script):
    assert f"python {script.as_posix()}" in ROOT.joinpath(script).read_text().split('"""')[1]


def test_there_are_scripts():
    assert {Path("tools/peers/quality.py"), Path("benches/test_size.py")} <= set(SCRIPTS)
    assert Path("tools/kill_runs.py") in PROGRAMS
