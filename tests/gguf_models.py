"""GGUF files for tests: headers byte by byte, random blocks, and a conversion of published models as llama.cpp does it.

The conversion is written down once more here, with names and permutations spelled out, and uses none of the package's
tables: the format is held to it.
"""

import json
import re
import struct

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Kind
from safetensors.numpy import load_file

SEEN = re.compile("vision|multi_modal")
NUMBERED = {"u8": (0, "<B"), "i8": (1, "<b"), "u16": (2, "<H"), "i16": (3, "<h"), "u32": (4, "<I"), "i32": (5, "<i")}
NUMBERED |= {"f32": (6, "<f"), "bool": (7, "<B"), "u64": (10, "<Q"), "i64": (11, "<q"), "f64": (12, "<d")}
IN_LAYER = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.qkv_proj": "attn_qkv",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "mlp.gate_up_proj": "ffn_up",
    "mlp.gate": "ffn_gate_inp",
    "block_sparse_moe.gate": "ffn_gate_inp",
    "mlp.shared_expert.gate_proj": "ffn_gate_shexp",
    "mlp.shared_expert.up_proj": "ffn_up_shexp",
    "mlp.shared_expert.down_proj": "ffn_down_shexp",
    "mlp.shared_expert_gate": "ffn_gate_inp_shexp",
    "post_feedforward_layernorm": "post_ffw_norm",
}
NORMED_AFTER = ("gemma2", "gemma3_text", "olmo2")  # attention has a norm behind it, too
EXPERTS = {"gate_proj": "gate", "up_proj": "up", "down_proj": "down", "w1": "gate", "w3": "up", "w2": "down"}
ARCHITECTURES = {"mistral": "llama", "mixtral": "llama", "gemma3_text": "gemma3", "qwen2_moe": "qwen2moe"}
ARCHITECTURES |= {"qwen3_moe": "qwen3moe"}


def text(value):
    content = value if isinstance(value, bytes) else value.encode()
    return struct.pack("<Q", len(content)) + content


def value(kind, content):
    """A key's type and value; `content` of "[u32]" is a list."""
    if kind.startswith("["):
        inner = kind[1:-1]
        parts = [value(inner, each) for each in content]
        number = 9 if inner.startswith("[") else 8 if inner == "text" else NUMBERED[inner][0]
        return struct.pack("<II", 9, number) + struct.pack("<Q", len(parts)) + b"".join(part[4:] for part in parts)
    if kind == "text":
        return struct.pack("<I", 8) + text(content)
    number, code = NUMBERED[kind]
    return struct.pack("<I", number) + struct.pack(code, content)


def header(keys=(), tensors=(), *, magic=b"GGUF", version=3, counts=None):
    """`keys`: (name, kind, content) or raw bytes; `tensors`: (name, sizes fastest first, number of type, offset)."""
    tensor_count, key_count = counts or (len(tensors), len(keys))
    parts = [magic, struct.pack("<IQQ", version, tensor_count, key_count)]
    parts += [key if isinstance(key, bytes) else text(key[0]) + value(key[1], key[2]) for key in keys]
    for name, sizes, kind, offset in tensors:
        parts.append(text(name) + struct.pack(f"<I{len(sizes)}QIQ", len(sizes), *sizes, kind, offset))
    return b"".join(parts)


def padded(content, alignment=32):
    return content + bytes(-len(content) % alignment)


