"""A reference that is no reference: it has to read the text better than the frequencies of its tokens do."""

import dataclasses
import json
import shutil

import mlx.core as mx
import numpy as np
import pytest

from pytest_quantbench.bench import inputs
from pytest_quantbench.bench.subject import Subject
from pytest_quantbench.catalog.models import TINY_DIRECTORY, user_model
from pytest_quantbench.catalog.settings import Settings
from pytest_quantbench.errors import CorpusError, OfflineError
from pytest_quantbench.measures.perplexity.measure import PERPLEXITY

VOCABULARY = 2048


@pytest.fixture
def opened(tmp_path):
    """A function that opens a model directory, to be judged by Tiny's text."""

    def opened(directory, tokens=512, sampling="windows"):
        model = dataclasses.replace(user_model(str(directory)), corpus="tiny-heldout")
        settings = Settings(cache=tmp_path / "cache", tokens=tokens, fixed=True, sampling=sampling)
        return Subject(model, settings)

    return opened


def copy_of_tiny(tmp_path, change=None, **config):
    """Tiny with `change(weights)` done to its weights, and other values in its config.json."""
    directory = tmp_path / "copy"
    shutil.copytree(TINY_DIRECTORY, directory)
    file = directory / "model.safetensors"
    weights = mx.load(str(file))
    mx.eval(weights)
    if change is not None:
        mx.save_safetensors(str(directory / "changed.safetensors"), change(weights))
        (directory / "changed.safetensors").rename(file)
    values = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(values | config))
    return directory


def foreign_tokens(weights):
    """Every token's row in another token's place, as if another tokenizer had numbered them."""
    places = mx.array(np.random.default_rng(0).permutation(VOCABULARY))
    return {n: w[places] if w.shape[0] == VOCABULARY else w for n, w in weights.items()}


def foreign_head(weights):
    """The output head of a model that was trained with another one than its embeddings."""
    embeddings = weights["model.embed_tokens.weight"]
    spread = float(mx.std(embeddings.astype(mx.float32)))
    head = mx.array(spread * np.random.default_rng(0).standard_normal(embeddings.shape)).astype(embeddings.dtype)
    return weights | {"lm_head.weight": head}


@pytest.mark.parametrize("sampling", ["windows", "head"])
@pytest.mark.parametrize("change", [foreign_tokens, foreign_head])
def test_weights_that_do_not_belong_to_the_tokenizer_are_refused(tmp_path, opened, change, sampling):
    """Their perplexity is below twice the vocabulary, or not far above it."""
    directory = copy_of_tiny(tmp_path, change, tie_word_embeddings=change is not foreign_head)
    subject = opened(directory, sampling=sampling)
    cell, reference = subject.cell("int4-rtn"), subject.reference
    with pytest.raises(CorpusError, match=r"comes of knowing no more than how frequent each token is"):
        cell.judge("perplexity", 1e6)
    with pytest.raises(CorpusError, match="cannot read the text tiny-heldout"):
        reference.judge("perplexity")
    assert cell.schedule.samples.get(cell.target, PERPLEXITY) is not None
    for each in (cell, reference):  # nor do its figures stand anywhere
        assert each.record().perplexity is None
        assert not each.record().perplexities


def test_a_random_model_is_refused(small_model, opened):
    with pytest.raises(CorpusError, match="cannot read"):
        opened(small_model()).cell("int4-rtn").judge("perplexity")


@pytest.mark.parametrize("sampling", ["windows", "head"])
@pytest.mark.parametrize("tokens", [128, 512])
def test_a_model_that_reads_is_not_refused(opened, tokens, sampling):
    cell = opened(TINY_DIRECTORY, tokens, sampling).cell("int4-rtn")
    cell.judge("perplexity")
    assert cell.record().perplexity.ppl < 30


@pytest.mark.parametrize("name", ["capacity", "tokenizer", "around_texts", "calibration", "texts", "opened"])
def test_what_cannot_be_had_is_asked_for_once(tmp_path, monkeypatch, name):
    """A calibration text that no network reaches is asked for by every key of a recipe that is fitted to it."""
    makers = {
        "tokenizer": "load_tokenizer",
        "around_texts": "frame_of",
        "calibration": "calibration_set",
        "texts": "read_text",
        "opened": "find",
    }
    asked = []

    def unreached(*_, **__):
        asked.append(name)
        raise OfflineError("There is no route.")

    subject = Subject("Tiny", Settings(cache=tmp_path / "cache"))
    if name == "capacity":
        monkeypatch.setattr(subject.inputs.engine, "capacity", unreached)
    else:
        monkeypatch.setattr(inputs, makers[name], unreached)
    for _ in range(2):
        with pytest.raises(OfflineError, match="There is no route"):
            getattr(subject.inputs, name)
    assert asked == [name]


@pytest.mark.parametrize("name", ["capacity", "tokenizer", "around_texts", "calibration", "texts", "opened"])
def test_what_is_there_is_read_once(tmp_path, name):
    subject = Subject("Tiny", Settings(cache=tmp_path / "cache"))
    assert getattr(subject.inputs, name) is getattr(subject.inputs, name)
