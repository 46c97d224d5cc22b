"""The measures on an engine that is a dictionary, with answers that are known beforehand; and the page on it."""

import re
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from builders import measured_answers, measured_losses
from engines.fake_engine import FakeEngine

from pytest_quantbench.catalog.models import TINY_DIRECTORY
from pytest_quantbench.checkpoints.tokenizer import load_tokenizer
from pytest_quantbench.errors import CorpusError, ModelError
from pytest_quantbench.fetch.texts import Text
from pytest_quantbench.measures.accuracy.task_set import TaskSet
from pytest_quantbench.measures.perplexity.reading import Reading, Tokens

VOCABULARY = 2048
TOKENIZER = load_tokenizer(TINY_DIRECTORY)
ARTIFACT = SimpleNamespace(recipe_id="bf16")
TEXT = Text(name="held out", content=(TINY_DIRECTORY / "heldout.txt").read_text()[:9000])
ROOT = Path(__file__).parent.parent.parent


def row(likely, nats):
    """Logits of one token that is so many nats above all others."""
    logits = np.zeros(VOCABULARY, np.float32)
    logits[likely] = nats
    return logits


def losses(engine, **reading):
    return measured_losses(engine, ARTIFACT, Tokens(TEXT, TOKENIZER, engine.capacity({})), Reading(**reading))


@pytest.mark.parametrize("reading", [{"tokens": 256}, {"tokens": 300, "sampling": "head"}, {"tokens": None}])
def test_where_all_tokens_are_equally_likely_the_perplexity_is_the_vocabulary(reading):
    found = losses(FakeEngine(VOCABULARY), **reading)
    np.testing.assert_allclose(np.exp(found.nll_nats), VOCABULARY, rtol=1e-5)


def test_every_loss_is_that_of_its_own_token_after_the_one_before():
    """A bigram model of the text itself, written once more as a loop."""
    ids = [TOKENIZER.bos_token_id, *TOKENIZER.encode(TEXT.content, add_special_tokens=False)]
    following = dict(pairwise(ids))
    engine = FakeEngine(VOCABULARY, {token: row(after, 5.0) for token, after in following.items()})
    found = losses(engine, tokens=400, sampling="head").nll_nats
    total = np.log(np.exp(5.0) + VOCABULARY - 1)
    expected = [total - 5.0 * (following.get(a) == b) for a, b in pairwise(ids[:401])]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert 10 < sum(loss < total - 1 for loss in expected) < 400


def test_divergence_from_a_reference_that_knows_nothing():
    flat, sure = FakeEngine(VOCABULARY), FakeEngine(VOCABULARY, {t: row(7, 3.0) for t in range(VOCABULARY)})
    tokens = Tokens(TEXT, TOKENIZER, flat.capacity({}))
    before = measured_losses(flat, ARTIFACT, tokens, Reading(tokens=256))
    found = measured_losses(sure, ARTIFACT, tokens, Reading(tokens=256), reference=before)
    expected = np.log((np.exp(3.0) + VOCABULARY - 1) / VOCABULARY) - 3.0 / VOCABULARY  # Σ 1/V (log 1/V − log q)
    np.testing.assert_allclose(found.fidelity.kl_nats, expected, atol=1e-5)
    assert not found.fidelity.same_top.any()


def asked(engine, limit):
    return TaskSet(TOKENIZER, engine.capacity({}), ["tiny_facts"], {}, limit, 0, offline=True)


def answers(engine, limit):
    return measured_answers(engine, ARTIFACT, asked(engine, limit)).tasks["tiny_facts"]


def test_a_choice_is_as_likely_as_its_tokens_are_many():
    engine = FakeEngine(VOCABULARY)
    found = answers(engine, 20)
    lengths = [len(request.continuation) for request in asked(engine, 20).choices.requests]
    expected = -np.log(VOCABULARY) * np.array(lengths)
    np.testing.assert_allclose(np.concatenate(found.loglikelihoods), expected, rtol=1e-6)


def test_the_choice_that_the_model_would_write_is_the_one_it_gives():
    flat = FakeEngine(VOCABULARY)
    (gold,) = answers(flat, 1).gold
    requests = asked(flat, 1).choices.requests
    for place, request in enumerate(requests):
        chain = [request.context[-1], *request.continuation]
        engine = FakeEngine(VOCABULARY, {a: row(b, 20.0) for a, b in pairwise(chain)})
        assert answers(engine, 1).correct_raw.tolist() == [place == gold]


def test_tokens_beyond_the_vocabulary_are_refused_before_anything_runs():
    with pytest.raises(ModelError, match="the model knows 100"):
        losses(FakeEngine(100), tokens=256)


def test_a_text_that_is_too_short_is_refused_without_a_model():
    engine = FakeEngine(VOCABULARY)
    tokens = Tokens(Text(name="short", content="Ara."), TOKENIZER, engine.capacity({}))
    with pytest.raises(CorpusError, match="short has"):
        measured_losses(engine, ARTIFACT, tokens, Reading(tokens=256))


def test_the_page_shows_this_engine_and_its_example_is_true():
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs/add-an-engine.md").read_text(encoding="utf-8"), re.S)
    engine, example = blocks
    assert engine == (Path(__file__).parent / "fake_engine.py").read_text(encoding="utf-8")
    exec(engine + example, {})
