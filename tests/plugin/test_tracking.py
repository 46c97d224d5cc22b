"""Trackers: the calls, by a package of that name that keeps them; and the real ones, where they are installed."""

import sys
from types import SimpleNamespace

import pytest
from builders import make_record, make_verdict
from gates import GATE

from pytest_quantbench.errors import QuantbenchError
from pytest_quantbench.plugin import tracking
from pytest_quantbench.plugin.options import OPTIONS
from pytest_quantbench.record.publication_schema import ModelFacts

FAKE_TRACKIO = """
import json

def keep(*what):
    with open("told.jsonl", "a") as file:
        file.write(json.dumps(what) + "\\n")

def init(**told):
    print("noise")
    keep("init", told)

def log(figures):
    keep("log", figures)

def finish():
    keep("finish")
"""
QUICK = ("-k", "Tiny", "-m", "int4")


def record():
    return make_record(verdicts=(make_verdict("size_reduction_percent"),), session="s", revision="abc")


def test_the_options_choices_are_the_trackers():
    assert OPTIONS["track"].metavar == "|".join(tracking.TRACKERS)
    assert [OPTIONS["track"].read(name) for name in tracking.TRACKERS] == list(tracking.TRACKERS)


def test_what_is_not_installed_is_refused_before_anything_is_measured(suite, monkeypatch):
    for name in tracking.TRACKERS:
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(QuantbenchError, match=rf"--track {name}: .*\[{name}\]"):
            tracking.check([name])
    result = suite(GATE, *QUICK, "--track", "mlflow")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--track mlflow: mlflow is not installed.*"])


def test_each_cell_of_a_session_becomes_a_run(suite, pytester, monkeypatch):
    import json

    monkeypatch.delitem(sys.modules, "trackio", raising=False)
    (pytester.path / "trackio.py").write_text(FAKE_TRACKIO)
    monkeypatch.syspath_prepend(pytester.path)
    result = suite(GATE, *QUICK, "--track", "trackio")
    result.assert_outcomes(passed=1)
    told = [json.loads(line) for line in (pytester.path / "told.jsonl").read_text().splitlines()]
    assert [each[0] for each in told] == ["init", "log", "finish"]
    start, figures = told[0][1], told[1][1]
    assert (start["project"], start["name"], start["config"]["recipe"]) == ("quantbench", "Tiny-int4", "int4")
    assert start["config"]["verdict/size_reduction_percent"] == "pass"
    assert figures["size/bits_per_weight"] == pytest.approx(4.5, abs=0.1)
    result.stdout.fnmatch_lines(["tracked: 1 runs with trackio"])
    assert "noise" not in result.stdout.str()


@pytest.mark.parametrize("named", [True, False])
def test_mlflow_is_told_settings_figures_and_words(monkeypatch, named):
    from contextlib import nullcontext

    calls = []

    def called(name):
        def keep(*arguments, **told):
            calls.append((name, *arguments, told))
            return nullcontext()

        return keep

    for variable in ("MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID"):
        monkeypatch.delenv(variable, raising=False)
    if named:
        monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "theirs")
    names = ("set_experiment", "start_run", "log_params", "log_metrics")
    mlflow = SimpleNamespace(**{name: called(name) for name in names})
    tracking.TRACKERS["mlflow"].write(mlflow, tracking._run(record()))
    assert calls[0] == (("start_run", *calls[0][1:]) if named else ("set_experiment", "quantbench", {}))
    (start,) = [each for each in calls if each[0] == "start_run"]
    assert start[1]["tags"] == {"session": "s", "verdict/size_reduction_percent": "pass"}
    (settings,) = [each for each in calls if each[0] == "log_params"]
    assert settings[1]["revision"] == "abc"


@pytest.mark.parametrize("error", [OSError("no\nroom"), ValueError("no room"), RuntimeError("no room")])
def test_a_tracker_that_fails_costs_a_sentence_and_no_records(monkeypatch, error):
    def init(**_):
        raise error

    monkeypatch.setitem(sys.modules, "trackio", SimpleNamespace(init=init))
    assert tracking._tracked("trackio", [record()]) == f"--track trackio: {type(error).__name__}: no room"


def test_the_real_trackio_keeps_a_run(tmp_path, monkeypatch):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    pytest.importorskip("trackio", exc_type=ImportError)
    assert tracking._tracked("trackio", [full()]) == "tracked: 1 runs with trackio"
    from trackio.sqlite_storage import SQLiteStorage

    assert SQLiteStorage.get_runs("quantbench") == ["Tiny-int4"]
    (kept,) = SQLiteStorage.get_logs("quantbench", "Tiny-int4")
    assert kept["size/bits_per_weight"] == 4.5


def test_the_real_mlflow_keeps_a_run(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow", exc_type=ImportError)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri(f"file://{tmp_path}/mlruns")
    assert tracking._tracked("mlflow", [full()]) == "tracked: 1 runs with mlflow"
    (kept,) = mlflow.search_runs(search_all_experiments=True, output_format="list")
    assert kept.info.run_name == "Tiny-int4"
    assert kept.data.metrics["size/bits_per_weight"] == 4.5
    assert kept.data.tags["verdict/size_reduction_percent"] == "pass"


def full():
    from generated_suite import records

    found = next(each for each in records(1, recipes=("int4-rtn",)) if each.recipe == "int4-rtn")
    assert isinstance(found.facts, ModelFacts)
    return make_record(compression=found.compression, verdicts=record().verdicts)
