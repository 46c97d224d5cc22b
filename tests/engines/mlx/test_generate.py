"""Greedy answers in batches, against one plain forward pass per token and against a slow reading of the stop rule.

Batches change sums by float noise, which could flip tokens that are nearly equally likely. The prompts here have no
such place: every comparison with the slow loop first checks that the likeliest token is ahead by NEAR_TIE.
"""

import io
import json
from functools import cache

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from builders import open_model
from hypothesis import given, settings
from hypothesis import strategies as st
from lm_eval.models.utils import postprocess_generated_text
from mlx.utils import tree_flatten, tree_unflatten
from small_models import CONFIGS, HEADS

from pytest_quantbench import progress
from pytest_quantbench.catalog.models import TINY_DIRECTORY
from pytest_quantbench.catalog.recipes import recipe
from pytest_quantbench.checkpoints.tokenizer import load_tokenizer
from pytest_quantbench.compress.pipeline import compress
from pytest_quantbench.engines import answers as batching
from pytest_quantbench.engines.answers import cut
from pytest_quantbench.engines.mlx import generate as decoding
from pytest_quantbench.engines.mlx import resident
from pytest_quantbench.engines.mlx.host_products import on_host
from pytest_quantbench.engines.mlx.resident import Resident
from pytest_quantbench.engines.mlx.skeleton import skeleton
from pytest_quantbench.engines.resident import Generation
from pytest_quantbench.errors import CorpusError, WeightError

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


def in_memory(architecture, host=False):
    mx.random.seed(0)
    model = skeleton(CONFIGS[architecture], HEADS)
    model.set_dtype(mx.float32)
    mx.eval(model.parameters())
    if host:
        twins = [(path, on_host(leaf)) for path, leaf in model.named_modules() if on_host(leaf) is not None]
        model.update_modules(tree_unflatten(twins))
    return Resident(model=model, activations="float32", dense_layers=0, host=host)


def loaded(recipe_id, tmp_path_factory, host):
    parsed = recipe(recipe_id)
    artifact = compress(open_model(TINY_DIRECTORY), parsed, 0, tmp_path_factory.mktemp("cache"))
    return resident.load(artifact, host=host)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return loaded("bf16", tmp_path_factory, host=True)


def random_prompts(lengths=(1, 2, 3, 5, 9, 17, 30, 60)):
    rng = np.random.default_rng(0)
    return [[int(token) for token in rng.integers(2, 2048, length)] for length in lengths]


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


LENGTHS = [9, 14, 3, 20, 1, 12, 16, 10]


@cache
def one_at_a_time(architecture):
    model = in_memory(architecture).model
    return [slow(model, prompt, count) for prompt, count in zip(random_prompts(), LENGTHS, strict=True)]


@pytest.mark.parametrize("host", [True, False])
@pytest.mark.parametrize("architecture", CONFIGS)
def test_tokens_are_those_of_plain_forward_passes(architecture, host):
    """Prompts of 1 to 60 tokens, on both sides of Gemma's window of 8; answers leave the batch one after another."""
    answers = never_ending(in_memory(architecture, host), random_prompts(), LENGTHS)
    for answer, expected in zip(answers, one_at_a_time(architecture), strict=True):
        assert answer.tokens == expected
        assert answer.text == TOKENIZER.decode(answer.tokens, skip_special_tokens=True)
        assert answer.ended == "length"


@pytest.mark.parametrize("architecture", ["llama", "gemma3_text"])
@pytest.mark.parametrize(("rows", "keys", "prefill"), [(1, 2**15, 512), (3, 2**15, 7), (32, 150, 16), (32, 1, 512)])
def test_answers_do_not_depend_on_batches_or_order(architecture, rows, keys, prefill, monkeypatch):
    held, prompts = in_memory(architecture), random_prompts()
    expected = never_ending(held, prompts, 12)
    monkeypatch.setattr(batching, "ROWS_AT_ONCE", rows)
    monkeypatch.setattr(batching, "KEYS_AT_ONCE", keys)
    monkeypatch.setattr(batching, "PREFILL_TOKENS", prefill)
    order = np.random.default_rng(1).permutation(len(prompts))
    again = never_ending(held, [prompts[place] for place in order], 12)
    assert again == [expected[place] for place in order]


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


