"""Rotary positions of a GGUF file as config.json has them.

Source: llama.cpp's conversion, and Transformers' `rope_parameters`. The file has a base, a type of scaling with its
numbers, and, where frequencies are scaled one by one, tensors with their factors: `rope_factors_short` and `_long` of
Phi-3 are config.json's own lists, and `rope_freqs` of Llama 3 was computed from four numbers that the file does not
have. They are looked for among those that have been published, and believed where they give the same factors.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from pytest_quantbench.checkpoints.formats.gguf_cursor import Value
from pytest_quantbench.checkpoints.formats.gguf_files import Model
from pytest_quantbench.checkpoints.formats.gguf_rows import rows_of
from pytest_quantbench.errors import ModelError
from pytest_quantbench.quantizers import Array

LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
USUAL_BASE = 10000.0  # llama.cpp's, and Transformers'
CLOSE = 1e-4  # relative: the factors were computed in float32
YARN = {  # of config.json and of the file
    "beta_fast": "yarn_beta_fast",
    "beta_slow": "yarn_beta_slow",
    "attention_factor": "yarn_attn_factor",
}


def short_float(value: float) -> float:
    """The shortest decimal that is the same float32: what config.json said before it was one."""
    return float(str(np.float32(value)))


def rope_of(model: Model, architecture: str, head_dim: int | None) -> dict[str, Any]:
    """`rope_theta`, and as far as the file tells them `rope_scaling`, the base of sliding layers and the part of a head
    that is turned. Types of scaling that are not known here are left out.
    """
    said = {
        key.removeprefix(f"{architecture}.rope."): value
        for key, value in model.values.items()
        if key.startswith(f"{architecture}.rope.")
    }
    told = said.get("freq_base")
    base = short_float(told) if isinstance(told, float) else USUAL_BASE
    found: dict[str, Any] = {"rope_theta": base}
    if isinstance(local := said.get("freq_base_swa"), float):
        found["rope_local_base_freq"] = short_float(local)
    turned = said.get("dimension_count")
    if isinstance(turned, int) and head_dim is not None and 0 < turned < head_dim:
        found["partial_rotary_factor"] = turned / head_dim
    scaling = _scaling(model, said, base, head_dim)
    return found if scaling is None else {**found, "rope_scaling": scaling}


def _scaling(model: Model, said: Mapping[str, Value], base: float, head_dim: int | None) -> dict[str, Any] | None:
    if "rope_freqs.weight" in model.tensors:
        return _llama3(_factors(model, "rope_freqs.weight"), base, head_dim)
    if "rope_factors_long.weight" in model.tensors:
        kinds = ("short", "long")
        lists = {f"{kind}_factor": _factors(model, f"rope_factors_{kind}.weight").tolist() for kind in kinds}
        return {"rope_type": "longrope", **lists}
    kind, factor = said.get("scaling.type"), said.get("scaling.factor", said.get("scale_linear"))
    if not isinstance(factor, float) or kind not in ("linear", "yarn", None) or (kind is None and factor == 1):
        return None
    if kind != "yarn":
        return {"rope_type": "linear", "factor": short_float(factor)}
    found: dict[str, Any] = {"rope_type": "yarn", "factor": short_float(factor)}
    for key, own in YARN.items():
        if isinstance(value := said.get(f"scaling.{own}"), float):
            found[key] = short_float(value)
    if isinstance(original := said.get("scaling.original_context_length"), int):
        found["original_max_position_embeddings"] = original
    return found


def _factors(model: Model, name: str) -> Array:
    """(head_dim / 2,) numbers. Raises ModelError for what is no such list."""
    tensor = model.tensors.get(name)
    if tensor is None or tensor.kind != "F32" or len(tensor.shape) != 1:
        told = "is missing" if tensor is None else f"is {tensor.kind} of shape {tensor.shape}, and no list in F32"
        raise ModelError(f"{model.files[0]}: {name} {told}.")
    return rows_of(tensor)


def _llama3(factors: Array, base: float, head_dim: int | None) -> dict[str, Any] | None:
    """The numbers that give these factors; None where the published ones do not."""
    rope = {"rope_type": "llama3", "factor": short_float(float(factors.max())), **LLAMA3}
    if head_dim is None or len(factors) != head_dim // 2:
        return None
    wanted = llama3_factors(rope, base, head_dim)
    return rope if np.allclose(factors, wanted, rtol=CLOSE, atol=0) else None


def llama3_factors(rope: Mapping[str, Any], base: float, head_dim: int) -> Array:
    """By how much each of the (head_dim / 2,) frequencies is divided: not at all where its wave is short, by `factor`
    where it is long, and in between by what lies in between.
    """
    waves = 2 * math.pi * base ** (np.arange(0, head_dim, 2) / head_dim)
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    turns = rope["original_max_position_embeddings"] / waves
    smooth = np.clip((turns - low) / (high - low), 0, 1)
    return np.asarray(1 / ((1 - smooth) / rope["factor"] + smooth))
