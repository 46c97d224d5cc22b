"""What headers say: under config.json's names, and whole configs and tokenizers made of it."""

import json
import math
import subprocess
import sys

import gguf
import ml_dtypes
import numpy as np
import pytest
from gguf import GGMLQuantizationType as Kind
from gguf_models import interleaved, write

from pytest_quantbench.checkpoints.checkpoint import Checkpoint
from pytest_quantbench.checkpoints.formats import open_candidate
from pytest_quantbench.checkpoints.formats.gguf import Gguf
from pytest_quantbench.checkpoints.formats.gguf_original import whole_config, write_original
from pytest_quantbench.checkpoints.formats.gguf_rope import llama3_factors
from pytest_quantbench.checkpoints.tokenizer import load_tokenizer
from pytest_quantbench.errors import ModelError

SIZES = [
    ("general.architecture", "text", "llama"),
    ("llama.block_count", "u32", 2),
    ("llama.embedding_length", "u32", 32),
    ("llama.feed_forward_length", "u32", 96),
    ("llama.attention.head_count", "u32", 4),
    ("llama.context_length", "u32", 131072),
    ("llama.attention.layer_norm_rms_epsilon", "f32", 1e-5),
    ("llama.rope.freq_base", "f32", 500000.0),
]
CONFIG = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "intermediate_size": 96,
    "rms_norm_eps": 1e-5,
    "rope_theta": 500000.0,
    "max_position_embeddings": 131072,
    "vocab_size": 6,
    "tie_word_embeddings": True,
}
EMBEDDINGS = {"token_embd.weight": ("F32", np.ones((6, 32), np.float32))}


def opened(tmp_path, more=(), tensors=EMBEDDINGS, without=()):
    keys = [key for key in SIZES if key[0] not in without]
    write(tmp_path / "x.gguf", [*keys, *more], tensors)
    return Gguf().open(tmp_path / "x.gguf")


def config_of(tmp_path, more=(), tensors=EMBEDDINGS, without=()):
    return dict(opened(tmp_path, more, tensors, without).claims().config)


def test_sizes_under_the_names_of_config_json(tmp_path):
    assert config_of(tmp_path) == CONFIG
    more = [("llama.attention.head_count_kv", "u32", 2), ("llama.attention.key_length", "u32", 16)]
    tensors = EMBEDDINGS | {"output.weight": EMBEDDINGS["token_embd.weight"]}
    changed = {"num_key_value_heads": 2, "head_dim": 16, "tie_word_embeddings": False}
    assert config_of(tmp_path, more, tensors) == CONFIG | changed


def test_sizes_that_layers_have_alike_or_not(tmp_path):
    several = [("llama.attention.head_count_kv", "[u32]", [2, 2]), ("llama.feed_forward_length", "[u32]", [64, 96])]
    found = config_of(tmp_path, several, without=["llama.feed_forward_length"])
    assert (found["num_key_value_heads"], found["intermediate_size"]) == (2, [64, 96])


def test_a_size_that_is_no_number(tmp_path):
    with pytest.raises(ModelError, match=r"x\.gguf: llama.context_length is 'long', which is no number"):
        config_of(tmp_path, [("llama.context_length", "text", "long")], without=["llama.context_length"])


def test_experts(tmp_path):
    counts = [("llama.expert_count", "u32", 8), ("llama.expert_used_count", "u32", 2)]
    found = config_of(tmp_path, counts)
    assert (found["num_local_experts"], found["num_experts_per_tok"]) == (8, 2)
    assert "num_experts_per_tok" not in config_of(tmp_path, [("llama.expert_count", "u32", 0), counts[1]])


@pytest.mark.parametrize(
    ("keys", "wanted"),
    [
        ([("type", "text", "linear"), ("factor", "f32", 4.0)], {"rope_type": "linear", "factor": 4.0}),
        ([("type", "text", "none"), ("factor", "f32", 4.0)], None),
        ([("factor", "f32", 1.0)], None),
        (
            [
                ("type", "text", "yarn"),
                ("factor", "f32", 2.5),
                ("original_context_length", "u32", 4096),
                ("yarn_beta_fast", "f32", 16.0),
            ],
            {"rope_type": "yarn", "factor": 2.5, "original_max_position_embeddings": 4096, "beta_fast": 16.0},
        ),
    ],
)
def test_scaled_positions(tmp_path, keys, wanted):
    found = config_of(tmp_path, [(f"llama.rope.scaling.{key}", *rest) for key, *rest in keys])
    assert found.get("rope_scaling") == wanted


