"""The Transformers model of a config.json, before it has weights: its parameters' shapes and its decoder layers.

It is built on PyTorch's meta device, where a tensor has a shape and no memory. What a model computes once for all times
from its config, such as the frequencies of rotary positions, is no weight and in no file: it is computed here, by the
model's own code.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from pytest_quantbench.checkpoints.rope import text_table
from pytest_quantbench.engines.torch.attention import ATTENTION
from pytest_quantbench.errors import ModelError

Config = Mapping[str, Any]


def skeleton(config: Config, dtype: torch.dtype = torch.float32) -> nn.Module:
    """The causal language model of this config, in evaluation mode, its parameters on the meta device; of a model that
    also sees or hears, the text model alone. `dtype`: of its parameters.

    Raises ModelError for an architecture that Transformers does not have, or whose config it cannot read.
    """
    import transformers
    from transformers.initialization import no_init_weights

    maker: Any = transformers.AutoModelForCausalLM
    with no_init_weights(), torch.device("meta"):
        model: Any = maker.from_config(read(config), dtype=dtype, attn_implementation=ATTENTION)
    model.tie_weights()
    _compute_buffers(model)
    model.requires_grad_(False)
    built: nn.Module = model.eval()
    return built


def read(config: Config) -> Any:
    """Transformers' config of the text model."""
    import copy

    from transformers import CONFIG_MAPPING

    model_type = str(config.get("model_type"))
    if model_type not in CONFIG_MAPPING:
        raise ModelError(f"Unsupported architecture: Transformers has no model of the type {model_type!r}.")
    made = CONFIG_MAPPING[model_type].from_dict(copy.deepcopy(dict(config)))
    return made if text_table(config) is config else made.get_text_config()


def _compute_buffers(model: Any) -> None:
    """Give the buffers that are in no file their values, as Transformers itself does after it has loaded weights."""
    for held in model.state_dict(keep_vars=True).values():
        held._is_hf_initialized = True  # or a value would be drawn for it
    for path, buffer in list(model.named_non_persistent_buffers()):
        owner, _, name = path.rpartition(".")
        filling = torch.full_like(buffer, torch.nan, device="cpu") if buffer.is_floating_point() else None
        empty = torch.zeros_like(buffer, device="cpu") if filling is None else filling
        model.get_submodule(owner).register_buffer(name, empty, persistent=False)
    model.initialize_weights()
    for path, buffer in model.named_non_persistent_buffers():
        if buffer.is_floating_point() and buffer.isnan().any():
            raise ModelError(
                f"Unsupported architecture: Transformers' {type(model).__name__} does not say what {path} is to be."
            )


def shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    """Every parameter's shape by its path, in the model's order. One that is another one's is left out."""
    tied = getattr(model, "all_tied_weights_keys", {})
    return {name: tuple(held.shape) for name, held in model.state_dict().items() if name not in tied}


def decoder_layers(model: nn.Module) -> tuple[str, nn.ModuleList]:
    """The path of the model's list of decoder layers, and that list itself: replacing its items replaces the layers.

    It is the outermost list that is as long as the config says. Raises ModelError for a model without one.
    """
    config: Any = model.config
    count = config.get_text_config().num_hidden_layers
    lists = [
        (path, module)
        for path, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == count and count
    ]
    if not lists:
        raise ModelError(f"Unsupported architecture: {type(model).__name__} has no list of {count} decoder layers.")
    return min(lists, key=lambda each: each[0].count("."))
