"""Whole sessions on the embedded model: killed and run again, two at once, and on several workers.

Dates and timings aside, all of them give what one gives that nobody disturbs. T1 is left to tools/kill_runs.py.
"""

import os
import subprocess
import sys
import time

import numpy as np
import pytest
from faults.warm import ROOT, Warm

from tools.kill_runs import Place, arguments, kill

KILLS = 3
ALL = ("-m", "not t1")
WITHOUT_QUESTIONS = ("-m", "size or t2 or weights")
WALKS = ["SharedWalk T2+T3"]  # of all three cells together


@pytest.fixture(scope="module")
def warm():
    process = Warm()
    yield process
    process.close()


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    return tmp_path_factory.mktemp("texts")


@pytest.fixture(scope="module")
def whole(warm, texts, tmp_path_factory):
    """What a session gives that nobody disturbed, and how long it took."""
    place, began = Place(tmp_path_factory.mktemp("whole")), time.monotonic()
    assert warm.wait(warm.start(place, arguments(place, texts, *ALL))) == 0, log(place)
    seconds = time.monotonic() - began
    assert sorted(counted(place)) == sorted([*WALKS, *builds(place)])
    assert (len(builds(place)), len(list(place.results.glob("*.npz"))), place.litter()) == (2, 3, [])
    return place.content(), seconds


def log(place):
    return (place.folder / "log.txt").read_text()


def counted(place):
    """What was built and walked."""
    file = place.folder / "counted.txt"
    return file.read_text().splitlines() if file.exists() else []


def builds(place):
    """What is counted where every artifact is built once."""
    return [f"Build {path.name}" for path in (place.cache / "artifacts").iterdir()]


@pytest.mark.parametrize("kill_number", range(KILLS))
def test_a_session_that_was_killed_is_completed_by_the_next(warm, whole, texts, tmp_path, kill_number):
    wanted, seconds = whole
    share = (kill_number + np.random.default_rng(kill_number).random()) / KILLS
    place = Place(tmp_path / "killed")
    process = warm.start(place, arguments(place, texts, *ALL))
    time.sleep(share * seconds)
    kill(process)
    assert warm.wait(process) == -9
    there = place.inventory()
    assert warm.wait(warm.start(place, arguments(place, texts, *ALL))) == 0, f"{there}\n{log(place)}"
    assert place.content() == wanted
    assert place.litter() == []


def test_of_two_sessions_at_once_one_does_the_work(warm, whole, texts, tmp_path):
    first, second = Place(tmp_path / "first"), Place(tmp_path / "second")
    second.folder.mkdir()
    first.cache.mkdir(parents=True)
    second.cache.symlink_to(first.cache)
    processes = [warm.start(place, arguments(place, texts, *ALL)) for place in (first, second)]
    assert [warm.wait(process) for process in processes] == [0, 0], log(first) + log(second)
    assert first.content() == second.content() == whole[0]
    assert sorted(counted(first) + counted(second)) == sorted([*WALKS, *builds(first)])
    taken = "taken from there (--fresh measures it again): T2 of Tiny-bf16, T3 of Tiny-bf16"
    assert sorted(taken in log(place) for place in (first, second)) == [False, True]
    assert first.litter() == second.litter() == []


@pytest.fixture(scope="module")
def without_questions(warm, texts, tmp_path_factory):
    """What a session without T3 gives: a worker would take seconds to import what asks questions."""
    place = Place(tmp_path_factory.mktemp("whole"))
    assert warm.wait(warm.start(place, arguments(place, texts, *WITHOUT_QUESTIONS))) == 0, log(place)
    return place.content()


@pytest.mark.parametrize("scheduling", ["load", "loadgroup"])
def test_workers_give_the_same_records_and_build_everything_once(without_questions, texts, tmp_path, scheduling):
    place = Place(tmp_path / "workers")
    place.folder.mkdir()
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT / "tests"), str(ROOT), os.environ.get("PYTHONPATH", "")]),
        "QUANTBENCH_CACHE": str(place.cache),
        "COUNTED": str(place.folder / "counted.txt"),
    }
    command = [sys.executable, "-m", "pytest", "-p", "faults.counted", "-n", "2", "--dist", scheduling]
    command += arguments(place, texts, *WITHOUT_QUESTIONS)
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    assert place.content() == without_questions
    assert sorted(each for each in counted(place) if each.startswith("Build")) == sorted(builds(place))
    if scheduling == "loadgroup":  # one worker has all cells of the model, and one walk
        assert [each for each in counted(place) if each.startswith("SharedWalk")] == ["SharedWalk T2"]
    assert place.litter() == []