def slow_factors(base, head_dim, factor):
    """As Llama 3's positions are described: wave by wave."""
    factors = []
    for place in range(0, head_dim, 2):
        wave = 2 * math.pi * base ** (place / head_dim)
        if wave < 8192 / 4:
            factors.append(1.0)
        elif wave > 8192 / 1:
            factors.append(factor)
        else:
            smooth = (8192 / wave - 1) / (4 - 1)
            factors.append(1 / ((1 - smooth) / factor + smooth))
    return factors


@pytest.mark.parametrize("factor", [8.0, 32.0])
def test_llama_3s_positions_are_found_from_their_factors(tmp_path, factor):
    factors = np.array(slow_factors(5e5, 128, factor), np.float32)
    heads = [("llama.attention.key_length", "u32", 128)]
    found = config_of(tmp_path, heads, EMBEDDINGS | {"rope_freqs.weight": ("F32", factors)})
    rope = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
    assert found["rope_scaling"] == {"rope_type": "llama3", "factor": factor, **rope}
    np.testing.assert_allclose(llama3_factors(found["rope_scaling"], 5e5, 128), factors, rtol=1e-6)
    holding = opened(tmp_path, heads, EMBEDDINGS | {"rope_freqs.weight": ("F32", factors**2)})
    assert "rope_scaling" not in holding.claims().config
    with pytest.raises(ModelError, match=r"by rope_freqs.weight with other numbers than Llama 3's"):
        whole_config(holding.model)


def test_positions_that_are_scaled_in_another_way_make_no_whole_config(tmp_path):
    holding = opened(tmp_path, [("llama.rope.scaling.type", "text", "odd"), ("llama.rope.scaling.factor", "f32", 2.0)])
    assert "rope_scaling" not in holding.claims().config
    with pytest.raises(ModelError, match=r"scaled in a way that is not known here"):
        whole_config(holding.model)


def test_llama_cpps_own_base_and_heads_that_are_turned_in_part(tmp_path):
    found = config_of(tmp_path, [("llama.rope.dimension_count", "u32", 6)], without=["llama.rope.freq_base"])
    assert (found["rope_theta"], found["partial_rotary_factor"]) == (10000.0, 0.75)
    assert "partial_rotary_factor" not in config_of(tmp_path, [("llama.rope.dimension_count", "u32", 8)])


def test_phi_3s_positions_are_the_files_lists(tmp_path):
    lists = {
        f"rope_factors_{kind}.weight": ("F32", np.array(each, np.float32))
        for kind, each in (("short", [1.0, 1.5]), ("long", [2.0, 4.0]))
    }
    found = config_of(tmp_path, tensors=EMBEDDINGS | lists)
    assert found["rope_scaling"] == {"rope_type": "longrope", "short_factor": [1.0, 1.5], "long_factor": [2.0, 4.0]}
    del lists["rope_factors_short.weight"]
    with pytest.raises(ModelError, match=r"rope_factors_short.weight is missing"):
        config_of(tmp_path, tensors=EMBEDDINGS | lists)


@pytest.mark.parametrize(
    ("keys", "wanted"),
    [
        ([], None),
        ([("source.repo_url", "https://huggingface.co/a/b.c-1")], "a/b.c-1"),
        ([("source.url", "https://huggingface.co/a/b/tree/main")], "a/b"),
        ([("source.huggingface.repository", "a/b")], "a/b"),
        ([("source.url", "https://example.org/a/b")], None),
        ([("base_model.0.repo_url", "https://huggingface.co/a/b")], "a/b"),
        (
            [("base_model.0.organization", "Meta Llama"), ("base_model.0.name", "Llama 3.1 8B")],
            "Meta-Llama/Llama-3.1-8B",
        ),
        (
            [
                ("base_model.0.repo_url", "https://huggingface.co/a/base"),
                ("source.repo_url", "https://huggingface.co/a/it"),
            ],
            "a/it",
        ),
    ],
)
def test_the_original_that_a_file_names(tmp_path, keys, wanted):
    assert opened(tmp_path, [(f"general.{key}", "text", each) for key, each in keys]).claims().base_model == wanted


