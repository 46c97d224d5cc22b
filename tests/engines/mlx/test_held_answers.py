"""Answers that are written with a held key-value cache are those of a walk of the whole text, again for every token."""

import numpy as np
import pytest
from kv_methods import METHODS
from mlx_decoding import log_probabilities
from small_models import InMemory

from pytest_quantbench.catalog.models import TINY_DIRECTORY
from pytest_quantbench.checkpoints.tokenizer import load_tokenizer
from pytest_quantbench.engines.mlx.engine import MlxEngine
from pytest_quantbench.engines.mlx.walk import Walk
from pytest_quantbench.engines.protocol import Cached
from pytest_quantbench.errors import ModelError, QuantbenchError

TOKENIZER = load_tokenizer(TINY_DIRECTORY)
NEAR_TIE = 1e-4
QUICK = ("progressive", "looking")
LENGTHS = (9, 14, 3, 20, 1, 12)


class Loaded(InMemory):
    def encoding(self, name):
        return None


def answers(weights, method, host, count=7, **how):
    prompts = [np.random.default_rng(length).integers(0, 2048, length).tolist() for length in LENGTHS]
    held = MlxEngine(host=host).load(weights, "answers", method)
    found = held.generate(
        TOKENIZER, prompts, stops=[()] * len(prompts), new_tokens=count, what="", end_tokens=(), **how
    )
    return list(zip(prompts, [each.tokens for each in found], strict=True))


@pytest.mark.parametrize("host", [True, pytest.param(False, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "method",
    [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in METHODS],
)
@pytest.mark.parametrize("architecture", ["llama", pytest.param("gemma3_text", marks=pytest.mark.slow)])
def test_answers_are_those_of_walks(architecture, method, host):
    """Walked once with what was answered: every token is the likeliest behind those before it."""
    weights = Loaded(architecture)
    for prompt, answer in answers(weights, METHODS[method], host):
        assert len(answer) == 7
        walk = Walk(Cached(weights, METHODS[method]), host=True)
        walk.run([np.array([[*prompt, *answer[:-1]]])], "")
        behind = log_probabilities(np.array(walk.head(0, slice(len(prompt) - 1, None)))[0])
        assert (behind.max(-1) - behind[np.arange(len(answer)), answer]).max() < NEAR_TIE
    if "looking" not in method:  # which changes too little of so short a text
        assert answers(weights, METHODS[method], host) != answers(weights, None, host)


@pytest.mark.slow
def test_prompts_of_many_steps_and_waiting_ones_change_nothing(monkeypatch):
    from pytest_quantbench.engines import answers as batching

    weights = Loaded("llama")
    for method in ("old, rotated, with sinks", "looking"):
        expected = answers(weights, METHODS[method], True)
        with monkeypatch.context() as patch:
            patch.setattr(batching, "PREFILL_TOKENS", 4)
            patch.setattr(batching, "ROWS_AT_ONCE", 2)
            patch.setattr(batching, "PREFILL_ROWS", 2)
            assert answers(weights, METHODS[method], True) == expected


def test_a_model_without_keys_is_an_error():
    from unusual_models import unusual

    _, weights = unusual("mamba")
    weights.encoding = lambda name: None
    with pytest.raises(ModelError, match="never engaged: no layer of 'mamba'"):
        MlxEngine().load(weights, "answers", METHODS["at once"]).generate(
            TOKENIZER, [[1, 2]], stops=[()], new_tokens=2, what=""
        )


def test_such_a_cache_is_not_timed():
    with pytest.raises(QuantbenchError, match="does not time a key-value cache of the method formed"):
        MlxEngine().load(Loaded("llama"), "timed", METHODS["at once"])
