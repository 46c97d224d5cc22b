"""Cells with a quantized cache, with the engine on PyTorch: judged, recorded, and refused where it did nothing."""

import dataclasses
import json
import shutil

import pytest

pytest.importorskip("torch")

from pytest_quantbench import engines
from pytest_quantbench.bench.subject import Subject
from pytest_quantbench.catalog.criteria import Overrides
from pytest_quantbench.catalog.models import TINY_DIRECTORY, user_model
from pytest_quantbench.catalog.settings import Settings
from pytest_quantbench.engines.torch import held_keys
from pytest_quantbench.errors import ComparisonError, QuantbenchError
from pytest_quantbench.record import folder

SETTINGS = {"engine": "torch", "tokens": 2048, "context": 1024, "stride": 1024, "limit": 10, "fixed": True}


@pytest.fixture(scope="module")
def tiny_1k(tmp_path_factory):
    """Tiny, which may read 1,024 tokens at once."""
    directory = tmp_path_factory.mktemp("models") / "Tiny1k"
    shutil.copytree(TINY_DIRECTORY, directory)
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 1024}))
    return dataclasses.replace(user_model(str(directory)), corpus="tiny-heldout", tasks=("tiny_facts",))


@pytest.fixture(scope="module")
def subject(tiny_1k, tmp_path_factory):
    return Subject(tiny_1k, Settings(cache=tmp_path_factory.mktemp("cache"), **SETTINGS))


@pytest.fixture(scope="module")
def kv2(subject):
    cell = subject.cell("kv2")
    cell.judge("perplexity")
    cell.judge("depth")
    return cell


def test_depth_is_judged_by_the_limit_of_perplexity(subject, kv2):
    verdict = next(each for each in kv2.verdicts.values() if each.metric == "depth_perplexity_delta")
    assert (verdict.limit, verdict.of) == (1.0, "tiny-heldout")
    assert "0–512" in verdict.sentence
    assert "512–1k" in verdict.sentence
    given = dataclasses.replace(subject.inputs.settings, criteria=Overrides(session={"perplexity_delta": 0.25}))
    assert Subject(subject.model, given).cell("kv2").limit("depth_perplexity_delta") == 0.25


def test_the_record_has_both_depths_and_what_the_cache_takes(kv2):
    record = kv2.record()
    assert (record.file_stem, record.level, record.kind) == ("Tiny1k_16bit_kv2", "kv", "cache")
    shallow, deep = record.perplexity.by_depth
    assert (shallow.above, shallow.up_to, deep.above, deep.up_to) == (0, 512, 512, 1024)
    assert shallow.tokens + deep.tokens == record.perplexity.tokens
    assert deep.kl_nats > 0 < deep.same_top.estimate < 1
    both = (shallow.tokens * shallow.kl_nats + deep.tokens * deep.kl_nats) / record.perplexity.tokens
    assert both == pytest.approx(record.perplexity.divergence.kl_nats)
    assert record.cache.size.bits_per_value == pytest.approx(2.5)  # a scale and a bias for each 64
    assert record.cache.size.tokens == 1024
    assert record.recipe_parameters["cache.affine.bits"] == "2"
    assert kv2.raw()["perplexity/depths"].max() == 1024


def test_a_later_session_takes_the_samples_with_what_walks_saw(subject, kv2, tmp_path):
    again = Subject(subject.model, subject.inputs.settings).cell("kv2")
    again.judge("depth")
    assert "T2 of Tiny1k-kv2" in again.schedule.samples.reused
    assert again.record().cache == kv2.record().cache
    path = folder.save(again.record(), again.raw(), tmp_path)
    assert path.name == "Tiny1k_16bit_kv2.json"
    assert folder.read_all(tmp_path)[0].perplexity.by_depth == kv2.record().perplexity.by_depth


def test_what_says_nothing_of_a_cache_is_said_and_not_judged(kv2):
    for check in ("size", "throughput"):
        verdict = kv2.judge(check)
        assert (verdict.outcome, bool(verdict.not_judged)) == ("informational", True)
    assert kv2.throughput_session is None
    assert kv2.samples("throughput") is None


def test_a_cache_that_does_nothing_is_an_error_and_has_no_figures(tmp_path, monkeypatch):
    monkeypatch.setattr(held_keys, "at_once", lambda forms, states, positions: states)
    cell = Subject("Tiny", Settings(cache=tmp_path, **SETTINGS)).cell("kv8")
    for check in ("perplexity", "depth"):
        with pytest.raises(ComparisonError, match=r"The cache of Tiny-kv8 has never engaged: .* of Tiny-bf16 to the"):
            cell.judge(check)
    assert cell.record().perplexity is None


def test_an_engine_that_cannot_is_named_with_another(subject, monkeypatch):
    engine = engines.get("torch")
    monkeypatch.setattr(type(engine), "can", engine.can - {"kv"})
    cell = Subject(subject.model, dataclasses.replace(subject.inputs.settings, fresh=True)).cell("kv4")
    with pytest.raises(QuantbenchError, match=r"'torch' cannot hold the key-value cache in few bits.*such as mlx"):
        cell.judge("perplexity")