def by_definition(tokens, stops):
    """The shortest run of tokens whose text has a stop string, and lm-eval's cut of that text."""
    for count in range(1, len(tokens) + 1):
        text = TOKENIZER.decode(tokens[:count])
        if any(stop in text for stop in stops):
            return Generation(
                text=postprocess_generated_text(text, list(stops), None), tokens=tuple(tokens[:count]), ended="stop"
            )
    return Generation(text=TOKENIZER.decode(tokens), tokens=tuple(tokens), ended="length")


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_an_answer_ends_as_soon_as_a_stop_string_is_there(data):
    """Any pieces of the text, over any borders of tokens, within and beside characters of several tokens."""
    starts = data.draw(st.lists(st.integers(1, len(SCRIPT) - 2), min_size=1, max_size=4))
    begins = data.draw(st.lists(st.integers(0, len(TEXT) // 2), min_size=1, max_size=3))
    stops = [TEXT[begin : begin + data.draw(st.integers(1, 9))] for begin in begins]
    answers, _ = said(starts, stops, new_tokens=[len(SCRIPT) - start for start in starts])
    assert answers == [by_definition(SCRIPT[start:], stops) for start in starts]


def test_the_script_has_characters_of_several_tokens():
    assert sum(TOKENIZER.decode([token]) == "\ufffd" for token in SCRIPT) > 20


def test_a_stop_string_at_once_leaves_no_text():
    (answer,), _ = said([1], [TEXT[1:3]])
    assert answer.text == ""
    assert answer.ended == "stop"
    assert answer.tokens == tuple(SCRIPT[1 : 1 + len(answer.tokens)])


def test_every_answer_has_stop_strings_of_its_own():
    model = Resident(model=Script(), activations="float32", dense_layers=0)
    stops = [["Question:"], [], ["", "class"]]
    answers = model.generate(TOKENIZER, [[2]] * 3, stops=stops, new_tokens=60, what="")
    assert [answer.ended for answer in answers] == ["stop", "length", "stop"]
    assert answers[1].text.startswith(answers[2].text + "class")
    assert answers[2].text.startswith(answers[0].text + "Question:")


def test_the_end_of_sequence_ends_an_answer_and_is_not_part_of_it():
    script = [*SCRIPT[:6], TOKENIZER.eos_token_id, *SCRIPT[6:]]
    (early, late), _ = said([1, 7], script=script, new_tokens=20)
    assert early.tokens == tuple(SCRIPT[1:6])
    assert early.text == TOKENIZER.decode(SCRIPT[1:6])
    assert early.ended == "eos"
    assert late.ended == "length"
    (other,), _ = said([1], script=script, new_tokens=20, end_tokens=[SCRIPT[3]])
    assert other.tokens == tuple(SCRIPT[1:3])


def test_the_end_of_sequence_at_once_is_an_empty_answer():
    (answer,), _ = said([1], script=[2, TOKENIZER.eos_token_id, 2])
    assert answer == Generation(text="", tokens=(), ended="eos")


def test_a_special_token_is_a_stop_string_and_otherwise_no_text():
    script = [*SCRIPT[:4], TOKENIZER.bos_token_id, *SCRIPT[4:]]
    (stopped,), _ = said([1], ["<s>"], script)
    assert stopped == Generation(text=TOKENIZER.decode(SCRIPT[1:4]), tokens=tuple(SCRIPT[1:4]), ended="stop")
    (silent,), _ = said([1], (), script, new_tokens=6)
    assert silent.tokens == tuple(script[1:7])
    assert silent.text == TOKENIZER.decode(SCRIPT[1:6])


@pytest.mark.parametrize("count", [1, 2, 25])
def test_no_answer_is_longer_than_allowed(count):
    (answer, other), _ = said([1, 40], new_tokens=[count, 3])
    assert answer.tokens == tuple(SCRIPT[1 : 1 + count])
    assert len(other.tokens) == 3
    assert answer.ended == other.ended == "length"


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


def test_no_prompts_no_answers():
    assert said([])[0] == []


def test_what_cannot_be_answered_is_said_beforehand():
    with pytest.raises(CorpusError, match="Prompt 1 has no tokens"):
        said([3, 0])
    with pytest.raises(CorpusError, match="prompt 0 may have 0 tokens: allow at least 1"):
        said([3], new_tokens=0)
    with pytest.raises(ValueError, match="shorter"):
        said([3, 4], new_tokens=[1])


def test_logits_that_are_no_numbers_are_an_error():
    held = in_memory("llama")
    name, weight = next((n, w) for n, w in tree_flatten(held.model.parameters()) if n.endswith("lm_head.weight"))
    held.model.update(tree_unflatten([(name, weight * float("nan"))]))
    with pytest.raises(WeightError, match="no numbers"):
        never_ending(held, random_prompts(), 3)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_sees_answers_and_time_left_and_a_log_nothing(monkeypatch, capfd):
    screen = Terminal()
    monkeypatch.setattr(progress, "_terminal", screen)
    held = Resident(model=Script(), activations="float32", dense_layers=0)
    held.generate(TOKENIZER, [[2]] * 3, stops=[()] * 3, new_tokens=2, what="T3 int4")
    assert "T3 int4, answer 0 of 3" in screen.getvalue()
    progress.show_on(None)
    said([1, 2])
    assert capfd.readouterr() == ("", "")


@given(st.text("ab\n", max_size=12), st.lists(st.text("ab\n", max_size=3), max_size=3))
def test_the_cut_is_lm_evals(text, stops):
    assert cut(text, stops) == postprocess_generated_text(text, stops, None)


def test_tokens_are_drawn_by_their_probabilities():
    probabilities = np.array([0.5, 0.3, 0.15, 0.05])
    draw = decoding.sampler_of(7)
    rows = mx.array(np.tile(np.log(probabilities), (500, 1)).astype(np.float32))
    drawn = np.concatenate([np.array(draw(rows)) for _ in range(20)])
    found = np.bincount(drawn, minlength=4)
    chi2 = ((found - 10_000 * probabilities) ** 2 / (10_000 * probabilities)).sum()
    assert chi2 < 16.27  # 0.1 % of chi-square with 3 degrees of freedom
    assert not np.array_equal(drawn[:500], drawn[500:1000])
