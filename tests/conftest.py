"""Every test's level and its warnings; fixtures: a cache of the tests' own, and small random models on disk.

Warnings are errors here, and only here: the benchmark's own run must not end because of what another plugin warns of.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from hypothesis import settings
from mlx.utils import tree_flatten
from small_models import CONFIGS, HEADS, MIXTURES, REFUSED

from pytest_quantbench.catalog.models import TINY_DIRECTORY
from pytest_quantbench.engines.mlx.skeleton import skeleton
from pytest_quantbench.measures.perplexity import scripts

TESTS = Path(__file__).parent
os.environ["QUANTBENCH_ENGINE"] = "mlx"  # the engine of all tests, and of sessions they start, that do not name another
# Hypothesis tries the same examples every time, so that no run fails by luck; to search among others, with a seed that
# can be given again: pytest tests --hypothesis-profile explore --hypothesis-seed 1
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.register_profile("explore", deadline=None)
settings.load_profile("repeatable")
STRICT = (
    pytest.mark.filterwarnings("ignore::pytest_benchmark.logger.PytestBenchmarkWarning"),
    pytest.mark.filterwarnings("error"),
)


# What takes the longest: whole sessions with kills, faults and damage, and other implementations built beside ours.
# Single tests elsewhere are marked `slow` where they stand.
SLOW = {TESTS / "faults", TESTS / "engines/mlx/test_transformers_logits.py"}
# Where models are run; elsewhere it is what uses the fixture `small_model`.
MODEL = {TESTS / each for each in ("bench", "compress", "engines", "measures", "plugin", "tiny", "workbench")}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every test has one level: `unit`, `model` or `slow`."""
    for item in items:
        places = {item.path, *item.path.parents}
        if TESTS not in places:
            continue
        for mark in STRICT:
            item.add_marker(mark, append=False)  # before a test's own, which overrule them
        if places & SLOW:
            item.add_marker(pytest.mark.slow)
        if item.get_closest_marker("slow") is None:
            runs_one = places & MODEL or "small_model" in getattr(item, "fixturenames", ())
            item.add_marker(pytest.mark.model if runs_one else pytest.mark.unit)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """No test reads or writes the user's cache; sessions that tests start know the short names of options."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QUANTBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("PYTEST_PLUGINS", "pytest_quantbench.plugin.short_options")
        yield


@pytest.fixture
def small_model(tmp_path) -> Callable[..., Path]:
    """A model directory with random BF16 weights: `small_model("llama", hidden_size=80)`. Has Tiny's tokenizer."""

    def make(architecture: str = "llama", dtype: mx.Dtype = mx.bfloat16, seed: int = 0, **changes: Any) -> Path:
        config = (CONFIGS | MIXTURES | REFUSED)[architecture] | changes
        directory = tmp_path / f"{architecture}-{seed}-{len(changes)}"
        directory.mkdir()
        mx.random.seed(seed)
        model = skeleton(config, HEADS)
        weights = {name: array.astype(dtype) for name, array in tree_flatten(model.parameters())}
        mx.save_safetensors(str(directory / "model.safetensors"), weights)
        (directory / "config.json").write_text(json.dumps(config))
        for file in TINY_DIRECTORY.glob("tokenizer*"):
            (directory / file.name).write_bytes(file.read_bytes())
        return directory

    return make


@pytest.fixture
def judged_unread(monkeypatch):
    """Random models read no text better than word frequencies do: here they are judged by their losses all the same."""
    monkeypatch.setattr(scripts, "refuse_unreadable", lambda inputs, reference: None)
