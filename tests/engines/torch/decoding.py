"""Small models of many architectures that decode, and how each of their steps is checked."""

import torch
import transformers
from transformers_models import SMALL, save

from pytest_quantbench.catalog.models import TINY_DIRECTORY
from pytest_quantbench.catalog.recipes import recipe
from pytest_quantbench.checkpoints.checkpoint import Checkpoint
from pytest_quantbench.compress.pipeline import compress
from pytest_quantbench.engines.torch.engine import TorchEngine

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
