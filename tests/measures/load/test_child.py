"""Imports are counted once, whoever asks for them and however deep, and belong to the start."""

import builtins
import importlib
import sys
import time
from collections import deque

import pytest

from pytest_quantbench.measures.load.child import Imports, Loader


@pytest.fixture
def slow_modules(tmp_path, monkeypatch):
    """Two modules, of which one imports the other, and takes a tenth of a second besides."""
    (tmp_path / "qb_outer.py").write_text("import qb_inner, time\ntime.sleep(0.1)\n")
    (tmp_path / "qb_inner.py").write_text("import time\ntime.sleep(0.1)\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(builtins, "__import__", builtins.__import__)  # put back what `watch` replaces
    monkeypatch.setattr(importlib, "import_module", importlib.import_module)
    yield
    for name in ("qb_outer", "qb_inner"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("how", ["statement", "function"])
def test_what_a_module_imports_in_turn_is_counted_once(slow_modules, how):
    imports = Imports()
    imports.watch()
    began = time.monotonic()
    if how == "statement":
        import qb_outer  # noqa: F401
    else:
        importlib.import_module("qb_outer")
    took = time.monotonic() - began
    assert 0.2 <= imports.seconds <= took
    before = imports.seconds
    time.sleep(0.05)
    assert imports.seconds - before < 0.01


def test_an_import_that_fails_is_counted_too(slow_modules):
    imports = Imports()
    imports.watch()
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("qb_that_is_nowhere")
    assert imports.seconds > 0
    importlib.import_module("qb_inner")
    assert imports.seconds > 0.1


def test_imports_of_any_stage_are_the_starts(slow_modules):
    loader = Loader()
    loader._began, loader._imported = time.monotonic(), loader._imports.seconds
    loader._done("start")
    time.sleep(0.1)
    importlib.import_module("qb_outer")
    loader._done("opening")
    found = deque(loader.seconds.items())
    assert [stage for stage, _ in found] == ["start", "opening"]
    assert loader.seconds["start"] >= 0.2
    assert 0.1 <= loader.seconds["opening"] < loader.seconds["start"] + 0.1
