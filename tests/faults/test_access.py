"""Gated and missing models are named in the first seconds of a session, all at once; mirrors; a session end to end."""

import json
import os
import subprocess
import sys
import time

import pytest
from faults.acts import stalled, status

from pytest_quantbench.errors import ModelError
from pytest_quantbench.fetch import hub_api

GATE = """
import pytest

@pytest.mark.size
def test_size(cell, settle):
    settle(cell.judge("size"))
"""
QUICK = ("-p", "no:cacheprovider", "--calibration", "none", "-m", "int4")


def test_one_error_names_every_page(hub, tiny_files):
    for name in ("open", "gated", "closed"):
        hub.publish(f"someone/{name}", tiny_files)
    hub.fault("/someone/(gated|closed)/", status(403, "GatedRepo"))
    with pytest.raises(ModelError) as caught:
        hub_api.check_access([f"someone/{name}" for name in ("open", "gated", "closed", "missing")])
    told = str(caught.value).splitlines()
    assert [line.partition(" ")[0] for line in told] == ["someone/closed", "someone/gated", "someone/missing", "Or"]
    assert "accept its terms on https://huggingface.co/someone/gated and set HF_TOKEN" in told[1]
    assert "is not on the Hub (404" in told[2]


def test_all_open_is_no_error_and_costs_a_request_each(hub, tiny_files):
    hub.publish("someone/open", tiny_files)
    hub_api.check_access(["someone/open"])
    assert len(hub.requests) == 1
    hub_api.check_access([])


@pytest.mark.parametrize("act", [status(503), status(429), stalled])
def test_a_hub_that_does_not_answer_is_left_to_the_models(hub, impatient, act):
    hub.fault(".", act)
    started = time.monotonic()
    hub_api.check_access([f"someone/{number}" for number in range(8)])
    assert time.monotonic() - started < 5


def test_no_network_is_no_complaint_yet(hub, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    hub_api.check_access(["someone/tiny"])


@pytest.fixture
def session(pytester):
    def run(*arguments):
        pytester.makepyfile(test_gate=GATE)
        return pytester.runpytest_inprocess(*QUICK, *arguments)

    return run


def test_a_session_stops_before_its_first_item(session, hub, tiny_files):
    for name in ("tiny", "small"):
        hub.publish(f"someone/{name}", tiny_files)
    hub.fault("/someone/tiny/", status(401, "GatedRepo"))
    result = session("--model", "someone/tiny", "--model", "someone/small", "-k", "tiny or small")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*someone/tiny is gated: accept its terms on *someone/tiny and set HF_TOKEN*"])
    assert hub.asked("safetensors") == []


def test_what_may_not_be_fetched_may_be_left_out(session, hub, tiny_files):
    hub.publish("someone/small", tiny_files)
    session("--model", "someone/tiny", "--model", "someone/small", "-k", "small").assert_outcomes(passed=1)


def test_collecting_asks_nobody(session, hub):
    session("--model", "someone/tiny", "--collect-only", "-k", "tiny")
    assert hub.requests == []


def test_a_session_through_a_mirror_in_a_process_of_its_own(hub, tiny_files, tmp_path):
    """As a user runs it: the variables are there before anything is imported; the record has the commit."""
    commit = hub.publish("someone/small", tiny_files)
    (tmp_path / "test_gate.py").write_text(GATE)
    environment = {**os.environ, "HF_HUB_DOWNLOAD_TIMEOUT": "1", "HF_HUB_ETAG_TIMEOUT": "1"}
    command = [sys.executable, "-m", "pytest", *QUICK, "--model", "someone/small", "-k", "small"]
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stdout + run.stderr
    assert json.loads((tmp_path / "results" / "small_4bit.json").read_text())["revision"] == commit
    assert {request.token for request in hub.asked("^cdn")} == {None}
