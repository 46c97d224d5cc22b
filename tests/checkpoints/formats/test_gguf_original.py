"""A directory made of a GGUF file alone is the model that was converted: the same logits, in Transformers."""

import json

import numpy as np
import pytest
from gguf_models import convert, write
from safetensors.numpy import save_file

from pytest_quantbench.checkpoints.formats.gguf import Gguf
from pytest_quantbench.checkpoints.formats.gguf_original import tokenizer_of, whole_config
from pytest_quantbench.errors import ModelError

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
models = pytest.importorskip("transformers_models")

TOKENS = [[1, 5, 77, 300, 12, 9, 200, 4, 4, 31]]
SLIDING = {"layer_types": ["sliding_attention"] * 3}  # of six layers, only the last sees the whole text
NAMES = ("llama-default", "llama-wide-heads", "llama-linear", "llama-yarn", "mistral-default", "qwen2-default")
NAMES += (
    "qwen3-default",
    "phi3-default",
    "phi3-longrope",
    "phi3-partial",
    "gemma2",
    "gemma3_text-tied",
    "mixtral",
    "qwen3_moe",
    "olmo2",
)


def positions(architecture, config):
    """What conversion writes of positions, and of what is not alike in all models of an architecture."""
    rope = config["rope_parameters"]
    full, sliding = rope.get("full_attention", rope), rope.get("sliding_attention", {})
    keys = [(f"{architecture}.rope.freq_base", "f32", full["rope_theta"])]
    if full["rope_type"] in ("linear", "yarn"):
        keys.append((f"{architecture}.rope.scaling.type", "text", full["rope_type"]))
        keys.append((f"{architecture}.rope.scaling.factor", "f32", full["factor"]))
    if "original_max_position_embeddings" in full:
        own = f"{architecture}.rope.scaling.original_context_length"
        keys.append((own, "u32", full["original_max_position_embeddings"]))
    if "partial_rotary_factor" in full:
        head = config["hidden_size"] // config["num_attention_heads"]
        keys.append((f"{architecture}.rope.dimension_count", "u32", int(full["partial_rotary_factor"] * head)))
    if sliding:
        keys.append((f"{architecture}.rope.freq_base_swa", "f32", sliding["rope_theta"]))
    if architecture.startswith("gemma"):
        keys.append((f"{architecture}.attention.sliding_window", "u32", config["sliding_window"]))
    if architecture == "gemma2":
        caps = ("attn_logit_softcapping", "final_logit_softcapping")
        keys += [(f"gemma2.{cap}", "f32", config[cap]) for cap in caps]
    return keys


def factors(config):
    """Tensors with the factors of single frequencies."""
    rope = config["rope_parameters"]
    kinds = ("short", "long") if rope.get("rope_type") == "longrope" else ()
    return {f"rope_factors_{kind}.weight": ("F32", np.array(rope[f"{kind}_factor"], np.float32)) for kind in kinds}


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_same_logits(tmp_path, name):
    kind, given = models.SMALL[name]
    given = given | (SLIDING if name.startswith("gemma3") else {})
    wanted = models.save(tmp_path / "published", (kind, given), TOKENS)
    config = json.loads((tmp_path / "published" / "config.json").read_text())
    architecture = {"mistral": "llama", "mixtral": "llama", "gemma3_text": "gemma3", "qwen3_moe": "qwen3moe"}.get(
        kind, kind
    )
    more = positions(architecture, config)
    _, tensors, _ = convert(tmp_path / "published", tmp_path / "x.gguf", ("F32",), more=more, beside=factors(config))
    holding = Gguf().open(tmp_path / "x.gguf")
    made = tmp_path / "made"
    made.mkdir()
    (made / "config.json").write_text(json.dumps(whole_config(holding.model) | {"dtype": "float32"}))
    save_file({path: holding.tensor(path).read()["weight"] for path in tensors}, made / "model.safetensors")
    opened = transformers.AutoModelForCausalLM.from_pretrained(made, attn_implementation="eager").float().eval()
    with torch.no_grad():
        found = opened(torch.tensor(TOKENS)).logits[0].numpy()
    np.testing.assert_allclose(found, wanted, atol=2e-5)


MODEL = [("general.architecture", "text", "llama"), ("llama.block_count", "u32", 1)]
MODEL += [("llama.attention.head_count", "u32", 2)]
BPE = {"model": ("text", "gpt2"), "pre": ("text", "gpt-2"), "tokens": ("[text]", ["a", "b", "ab", "<e>"])}
BPE |= {"merges": ("[text]", ["a b"])}


def header_with(file, **changes):
    """A model with a small tokenizer, some of whose values are others, or None for none."""
    table = {key: value for key, value in (BPE | changes).items() if value is not None}
    keys = [(f"tokenizer.ggml.{key}", *value) for key, value in table.items()]
    write(file, MODEL + keys, {"token_embd.weight": ("F32", np.ones((3, 4), np.float32))})
    return Gguf().open(file).model


def test_a_small_tokenizer_is_built(tmp_path):
    made = tokenizer_of(header_with(tmp_path / "x.gguf", eos_token_id=("u32", 3)))
    assert made.encode("ab", add_special_tokens=False) == [2]
    assert made.eos_token_id == 3


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"merges": None}, "no merges of its tokens, nor a score for each"),
        ({"model": ("text", "llama"), "merges": None}, "no merges of its tokens, nor a score for each"),
        ({"model": ("text", "llama"), "scores": ("[f32]", [0.0])}, "no merges of its tokens, nor a score for each"),
        ({"merges": ("[text]", ["a c"])}, "the merge 'a c' is not of its tokens"),
        ({"merges": ("[text]", ["b a"])}, "the merge 'b a' is not of its tokens"),
        ({"merges": ("[text]", ["ab"])}, "the merge 'ab' is not of its tokens"),
        ({"merges": ("u32", 3)}, "the merge 3 is not of its tokens"),
        ({"eos_token_id": ("u32", 4)}, "eos_token_id is 4, and there are 4 tokens"),
        ({"bos_token_id": ("i32", -1)}, "bos_token_id is -1, and there are 4 tokens"),
        ({"token_type": ("u32", 1)}, "4 tokens have the types 1"),
        ({"token_type": ("[u32]", [1])}, r"4 tokens have the types \[1\]"),
        ({"model": ("[text]", ["gpt2"])}, r"a tokenizer of type \['gpt2'\]"),
    ],
)
def test_values_that_are_not_of_the_tokens_are_refused(tmp_path, changes, told):
    with pytest.raises(ModelError, match=rf"x\.gguf.*{told}"):
        tokenizer_of(header_with(tmp_path / "x.gguf", **changes))