def random_blocks(kind, rows, columns, seed=0):
    """Blocks of any bytes that decode to finite numbers: (rows, bytes of a row)."""
    random = np.random.default_rng(seed)
    block, size = gguf.GGML_QUANT_SIZES[Kind[kind]]
    blocks = random.integers(0, 256, (rows * columns // block, size), dtype=np.uint8)
    while True:
        with np.errstate(all="ignore"):
            bad = ~np.isfinite(gguf.dequantize(blocks, Kind[kind])).all(1)
        if not bad.any():
            return blocks.reshape(rows, -1)
        blocks[bad] = random.integers(0, 256, (bad.sum(), size), dtype=np.uint8)


def interleaved(rows, heads):
    """Row (half, i) of every head becomes row (i, half), one at a time."""
    width = len(rows) // heads
    order = [
        head * width + half * (width // 2) + i for head in range(heads) for i in range(width // 2) for half in (0, 1)
    ]
    return rows[order]


def llama_name(name, kind):
    """llama.cpp's name of a published tensor that is of no expert."""
    path, _, ending = name.rpartition(".")
    if "layers." not in path:
        return {"embed_tokens": "token_embd", "norm": "output_norm", "lm_head": "output"}[
            path.split(".")[-1]
        ] + f".{ending}"
    layer, _, part = path.split("layers.")[1].partition(".")
    behind = "post_attention_norm" if kind in NORMED_AFTER else "ffn_norm"
    names = IN_LAYER | {"post_attention_layernorm": behind, "pre_feedforward_layernorm": "ffn_norm"}
    return f"blk.{layer}.{names[part]}.{ending}"


def converted(tensors, config, *, apart=False):
    """Published tensors under llama.cpp's names, permuted, shifted and stacked; `apart`: an expert's tensor each."""
    kind = config["model_type"]
    heads = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}
    made, stacks = {}, {}
    for name, tensor in tensors.items():
        part = name.split(".")[-2]
        if ".experts." in name:
            layer, expert = name.split("layers.")[1].split(".")[0], int(name.split("experts.")[1].split(".")[0])
            if apart:
                made[f"blk.{layer}.ffn_{EXPERTS[part]}.{expert}.weight"] = tensor
            else:
                stacks.setdefault(f"blk.{layer}.ffn_{EXPERTS[part]}_exps.weight", {})[expert] = tensor
            continue
        if kind in ("llama", "mistral", "mixtral", "granite") and part in heads:
            tensor = interleaved(tensor, heads[part])
        if kind.startswith("gemma") and name.endswith("norm.weight"):
            tensor = tensor + np.float32(1)
        if part == "shared_expert_gate":
            tensor = tensor[0]
        made[llama_name(name, kind)] = tensor
    return made | {name: np.stack([each[number] for number in sorted(each)]) for name, each in stacks.items()}


def keys_of(config, architecture):
    """The sizes of a model, as (name, kind, content)."""
    table = {
        "block_count": "num_hidden_layers",
        "embedding_length": "hidden_size",
        "context_length": "max_position_embeddings",
    }
    table |= {"feed_forward_length": "intermediate_size", "attention.head_count": "num_attention_heads"}
    table |= {"attention.head_count_kv": "num_key_value_heads", "attention.key_length": "head_dim"}
    table |= {"expert_used_count": "num_experts_per_tok", "expert_feed_forward_length": "moe_intermediate_size"}
    experts = config.get("num_experts", config.get("num_local_experts"))
    keys = [(f"{architecture}.{own}", "u32", config[key]) for own, key in table.items() if config.get(key) is not None]
    keys += [(f"{architecture}.expert_count", "u32", experts)] if experts else []
    keys.append((f"{architecture}.attention.layer_norm_rms_epsilon", "f32", config["rms_norm_eps"]))
    return [("general.architecture", "text", architecture), *keys]


def write(file, keys, tensors, *, version=3, alignment=32):
    """A file of tensors {name: (kind, array of floats or of blocks)}; returns where each begins."""
    if alignment != 32:
        keys = [*keys, ("general.alignment", "u32", alignment)]
    listed, content, places = [], b"", {}
    for name, (kind, array) in tensors.items():
        block, size = gguf.GGML_QUANT_SIZES[Kind[kind]]
        shape = array.shape if array.dtype != np.uint8 else (*array.shape[:-1], array.shape[-1] // size * block)
        listed.append((name, shape[::-1], int(Kind[kind]), len(content)))
        content = padded(content + array.tobytes(), alignment)
    front = padded(header(keys, listed, version=version), alignment)
    places = {name: len(front) + offset for name, _, _, offset in listed}
    file.write_bytes(front + content)
    return places


def quantized(tensor, kind):
    """Floats → (kind, what is stored); of a vector always F32."""
    if tensor.ndim < 2 or kind in ("F32",):
        return "F32", tensor.astype(np.float32)
    if kind == "BF16":
        return kind, gguf.quantize(tensor.astype(np.float32), Kind.BF16).view(np.uint8).reshape(*tensor.shape[:-1], -1)
    stored = gguf.quantize(tensor.astype(np.float32), Kind[kind])
    return kind, stored


def convert(directory, file, kinds=("Q8_0",), *, apart=False, more=(), beside=()):
    """Write a directory's model to a file, its matrices by turns in these types. Returns the config of its text, the
    published tensors, and what was stored: {name in the file: (type, array)}.
    """
    config = json.loads((directory / "config.json").read_text())
    config = config.get("text_config", config)
    loaded = {name: array for path in directory.glob("*.safetensors") for name, array in load_file(path).items()}
    tensors = {name: array.astype(np.float32) for name, array in loaded.items() if not SEEN.search(name)}
    architecture = ARCHITECTURES.get(config["model_type"], config["model_type"])
    made = converted(tensors, config, apart=apart)
    stored = {name: quantized(tensor, kinds[place % len(kinds)]) for place, (name, tensor) in enumerate(made.items())}
    write(file, [*keys_of(config, architecture), *more], stored | dict(beside))
    return config, tensors, stored
