"""Answers by mlx-lm's own batches: Tiny's, and what a batch sees. What all engines keep to is in test_generation."""

import json

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from builders import open_model

from pytest_quantbench.catalog.models import TINY_DIRECTORY
from pytest_quantbench.catalog.recipes import recipe
from pytest_quantbench.checkpoints.tokenizer import load_tokenizer
from pytest_quantbench.compress.pipeline import compress
from pytest_quantbench.engines import answers as batching
from pytest_quantbench.engines.mlx import resident
from pytest_quantbench.engines.mlx.resident import Resident

NEAR_TIE = 1e-4  # of a logit; float noise is about 1e-5 here
TOKENIZER = load_tokenizer(TINY_DIRECTORY)
TEXT = "Häuser, 漢字 🙂🙂 naïve.\n\nQuestion: Où?\nclass Ünder:\n    # 汉字\n    print('déjà 🙃')\n[DONE] end.\n" * 2
SCRIPT = TOKENIZER.encode(TEXT, add_special_tokens=False)


class Script(nn.Module):
    """A model that says SCRIPT from the prompt's length on, whatever that is; notes what it sees."""

    def __init__(self, script=SCRIPT):
        super().__init__()
        self.script = mx.array(script)
        self.layers = [None]
        self.seen = []

    def __call__(self, tokens, cache):
        offset = cache[0].offset  # (rows,): how many tokens each row has before these
        rows, length = tokens.shape
        keys, _ = cache[0].update_and_fetch(*2 * [mx.zeros((rows, 1, length, 1))])
        self.seen.append((rows, keys.shape[2], length))
        places = offset[:, None] + mx.arange(length) + 1
        following = self.script[mx.minimum(places, len(self.script) - 1)]
        return (mx.arange(2048) == following[..., None]).astype(mx.float32)


def said(starts, stops=(), script=SCRIPT, new_tokens=200, **more):
    """Answers that begin at these places of the script."""
    model = Script(script)
    held = Resident(model=model, activations="float32", dense_layers=0)
    each = [stops] * len(starts)
    answers = held.generate(
        TOKENIZER, [[2] * start for start in starts], stops=each, new_tokens=new_tokens, what="", **more
    )
    return answers, model.seen


def loaded(recipe_id, tmp_path_factory, host):
    parsed = recipe(recipe_id)
    artifact = compress(open_model(TINY_DIRECTORY), parsed, 0, tmp_path_factory.mktemp("cache"))
    return resident.load(artifact, host=host)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return loaded("bf16", tmp_path_factory, host=True)


def questions(count):
    lines = (TINY_DIRECTORY / "facts.jsonl").read_text().splitlines()[:count]
    return [TOKENIZER.encode(json.loads(line)["query"]) for line in lines]


def slow(model, prompt, count):
    """The likeliest token after one whole forward pass, again and again. None of them may be a near tie."""
    tokens = []
    for _ in range(count):
        logits = np.array(model(mx.array([[*prompt, *tokens]]))[0, -1].astype(mx.float32))
        second, first = np.sort(logits)[-2:]
        assert first - second > NEAR_TIE, "choose another prompt"
        tokens.append(int(logits.argmax()))
    return tuple(tokens)


def never_ending(held, prompts, new_tokens):
    return held.generate(TOKENIZER, prompts, stops=[()] * len(prompts), new_tokens=new_tokens, what="", end_tokens=())


@pytest.mark.parametrize(("recipe_id", "host"), [("int4-rtn", False), ("int4-rtn", True), ("bf16", True)])
def test_tiny_answers_as_it_does_one_at_a_time(recipe_id, host, tmp_path_factory):
    """Eight tokens without an end, and then what it is asked for: a word or two and a new line."""
    held, prompts = loaded(recipe_id, tmp_path_factory, host), questions(3)
    expected = [slow(held.model, prompt, 8) for prompt in prompts]
    assert [answer.tokens for answer in never_ending(held, prompts, 8)] == expected
    answers = held.generate(TOKENIZER, prompts, stops=[["\n"]] * 3, new_tokens=8, what="")
    for answer, tokens in zip(answers, expected, strict=True):
        assert answer.text == TOKENIZER.decode(tokens).partition("\n")[0]
        assert answer.tokens == tokens[: len(answer.tokens)]
        assert answer.ended == "stop"


def test_tiny_knows_what_it_was_asked(tiny):
    lines = [json.loads(line) for line in (TINY_DIRECTORY / "facts.jsonl").read_text().splitlines()[:20]]
    answers = tiny.generate(TOKENIZER, questions(20), stops=[["\n"]] * 20, new_tokens=10, what="")
    right = [a.text.strip() == line["choices"][line["gold"]] for a, line in zip(answers, lines, strict=True)]
    assert sum(right) >= 14  # of 20; it is right about nine in ten when it is given the choices


def test_a_finished_sequence_leaves_the_batch():
    model, stops = Script(), [[TOKENIZER.decode(SCRIPT[1:4])], []]
    held = Resident(model=model, activations="float32", dense_layers=0)
    stopped, _ = held.generate(TOKENIZER, [[2], [2]], stops=stops, new_tokens=30, what="")
    assert len(stopped.tokens) == 3
    assert sum(rows == 2 for rows, _, _ in model.seen) == 4  # mlx-lm is always one token ahead
    assert sum(rows == 1 for rows, _, _ in model.seen) == 27


def test_keys_and_values_stay_within_their_bound(monkeypatch):
    monkeypatch.setattr(batching, "KEYS_AT_ONCE", 100)
    starts = [60, 50, 40, 30, 20, 10, 5, 5, 5, 5]
    answers, seen = said(starts, new_tokens=12)
    assert max(rows * keys for rows, keys, _ in seen) <= 100
    assert max(rows for rows, _, _ in seen) > 3
    assert [answer.tokens for answer in answers] == [tuple(SCRIPT[start : start + 12]) for start in starts]
