"""The files of the Hub that a model has beside its weights, from a GGUF file alone: config.json and a tokenizer.

Used where there is no original: `quantbench convert FILE.gguf --to hf`. The sizes are those of gguf_claims; the
tokenizer is built by Transformers' own reading of GGUF from the values of the header, for which no torch is needed.
Where we differ from it: texts are cut as llama.cpp cuts them for the vocabularies that Transformers takes for GPT-2's
(SmolLM's and others, whose digits stand alone), and one whose way of cutting neither knows is refused, not guessed at.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from pytest_quantbench.checkpoints.formats.gguf import GgufHolding
from pytest_quantbench.checkpoints.formats.gguf_claims import LIKE_LLAMA3, adds_bos, claims_of, config_of, head_dim
from pytest_quantbench.checkpoints.formats.gguf_cursor import Value
from pytest_quantbench.checkpoints.formats.gguf_files import Model
from pytest_quantbench.checkpoints.safetensors_header import short
from pytest_quantbench.errors import ModelError

# By architecture: model_type, and the class that it names.
CLASSES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "llama": ("llama", "LlamaForCausalLM"),
        "qwen2": ("qwen2", "Qwen2ForCausalLM"),
        "qwen2moe": ("qwen2_moe", "Qwen2MoeForCausalLM"),
        "qwen3": ("qwen3", "Qwen3ForCausalLM"),
        "qwen3moe": ("qwen3_moe", "Qwen3MoeForCausalLM"),
        "phi3": ("phi3", "Phi3ForCausalLM"),
        "gemma": ("gemma", "GemmaForCausalLM"),
        "gemma2": ("gemma2", "Gemma2ForCausalLM"),
        "gemma3": ("gemma3_text", "Gemma3ForCausalLM"),
        "olmo2": ("olmo2", "Olmo2ForCausalLM"),
    }
)
MIXTRAL = ("mixtral", "MixtralForCausalLM")  # `llama`, with experts
WIDE_QUERIES = {("gemma2", 46), ("gemma3", 62)}  # the 27B ones divide by √(hidden / heads), the others by √head_dim
SPLIT_DIGITS = ("smollm", "starcoder", "refact", "command-r", "codeshell")  # tokenizer.ggml.pre
AS_GPT2 = ("gpt-2", "phi-2", "olmo", "mpt", "jais")
IDS = ("bos_token_id", "eos_token_id", "pad_token_id")
TOKENIZER = {  # of Transformers' reading: the file's key, behind `tokenizer.ggml.`
    "tokenizer_type": "model",
    "pre_tokenizer_type": "pre",
    "tokens": "tokens",
    "scores": "scores",
    "token_type": "token_type",
    "merges": "merges",
    "bos_token_id": "bos_token_id",
    "eos_token_id": "eos_token_id",
    "unk_token_id": "unknown_token_id",
    "pad_token_id": "padding_token_id",
    "add_prefix_space": "add_space_prefix",
}


def write_original(holding: GgufHolding, directory: Path) -> None:
    """Write config.json, tokenizer.json and tokenizer_config.json. Raises ModelError for what the file does not say."""
    directory.mkdir(parents=True, exist_ok=True)
    config = whole_config(holding.model)
    (directory / "config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    tokenizer_of(holding.model).save_pretrained(str(directory))


def whole_config(model: Model) -> dict[str, Any]:
    """A config.json that Transformers and mlx-lm open. Raises ModelError for an architecture whose config has more in
    it than a GGUF file has, and for scaled positions that cannot be told from their factors.
    """
    architecture = str(model.values["general.architecture"])
    if architecture not in CLASSES:
        raise ModelError(
            f"{model.files[0]} holds a model of architecture {architecture!r}, of which no whole config.json can be "
            f"made here. Give the original. Of these it can: {', '.join(CLASSES)}."
        )
    config = config_of(model)
    scaled = model.values.get(f"{architecture}.rope.scaling.type", "none") != "none"
    if (scaled or "rope_freqs.weight" in model.tensors) and "rope_scaling" not in config:
        raise ModelError(
            f"{model.files[0]}: its rotary frequencies were scaled in a way that is not known here, or by "
            f"rope_freqs.weight with other numbers than Llama 3's, which the file does not tell. Give the original."
        )
    kind, name = MIXTRAL if "num_local_experts" in config else CLASSES[architecture]
    biases = any(f"blk.0.attn_{part}.bias" in model.tensors for part in ("q", "output"))
    return {
        "architectures": [name],
        "model_type": kind,
        **config,
        **_of_architecture(model, architecture, config),
        **({"attention_bias": True} if biases and kind == "llama" else {}),
        **dict.fromkeys(IDS),  # none, where the file names none: Transformers' classes have one model's
        **{key: value for key, value in claims_of(model).special_tokens.items() if key in IDS},
        "torch_dtype": "bfloat16",
    }


def _of_architecture(model: Model, architecture: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """What llama.cpp knows of an architecture without being told."""
    if architecture in ("gemma2", "gemma3"):
        by_width = (architecture, config.get("num_hidden_layers")) in WIDE_QUERIES
        scalar = config["hidden_size"] // config["num_attention_heads"] if by_width else head_dim(config)
        return {"query_pre_attn_scalar": scalar}
    if architecture in ("qwen2moe", "qwen3moe"):
        layers = range(int(config["num_hidden_layers"]))
        dense = [layer for layer in layers if f"blk.{layer}.ffn_gate_inp.weight" not in model.tensors]
        return {"norm_topk_prob": architecture == "qwen3moe", "decoder_sparse_step": 1, "mlp_only_layers": dense}
    if architecture == "phi3" and "rope_scaling" in config:
        original = model.values.get("phi3.rope.scaling.original_context_length")
        return {"original_max_position_embeddings": original}
    return {}


def tokenizer_of(model: Model) -> Any:
    """The tokenizer as Transformers has it. Raises ModelError where the file has none, or one that is not known."""
    try:
        from transformers.integrations.gguf import gguf_tokenizer_mapping as reading
    except ImportError as error:
        raise ModelError("The installed Transformers does not read tokenizers of GGUF files. Install 5.24.") from error
    from transformers import PreTrainedTokenizerFast

    values = {key: _listed(model.values.get(f"tokenizer.ggml.{own}")) for key, own in TOKENIZER.items()}
    given = {key: value for key, value in values.items() if value is not None}
    if "tokens" not in given or "tokenizer_type" not in given:
        raise ModelError(f"{model.files[0]} has no tokenizer. Give the original.")
    kind, cutting = given["tokenizer_type"], given.get("pre_tokenizer_type", "default")
    known = (*SPLIT_DIGITS, *AS_GPT2, *reading.GGUF_PRE_TOKENIZER_SPLITS)
    if (
        not isinstance(kind, str)
        or kind not in reading.GGUF_TOKENIZER_TYPES
        or (kind == "gpt2" and cutting not in known)
    ):
        raise ModelError(
            f"{model.files[0]} has a tokenizer of type {kind!r:.80} that cuts texts as {cutting!r:.80}, which is not "
            f"known here. Give the original."
        )
    claims = claims_of(model)
    _refuse_unfit(model.files[0], given, claims.special_tokens)
    backend, _ = reading.convert_gguf_tokenizer(str(model.values["general.architecture"]), given)
    if kind == "gpt2" and cutting in SPLIT_DIGITS:
        _split_digits(backend)
    if kind == "gpt2" and cutting in LIKE_LLAMA3:
        backend.model.ignore_merges = True
    special = {f"{key.removesuffix('_id')}": given["tokens"][token] for key, token in claims.special_tokens.items()}
    made: Any = PreTrainedTokenizerFast  # it is not annotated
    return made(
        tokenizer_object=backend,
        add_bos_token=bool(adds_bos(model.values)),
        chat_template=claims.chat_template,
        **{"bos_token": None, "eos_token": None, **special},
    )


def _refuse_unfit(file: Path, given: Mapping[str, Any], special: Mapping[str, int]) -> None:
    """Raise ModelError for types, merges, scores or special tokens that cannot be those of the tokens: the libraries
    that build tokenizers take them for granted.
    """
    tokens, merges, scores = given["tokens"], given.get("merges"), given.get("scores")
    known, types = set(tokens), given.get("token_type", [])
    if not isinstance(types, list) or len(types) not in (0, len(tokens)):
        raise ModelError(f"{file}: {len(tokens)} tokens have the types {short(types)}. Fetch it again.")
    if (merges is None or given["tokenizer_type"] != "gpt2") and not (
        isinstance(scores, list) and len(scores) == len(tokens) and all(isinstance(each, float) for each in scores)
    ):
        raise ModelError(f"{file} has no merges of its tokens, nor a score for each. Give the original.")
    for merge in [merges] if isinstance(merges, str | int | float) else merges or ():
        parts = merge.split(" ") if isinstance(merge, str) else ()
        if len(parts) != 2 or not {*parts, "".join(parts)} <= known:
            raise ModelError(f"{file}: the merge {short(merge)} is not of its tokens. Fetch it again.")
    for name, token in special.items():
        if not 0 <= token < len(tokens):
            raise ModelError(f"{file}: {name} is {token}, and there are {len(tokens)} tokens. Fetch it again.")


def _listed(value: Value | None) -> Any:
    """Lists of numbers as Python's own."""
    return value.tolist() if isinstance(value, np.ndarray) else value


def _split_digits(backend: Any) -> None:
    """Every digit is cut off alone, and then texts are cut as GPT-2 cuts them."""
    from tokenizers import pre_tokenizers

    parts = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    backend.pre_tokenizer = pre_tokenizers.Sequence(parts)
