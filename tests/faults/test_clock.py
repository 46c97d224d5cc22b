"""A clock that goes backwards, or jumps: the same results, and no time that is negative."""

import ast
import datetime as dates
import itertools
import json
import os
import time
from pathlib import Path

import pytest
from builders import artifact_content, open_model

import pytest_quantbench
from pytest_quantbench.bench.subject import Subject
from pytest_quantbench.catalog.models import TINY_DIRECTORY, user_model
from pytest_quantbench.catalog.recipes import recipe
from pytest_quantbench.catalog.settings import Settings
from pytest_quantbench.compress.pipeline import compress
from pytest_quantbench.record import assembly
from pytest_quantbench.storage import files, locks
from pytest_quantbench.storage.cache import SAMPLES

PACKAGE = Path(pytest_quantbench.__file__).parent
INT4 = recipe("int4-rtn")
WALL_CLOCK = {"time.time", "time.time_ns", "datetime.now", "datetime.utcnow", "datetime.today", "time.clock_gettime"}


@pytest.fixture
def backwards(monkeypatch):
    """Every look at the clock on the wall is a day before the one before."""
    days = itertools.count()

    class Backwards(dates.datetime):
        @classmethod
        def now(cls, tz=None):
            return dates.datetime(2026, 1, 1, tzinfo=tz) - dates.timedelta(days=next(days))

    monkeypatch.setattr(time, "time", lambda: 1.8e9 - 86_400 * next(days))
    monkeypatch.setattr(time, "time_ns", lambda: 1_800_000_000 * 10**9 - 86_400 * 10**9 * next(days))
    for module in (assembly, locks):
        monkeypatch.setattr(module, "datetime", Backwards)


def timeless(cell):
    """T2's figures but for the time that they took."""
    return cell.figures("perplexity") | {"time_sec": None}


def measured(model, cache):
    """T1, T2, size and weights of a small model."""
    settings = Settings(
        cache=cache, runs=1, tokens=128, fixed=True, corpus=TINY_DIRECTORY / "heldout.txt", calibration="none"
    )
    cell = Subject(user_model(str(model)), settings).cell(INT4)
    for check in ("size", "perplexity"):
        cell.judge(check)
    assert cell.samples("weights")
    return cell


def test_a_clock_that_goes_backwards_changes_nothing(small_model, tmp_path, request):
    model = small_model()
    before = measured(model, tmp_path / "before")
    request.getfixturevalue("backwards")
    now = measured(model, tmp_path / "now")
    assert artifact_content(now.artifact) == artifact_content(before.artifact)
    assert timeless(now) == timeless(before)
    assert now.figures("weights") == before.figures("weights")
    assert now.samples("perplexity").seconds >= 0
    assert now.artifact.manifest.seconds > 0
    again = measured(model, tmp_path / "now")
    assert again.schedule.samples.reused
    assert timeless(again) == timeless(before)
    dated = [cell.record().timestamp for cell in (now, again)]
    assert dated == sorted(dated, reverse=True)  # as the clock says


def test_what_is_set_aside_twice_in_a_moment_is_there_twice(tmp_path, backwards):
    for text in ("first", "second"):
        (tmp_path / "file").write_text(text)
        files.set_aside(tmp_path / "file")
    assert sorted(path.read_text() for path in tmp_path.iterdir()) == ["first", "second"]


@pytest.mark.parametrize("seconds", [0, 2**33], ids=["of 1970", "of a day to come"])
def test_files_of_another_time_are_taken_for_what_they_hold(small_model, tmp_path, seconds):
    model, cache = small_model(), tmp_path / "cache"
    first = measured(model, cache)
    for path in [*model.rglob("*"), *cache.rglob("*")]:
        os.utime(path, (seconds, seconds))
    again = measured(model, cache)
    assert artifact_content(again.artifact) == artifact_content(first.artifact)
    assert set(again.schedule.samples.reused) == {
        "T2 of llama-0-0-bf16",
        "T2 of llama-0-0-int4-rtn",
        "weights of llama-0-0-int4-rtn",
    }
    file = next(path for path in SAMPLES.all_in(cache))
    file.write_bytes(file.read_bytes()[:-1])
    os.utime(file, (seconds, seconds))
    assert timeless(measured(model, cache)) == timeless(first)


def test_a_compression_goes_on_whenever_its_layers_were_made(small_model, tmp_path):
    model = small_model()
    whole = compress(open_model(model), INT4, 0, tmp_path / "other", None)
    made = compress(open_model(model), INT4, 0, tmp_path / "cache", None)
    manifest = made.directory / "manifest.json"
    building = made.directory.rename(made.directory.with_name(f".building-{made.directory.name}"))
    (building / manifest.name).unlink()
    for path in building.iterdir():
        os.utime(path, (0, 0))
    resumed = compress(open_model(model), INT4, 0, tmp_path / "cache", None)
    assert artifact_content(resumed) == artifact_content(whole)
    assert json.loads(manifest.read_text())["seconds"] >= 0


def clocks(path):
    """(line, clock) wherever a module looks at the clock on the wall."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and ast.unparse(node) in WALL_CLOCK:
            yield path.name, ast.unparse(node)
        if isinstance(node, ast.ImportFrom) and node.module == "time":
            yield from ((path.name, f"time.{alias.name}") for alias in node.names)


def test_durations_are_of_clocks_that_only_go_forward():
    """There is one look at the wall: for the date of a record."""
    found = {use for path in PACKAGE.rglob("*.py") for use in clocks(path)}
    assert found == {("assembly.py", "datetime.now"), ("locks.py", "datetime.now")}
