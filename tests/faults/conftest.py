"""A Hub of our own for every test, a cache of its own, and clients that do not wait for minutes."""

import hashlib
import json
from types import SimpleNamespace

import huggingface_hub
import mlx.core as mx
import pytest
from faults.hub_server import HubServer
from huggingface_hub import constants, file_download
from huggingface_hub.utils import _http

from pytest_quantbench.catalog.models import user_model
from pytest_quantbench.fetch import download, hub_api

TINY = user_model("someone/tiny")


@pytest.fixture
def waits(monkeypatch):
    """The seconds that huggingface_hub and we wanted to sleep; nobody sleeps."""
    asked = []
    clock = SimpleNamespace(sleep=asked.append)
    for module in (file_download, _http, hub_api):
        monkeypatch.setattr(module, "time", clock)
    return asked


@pytest.fixture
def hub(monkeypatch, tmp_path, waits):
    """A local Hub that the environment points to, with a token and an empty cache."""
    with HubServer() as server:
        for variable, value in (("ENDPOINT", server.url), ("HUB_CACHE", str(tmp_path / "hub")), ("TOKEN", "hf_ours")):
            monkeypatch.setenv(f"HF_{variable}", value)
        monkeypatch.setattr(download, "_fetched", {})
        yield server
    huggingface_hub.close_session()


@pytest.fixture
def impatient(monkeypatch):
    """What the environment would set before huggingface_hub is imported, and what it does not let anyone set."""
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.2)
    monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", 0.2)
    monkeypatch.setattr(file_download, "_ETAG_RETRY_TIMEOUT", 0.2)
    monkeypatch.setattr(hub_api, "ACCESS_SECONDS", 0.1)
    monkeypatch.setattr(hub_api, "PAUSES_SECONDS", (0.0,))


@pytest.fixture
def tiny_files(small_model):
    """A small random model as the Hub would have it: {name: content}."""
    return {path.name: path.read_bytes() for path in small_model().iterdir()}


@pytest.fixture
def sharded_files(small_model):
    """The same in two shards with an index."""
    directory = small_model()
    weights = mx.load(str(directory / "model.safetensors"))
    names = sorted(weights)
    parts = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for name, tensors in parts.items():
        mx.save_safetensors(str(directory / name), {tensor: weights[tensor] for tensor in tensors})
    index = {"metadata": {"total_size": 1}, "weight_map": {t: name for name, tensors in parts.items() for t in tensors}}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    (directory / "model.safetensors").unlink()
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def contents(directory):
    """{name: SHA-256} of a fetched snapshot."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in directory.iterdir()}


@pytest.fixture(autouse=True)
def random_models_count(judged_unread):
    """What is tested here are faults of disks, networks and clocks, on random models."""
