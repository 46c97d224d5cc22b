"""Decode steps of whole models, captured or not, against Transformers' own plain forward pass over the whole text."""

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

import numpy as np
from engines.torch.decoding import CAPTURED, OWN_MODULES, PROMPT, STEPS, follow, loaded, made, plain_logits
from hypothesis import given
from hypothesis import strategies as st

from pytest_quantbench.engines.torch.resident import MULTIPLE, room_of


@pytest.mark.slow
@pytest.mark.parametrize("name", CAPTURED)
def test_a_captured_step_is_the_plain_forward_pass(name, tmp_path):
    opened, plain = made(name, tmp_path / name)
    decoder = loaded(opened, tmp_path).decoder(len(PROMPT) + STEPS + 1)
    assert decoder.step == "captured"
    follow(decoder, lambda text: plain_logits(plain, text))


@pytest.mark.parametrize("name", ["llama-default", "gemma2", "qwen3_moe"])
def test_a_captured_step_is_the_plain_forward_pass_in_short(name, tmp_path):
    opened, plain = made(name, tmp_path / name)
    resident = loaded(opened, tmp_path)
    first = follow(resident.decoder(40), lambda text: plain_logits(plain, text))
    assert resident.step == "captured"
    assert follow(resident.decoder(40), lambda text: plain_logits(plain, text)) == first  # nothing is left of before


@pytest.mark.parametrize("name", OWN_MODULES)
def test_modules_that_do_more_than_their_kind_keep_doing_it(name, tmp_path):
    opened, plain = made(name, tmp_path / name)
    follow(loaded(opened, tmp_path).decoder(40), lambda text: plain_logits(plain, text))


def test_what_cannot_be_exported_is_run_module_by_module_and_says_so(tmp_path, capfd):
    opened, plain = made("qwen2-dynamic", tmp_path / "dynamic")
    resident = loaded(opened, tmp_path)
    follow(resident.decoder(40), lambda text: plain_logits(plain, text))
    assert resident.step == "module by module"
    assert capfd.readouterr().out == ""


def test_timed_generations_have_the_tokens_of_the_steps_and_times_that_rise(tmp_path):
    resident = loaded(made("llama-default", tmp_path / "llama")[0], tmp_path)
    timed = resident.timed(PROMPT, 20)
    decoder = resident.decoder(30)
    assert timed.tokens == (decoder.begin(PROMPT), *(decoder.next() for _ in range(19)))
    assert len(timed.seconds) == 20
    assert all(np.diff(timed.seconds) > 0)


def test_a_longer_text_gets_a_longer_memory(tmp_path):
    resident = loaded(made("llama-default", tmp_path / "llama")[0], tmp_path)
    short, same = resident.decoder(MULTIPLE - 1), resident.decoder(MULTIPLE)
    assert short is same
    assert short.length == MULTIPLE
    longer = resident.decoder(MULTIPLE + 1)
    assert longer.length == 2 * MULTIPLE
    assert longer.begin(PROMPT) == short.begin(PROMPT)
    assert longer.next() == short.next()
    assert resident.decoder(MULTIPLE) is short  # what went before does not slow it: a step looks at all of its length
    assert resident.decoder(MULTIPLE + 9) is longer


@given(st.integers(1, 10_000))
def test_memory_is_of_the_texts_own_length(tokens):
    assert tokens <= room_of(tokens) < max(1.25 * tokens, tokens + MULTIPLE)
    assert room_of(room_of(tokens)) == room_of(tokens)


def test_no_more_than_so_many_lengths_are_compiled():
    assert len({room_of(tokens) for tokens in range(1, 8193)}) <= 20


@pytest.mark.parametrize(
    ("name", "recipe_id"),
    [
        ("llama-biases", "int4-rtn"),
        ("llama-biases", "int8-dynamic"),
        pytest.param("falcon", "int8-dynamic", marks=pytest.mark.slow),
        ("opt", "int4-rtn"),
        pytest.param("phimoe", "int4-rtn", marks=pytest.mark.slow),
    ],
)
def test_quantized_steps_are_those_of_the_decoded_model(name, recipe_id, tmp_path):
    opened, _ = made(name, tmp_path / name)
    timed, exact = (loaded(opened, tmp_path, recipe_id, use) for use in ("timed", "answers"))

    def logits_of(text):
        decoder = exact.decoder(40)
        decoder.begin(text[:-1])
        decoder._token.fill_(text[-1])
        decoder.next()
        return decoder.logits.clone()

    decoder = timed.decoder(40)
    text = [*PROMPT, decoder.begin(PROMPT)]
    for _ in range(6):
        token = decoder.next()
        torch.testing.assert_close(decoder.logits, logits_of(text), atol=2e-3, rtol=2e-3)
        text.append(token)
    if name == "llama-biases":
        assert exact.dense_layers == 23  # with the embeddings


def test_everything_is_compiled_before_the_clock_begins(tmp_path):
    """Prompts of one token too, and how a step is run is known before one was."""
    from pytest_quantbench.engines.torch import step_kernels

    resident = loaded(made("llama-default", tmp_path / "llama")[0], tmp_path)
    assert resident.step == "captured"
    decoder = resident.decoder(40)
    compiled = [len(kernel.signatures) for kernel in (step_kernels._attend, step_kernels._rms_norm)]
    for prompt in ([7], PROMPT):
        decoder.begin(prompt)
        decoder.next()
    assert [len(kernel.signatures) for kernel in (step_kernels._attend, step_kernels._rms_norm)] == compiled


def test_a_prompt_of_one_token(tmp_path):
    opened, plain = made("llama-default", tmp_path / "llama")
    resident = loaded(opened, tmp_path)
    decoder, text = resident.decoder(40), [5]
    text.append(decoder.begin(text))
    expected = plain_logits(plain, text)
    decoder.next()
    torch.testing.assert_close(decoder.logits, expected, atol=1e-4, rtol=1e-4)
