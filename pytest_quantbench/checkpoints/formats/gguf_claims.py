"""What a GGUF file says of its model beside the weights, under the names that the Hub's files have for it.

Source: the keys of ggml's specification and of the `gguf` package (`gguf.Keys`). Numbers that the file keeps as float32
are given as the shortest decimal that is the same float32, which is what config.json says. `model_type` is left out:
several published ones are one architecture to llama.cpp (llama, mistral and mixtral; gemma3 and gemma3_text).
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pytest_quantbench.checkpoints.formats.folder import base_model_of
from pytest_quantbench.checkpoints.formats.gguf_cursor import Value
from pytest_quantbench.checkpoints.formats.gguf_files import Model
from pytest_quantbench.checkpoints.formats.gguf_rope import rope_of, short_float
from pytest_quantbench.checkpoints.formats.protocol import Claims
from pytest_quantbench.checkpoints.safetensors_header import short
from pytest_quantbench.errors import ModelError

SIZES: Mapping[str, str] = {  # config.json's key: the file's, behind the architecture
    "hidden_size": "embedding_length",
    "num_hidden_layers": "block_count",
    "num_attention_heads": "attention.head_count",
    "num_key_value_heads": "attention.head_count_kv",
    "head_dim": "attention.key_length",
    "intermediate_size": "feed_forward_length",
    "rms_norm_eps": "attention.layer_norm_rms_epsilon",
    "max_position_embeddings": "context_length",
    "sliding_window": "attention.sliding_window",
    "num_experts_per_tok": "expert_used_count",
    "moe_intermediate_size": "expert_feed_forward_length",
    "shared_expert_intermediate_size": "expert_shared_feed_forward_length",
    "attn_logit_softcapping": "attn_logit_softcapping",
    "final_logit_softcapping": "final_logit_softcapping",
}
SAMPLING = {"top_k": "top_k", "top_p": "top_p", "min_p": "min_p", "temperature": "temp"}
SPECIAL = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}
SENTENCEPIECE = "llama"  # tokenizer.ggml.model
# Vocabularies like Llama 3's, by tokenizer.ggml.pre: llama.cpp begins texts with BOS, and takes a word that is a token
# for that token, whatever the merges make of it.
LIKE_LLAMA3 = "llama3 llama-v3 llama-bpe falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano tekken".split()
USER_DEFINED, UNUSED = 4, 5  # tokenizer.ggml.token_type
HUB = re.compile(r"https://huggingface\.co/([\w.-]+/[\w.-]+?)(\.git|/.*)?")


def claims_of(model: Model) -> Claims:
    """All of it. Raises ModelError for a value that cannot be what its key says."""
    values = model.values
    template = values.get("tokenizer.chat_template")
    return Claims(
        base_model=_base_model(model),
        config=config_of(model),
        tokens=tokens_of(model),
        chat_template=template if isinstance(template, str) else None,
        special_tokens=_special_tokens(values),
        adds_bos=adds_bos(values),
        generation={
            key: _plain(value)
            for key, own in SAMPLING.items()
            if (value := values.get(f"general.sampling.{own}")) is not None
        },
    )


def config_of(model: Model) -> dict[str, Any]:
    """The sizes and positions of the model. Raises ModelError for one that is no number."""
    architecture = str(model.values["general.architecture"])
    config: dict[str, Any] = {}
    for key, own in SIZES.items():
        if (value := model.values.get(f"{architecture}.{own}")) is not None:
            config[key] = _size(model, f"{architecture}.{own}", value)
    experts = model.values.get(f"{architecture}.expert_count")
    if isinstance(experts, int) and experts > 0:
        config["num_local_experts" if architecture == "llama" else "num_experts"] = experts
    else:
        config.pop("num_experts_per_tok", None)
    config.setdefault("num_key_value_heads", config.get("num_attention_heads"))
    if (embedding := model.tensors.get("token_embd.weight")) is not None:
        config["vocab_size"] = embedding.shape[0]
    config["tie_word_embeddings"] = "output.weight" not in model.tensors
    config |= rope_of(model, architecture, head_dim(config))
    return {key: value for key, value in config.items() if value is not None}


def head_dim(config: Mapping[str, Any]) -> int | None:
    """How many values a head has."""
    heads, hidden = config.get("num_attention_heads"), config.get("hidden_size")
    by_width = hidden // heads if isinstance(heads, int) and isinstance(hidden, int) and heads > 0 else None
    found = config.get("head_dim", by_width)
    return found if isinstance(found, int) else None


def _size(model: Model, key: str, value: Value) -> Any:
    """A number; a list of one for each layer is that number where all are the same, and else left as it is."""
    if isinstance(value, np.ndarray):
        several = value.tolist()
        return several[0] if len(set(several)) == 1 else several
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ModelError(f"{model.files[0]}: {key} is {short(value)}, which is no number.")
    return _plain(value)


def _plain(value: Value) -> Any:
    return short_float(value) if isinstance(value, float) else value


def tokens_of(model: Model) -> Sequence[str] | None:
    """Every token's text by id; None without a tokenizer. What only fills the matrix of embeddings up to its last row
    is no token, and spaces that conversion has put into SentencePiece's own additions are its ▁ again. Raises
    ModelError for a list that is none of texts.
    """
    tokens, kinds = (model.values.get(f"tokenizer.ggml.{key}") for key in ("tokens", "token_type"))
    if tokens is None:
        return None
    if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
        raise ModelError(f"{model.files[0]}: tokenizer.ggml.tokens is no list of texts.")
    if not isinstance(kinds, np.ndarray) or len(kinds) != len(tokens):
        return tokens
    count = len(tokens)
    while count and kinds[count - 1] == UNUSED and tokens[count - 1] == f"[PAD{count - 1}]":
        count -= 1
    if model.values.get("tokenizer.ggml.model") != SENTENCEPIECE:
        return tokens[:count]
    pairs = zip(tokens[:count], kinds, strict=False)
    return [token.replace(" ", "▁") if kind == USER_DEFINED else token for token, kind in pairs]


def _special_tokens(values: Mapping[str, Value]) -> dict[str, int]:
    found = {f"{key}_token_id": values.get(f"tokenizer.ggml.{own}_token_id") for key, own in SPECIAL.items()}
    return {key: value for key, value in found.items() if isinstance(value, int)}


def adds_bos(values: Mapping[str, Value]) -> bool | None:
    """Whether the file says that every text begins with BOS; where it says nothing, what llama.cpp does with the
    vocabularies to which it adds it then. None for all others.
    """
    found = values.get("tokenizer.ggml.add_bos_token")
    if isinstance(found, bool):
        return found
    kind, cutting = values.get("tokenizer.ggml.model"), values.get("tokenizer.ggml.pre")
    return True if kind == SENTENCEPIECE or cutting in LIKE_LLAMA3 else None


def _base_model(model: Model) -> str | None:
    """The original: what the file was converted from, or what a model card beside it names. Only then what the file
    calls its base model, which may be what the original itself was tuned from.
    """
    values = model.values
    urls = [values.get(f"general.source.{key}") for key in ("repo_url", "url")]
    direct = values.get("general.source.huggingface.repository")
    named = (*map(_repository, urls), direct if isinstance(direct, str) else None)
    base = "general.base_model.0"
    owner, name = values.get(f"{base}.organization"), values.get(f"{base}.name")
    spelled = None
    if isinstance(owner, str) and isinstance(name, str):
        spelled = f"{owner.replace(' ', '-')}/{name.replace(' ', '-')}"
    last = (base_model_of(model.files[0].parent), _repository(values.get(f"{base}.repo_url")), spelled)
    return next((each for each in (*named, *last) if each), None)


def _repository(url: Value | None) -> str | None:
    """`owner/name` of a page of the Hub."""
    found = HUB.fullmatch(url) if isinstance(url, str) else None
    return None if found is None else found[1]
