"""Where the Hub and its cache are, and what its refusals are called. A Hub that answers: tests/faults."""

import errno
import importlib
import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub import constants
from huggingface_hub.errors import HfHubHTTPError, HTTPError

from pytest_quantbench.errors import DiskError, ModelError, OfflineError, first_line
from pytest_quantbench.fetch import hub_api

httpx = importlib.import_module(HTTPError.__module__.partition(".")[0])  # or httpx2
VARIABLES = ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME")


@pytest.mark.parametrize(
    ("variables", "cache"),
    [
        ({}, "~/.cache/huggingface/hub"),
        ({"XDG_CACHE_HOME": "/x"}, "/x/huggingface/hub"),
        ({"XDG_CACHE_HOME": "/x", "HF_HOME": "~/y"}, "~/y/hub"),
        ({"HF_HOME": "/y", "HUGGINGFACE_HUB_CACHE": "/z"}, "/z"),
        ({"HF_HUB_CACHE": "$PLACE/w", "HUGGINGFACE_HUB_CACHE": "/z", "PLACE": "/place"}, "/place/w"),
    ],
)
def test_the_cache_is_where_huggingface_hub_has_it(monkeypatch, variables, cache):
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    theirs = runpy.run_path(constants.__file__)["HF_HUB_CACHE"]  # as if it were imported now
    assert hub_api.hub_cache() == Path(theirs) == Path(cache).expanduser()


@pytest.mark.parametrize(
    ("value", "endpoint"), [(None, None), ("", None), ("http://mirror.example/", "http://mirror.example")]
)
def test_the_hub_is_where_the_environment_says_now(monkeypatch, value, endpoint):
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    if value is not None:
        monkeypatch.setenv("HF_ENDPOINT", value)
    assert hub_api.endpoint() == endpoint


def answer(status, **headers):
    """What huggingface_hub raises for an answer of this status."""
    response = httpx.Response(status, headers=headers, request=httpx.Request("GET", "http://hub.example/x"))
    return HfHubHTTPError(f"{status} for you", response=response)


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (answer(401), ModelError, r"x of a/b is not on the Hub, or private.*\(401\)"),
        (answer(403), ModelError, r"may not be read with this token \(403: no reason given\)"),
        (answer(404), ModelError, r"is not on the Hub \(404: no reason given\)"),
        (answer(429, **{"Retry-After": "90"}), OfflineError, r"asks for patience \(429, in 90 s\)"),
        (answer(503), OfflineError, "could not be fetched"),
        (OSError(errno.ENOSPC, "No space left on device"), DiskError, "cannot be written to .*No space left"),
        (ConnectionError("no route\nto it"), OfflineError, r"could not be fetched \(no route\)"),
    ],
)
def test_a_refusal_is_one_sentence_of_its_kind(monkeypatch, error, kind, message):
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    found = hub_api.refusal("a/b", "x of a/b", error)
    assert type(found) is kind
    with pytest.raises(kind, match=message):
        raise found
    assert "\n" not in str(found)


@pytest.mark.parametrize(
    ("errors", "asked", "slept"),
    [
        ([503, 503], 3, [1.0, 3.0]),
        ([429], 2, [7.0]),
        ([404], 1, []),
        ([503, 503, 503], 3, [1.0, 3.0]),
    ],
)
def test_what_may_pass_is_asked_for_again(monkeypatch, errors, asked, slept):
    pauses, calls, left = [], [], list(errors)
    monkeypatch.setattr(hub_api, "time", SimpleNamespace(sleep=pauses.append))

    def call():
        calls.append(1)
        if left:
            raise answer(left.pop(0), **{"Retry-After": "7"} if errors == [429] else {})
        return "here"

    if len(errors) == asked:
        with pytest.raises((ModelError, OfflineError)):
            hub_api.patiently("a/b", "a/b", call)
    else:
        assert hub_api.patiently("a/b", "a/b", call) == "here"
    assert (len(calls), pauses) == (asked, slept)


def test_the_first_line_of_an_error_or_its_name():
    assert first_line(ValueError("one\ntwo")) == "one"
    assert first_line(KeyError()) == "KeyError"
