"""Decode steps of whole models, captured or not, against Transformers' own plain forward pass over the whole text."""

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import numpy as np
from transformers_models import SMALL, save

from pytest_quantbench.catalog.models import TINY_DIRECTORY
from pytest_quantbench.catalog.recipes import recipe
from pytest_quantbench.checkpoints.checkpoint import Checkpoint
from pytest_quantbench.compress.pipeline import compress
from pytest_quantbench.engines.torch.engine import TorchEngine
from pytest_quantbench.engines.torch.resident import MULTIPLE

ENGINE = TorchEngine(device="cpu")
PROMPT, STEPS = [5, 17, 230, 7, 91, 44, 3, 150, 12], 14  # past the window of 8 that some models have
# Rotary positions of every kind, biases, tied heads, windows, soft caps, norms of queries, experts, learned positions,
# layers in parallel, norms with and without weights.
CAPTURED = [
    "llama-default",
    "llama-biases",
    "llama-longrope",
    "qwen2-yarn",
    "qwen3-llama3",
    "mistral-window-not-reached",
    "gemma2",
    "gemma3_text-tied",
    "phi3-partial",
    "mixtral",
    "qwen3_moe",
    "gpt2",
    "gpt_neox",
    "olmo2",
    "cohere",
    "granite",
]
_SIZES = SMALL["llama-defaults"][1]
# Embeddings that count positions by themselves, ones that are asked for the device of their weights, a router that is a
# linear layer and chooses, and linear layers of a class of their own that do no more than others.
OWN_MODULES = {
    "opt": ("opt", _SIZES | {"ffn_dim": 96, "word_embed_proj_dim": 64}),
    "llama4_text": ("llama4_text", _SIZES | {"head_dim": 16, "moe_layers": [], "attention_chunk_size": 8}),
    "phimoe": ("phimoe", SMALL["mixtral"][1]),
    "falcon": ("falcon", {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "vocab_size": 320}),
}


def made(name, directory):
    """A small model on disk: opened, and as Transformers itself loads it."""
    save(directory, (SMALL | OWN_MODULES)[name], [[1, 2, 3]])
    for file in TINY_DIRECTORY.glob("tokenizer*"):
        (directory / file.name).write_bytes(file.read_bytes())
    plain = transformers.AutoModelForCausalLM.from_pretrained(
        directory, attn_implementation="eager", dtype=torch.float32
    )
    return ENGINE.open(Checkpoint(directory, None)), plain.eval()


def loaded(opened, tmp_path, recipe_id="bf16", use="timed"):
    return ENGINE.load(compress(opened, recipe(recipe_id), 0, tmp_path / "cache"), use)


def plain_logits(model, tokens):
    with torch.no_grad():
        return model(torch.tensor([tokens])).logits[0, -1]


def follow(decoder, logits_of):
    """Decode, and compare every step with the logits after the same text."""
    text = [*PROMPT, decoder.begin(PROMPT)]
    assert text[-1] == int(logits_of(PROMPT).argmax())
    for _ in range(STEPS):
        expected, token = logits_of(text), decoder.next()
        torch.testing.assert_close(decoder.logits, expected, atol=1e-4, rtol=1e-4)
        assert token == int(decoder.logits.argmax())
        text.append(token)
    return text[len(PROMPT) :]


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


@pytest.mark.parametrize(
    ("name", "recipe_id"),
    [
        ("llama-biases", "int4-rtn"),
        ("llama-biases", "int8-dynamic"),
        ("falcon", "int8-dynamic"),
        ("opt", "int4-rtn"),
        ("phimoe", "int4-rtn"),
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