def test_a_model_card_beside_the_file_goes_before_the_files_base_model(tmp_path):
    (tmp_path / "README.md").write_text("---\nbase_model: a/instruct\n---\nText")
    base = [("general.base_model.0.repo_url", "text", "https://huggingface.co/a/base")]
    assert opened(tmp_path, base).claims().base_model == "a/instruct"


def ggml(key, kind, content):
    return (f"tokenizer.ggml.{key}", kind, content)


def test_the_tokenizer(tmp_path):
    assert opened(tmp_path).claims().tokens is None
    assert opened(tmp_path).claims().adds_bos is None
    keys = [
        ggml("tokens", "[text]", ["<s>", "a", "[PAD2]", "b", "[PAD4]", "[PAD5]"]),
        ggml("token_type", "[i32]", [3, 1, 5, 1, 5, 5]),
        ggml("bos_token_id", "u32", 0),
        ggml("unknown_token_id", "u32", 1),
        ggml("add_bos_token", "bool", 0),
        ("tokenizer.chat_template", "text", "{{ messages }}"),
        ("general.sampling.top_p", "f32", 0.9),
        ("general.sampling.temp", "f32", 0.6),
    ]
    found = opened(tmp_path, keys).claims()
    assert list(found.tokens) == ["<s>", "a", "[PAD2]", "b"]  # what only fills the matrix is at its end
    assert found.special_tokens == {"bos_token_id": 0, "unk_token_id": 1}
    assert (found.adds_bos, found.chat_template) == (False, "{{ messages }}")
    assert found.generation == {"top_p": 0.9, "temperature": 0.6}
    with pytest.raises(ModelError, match=r"tokenizer.ggml.tokens is no list of texts"):
        opened(tmp_path, [ggml("tokens", "[u8]", [1])]).claims()


def test_spaces_in_what_was_added_to_a_vocabulary_of_sentencepiece(tmp_path):
    listed = [ggml("tokens", "[text]", ["▁a", "  ", " b"]), ggml("token_type", "[i32]", [1, 4, 1])]
    assert list(opened(tmp_path, [*listed, ggml("model", "text", "llama")]).claims().tokens) == ["▁a", "▁▁", " b"]
    assert list(opened(tmp_path, [*listed, ggml("model", "text", "gpt2")]).claims().tokens) == ["▁a", "  ", " b"]


@pytest.mark.parametrize(
    ("keys", "wanted"),
    [
        ([ggml("model", "text", "llama")], True),
        ([ggml("model", "text", "gpt2"), ggml("pre", "text", "llama-bpe")], True),
        ([ggml("model", "text", "gpt2"), ggml("pre", "text", "qwen2")], None),
        ([ggml("model", "text", "llama"), ggml("add_bos_token", "bool", 0)], False),
    ],
)
def test_bos_where_a_file_says_nothing(tmp_path, keys, wanted):
    assert opened(tmp_path, keys).claims().adds_bos is wanted


def test_no_whole_config_without_what_it_needs(tmp_path):
    keys = [("general.architecture", "text", "granite"), ("granite.block_count", "u32", 1)]
    write(tmp_path / "x.gguf", keys, EMBEDDINGS)
    with pytest.raises(ModelError, match=r"'granite', of which no whole config.json can be made here"):
        whole_config(Gguf().open(tmp_path / "x.gguf").model)
    with pytest.raises(ModelError, match=r"x\.gguf has no tokenizer"):
        write_original(opened(tmp_path), tmp_path / "out")
    keys = [ggml("model", "text", "gpt2"), ggml("pre", "text", "odd"), ggml("tokens", "[text]", ["a"])]
    with pytest.raises(ModelError, match=r"cuts texts as 'odd', which is not known here"):
        write_original(opened(tmp_path, keys), tmp_path / "out")


def test_whole_configs_of_architectures_that_know_more_than_the_file(tmp_path):
    def config(architecture, more=(), tensors=EMBEDDINGS):
        keys = [(key.replace("llama", architecture), kind, each) for key, kind, each in SIZES[1:]]
        write(tmp_path / "x.gguf", [("general.architecture", "text", architecture), *keys, *more], tensors)
        return whole_config(Gguf().open(tmp_path / "x.gguf").model)

    moe = config(
        "qwen3moe",
        [("qwen3moe.expert_count", "u32", 4)],
        EMBEDDINGS | {"blk.1.ffn_gate_inp.weight": ("F32", np.ones((4, 32), np.float32))},
    )
    assert (moe["model_type"], moe["norm_topk_prob"], moe["mlp_only_layers"]) == ("qwen3_moe", True, [0])
    assert config("gemma2")["query_pre_attn_scalar"] == 8
    assert config("llama", [("llama.expert_count", "u32", 4)])["model_type"] == "mixtral"
    biases = {"blk.0.attn_q.bias": ("F32", np.ones(32, np.float32))}
    assert config("llama", tensors=EMBEDDINGS | biases)["attention_bias"]
    assert "attention_bias" not in config("qwen2", tensors=EMBEDDINGS | biases)


def test_smollm2_is_what_its_publisher_says(smollm2):
    claims = open_candidate(smollm2).claims()
    wanted = {"hidden_size": 576, "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3}
    wanted |= {"rope_theta": 100000.0, "vocab_size": 49152, "tie_word_embeddings": True, "rms_norm_eps": 1e-5}
    wanted |= {"intermediate_size": 1536, "max_position_embeddings": 8192}
    assert claims.config == wanted
    assert len(claims.tokens) == 49152
    assert (claims.tokens[1], claims.special_tokens["eos_token_id"], claims.adds_bos) == ("<|im_start|>", 2, False)
    assert "SmolLM" in claims.chat_template


def test_every_tensor_of_smollm2(smollm2):
    """By the package's own reader and dequantization, rows of q and k put back one at a time."""
    holding, reader = open_candidate(smollm2), gguf.GGUFReader(smollm2)
    parts = {"attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj"}
    parts |= {"attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj"}
    parts |= {"ffn_down": "mlp.down_proj", "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}
    whole = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight"}
    names = []
    for tensor in reader.tensors:
        _, layer, part = (*tensor.name.split("."), "")[:3]
        names.append(whole.get(tensor.name) or f"model.layers.{layer}.{parts[part]}.weight")
        held = holding.tensor(names[-1])
        arrays = held.read()
        found = arrays["weight"] if held.codec is None else held.codec.decode(arrays)
        wanted = gguf.dequantize(tensor.data, Kind(tensor.tensor_type))
        heads = {"attn_q": 9, "attn_k": 3}.get(part)
        np.testing.assert_array_equal(found if heads is None else interleaved(found, heads), wanted, tensor.name)
    assert not holding.left_over(names)


def test_smollm2_without_an_original(smollm2, tmp_path):
    """Config, tokenizer and decoded weights make a directory that opens; texts are cut as llama.cpp cuts them."""
    from safetensors.numpy import save_file

    holding = Gguf().open(smollm2)
    write_original(holding, tmp_path)
    save_file(
        {
            "model.embed_tokens.weight": np.zeros((49152, 576), ml_dtypes.bfloat16),
            **{str(n): np.zeros(1, np.float32) for n in range(40)},
        },
        tmp_path / "model.safetensors",
    )
    assert Checkpoint(tmp_path).config["model_type"] == "llama"
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.encode("Hello world 2024 and  3.14!") == [
        *(19556, 905, 216, 34, 32, 34, 36, 284, 256, 35, 30, 33, 36, 17)
    ]
    assert tokenizer.encode("<|im_start|>user\nHi<|im_end|>") == [1, 4093, 198, 26843, 2]
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, len(tokenizer)) == (1, 2, 49152)
    assert tokenizer.chat_template == holding.claims().chat_template
    assert json.loads((tmp_path / "config.json").read_text())["architectures"] == ["LlamaForCausalLM"]


def test_no_torch_is_loaded(smollm2, tmp_path):
    code = (
        "import sys; from pathlib import Path; from pytest_quantbench.checkpoints.formats import open_candidate; "
        "from pytest_quantbench.checkpoints.formats.gguf_original import write_original; "
        f"write_original(open_candidate(Path({str(smollm2)!r})), Path({str(tmp_path)!r})); "
        "print('torch' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split()[-1] == "False"
