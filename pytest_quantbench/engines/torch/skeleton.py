"""The Transformers model of a config.json, before it has weights: its parameters' shapes and its decoder layers.

It is built on PyTorch's meta device, where a tensor has a shape and no memory. What a model computes once for all times
from its config, such as the frequencies of rotary positions, is no weight and in no file: it is computed here, by the
model's own code.
"""

import re
import sys
from typing import Any

import torch
from torch import nn

from pytest_quantbench.checkpoints.config import as_published
from pytest_quantbench.checkpoints.omitted_keys import with_omitted
from pytest_quantbench.checkpoints.rope import ropes_of, text_table
from pytest_quantbench.engines.torch.attention import ATTENTION
from pytest_quantbench.engines.torch.config_reading import CANNOT, Config, understood
from pytest_quantbench.engines.torch.expert_products import EXPERTS, is_experts
from pytest_quantbench.engines.torch.rope_check import check_ropes
from pytest_quantbench.errors import ArchitectureError, ModelError

STACK = 3  # dimensions: (experts, out, in)
OWN_ATTENTION = "eager"  # of models that do not ask for another


def skeleton(config: Config, dtype: torch.dtype = torch.float32) -> nn.Module:
    """The causal language model of this config, in evaluation mode, its parameters on the meta device; of a model that
    also sees or hears, the text model alone. `dtype`: of its parameters.

    Matrices are (out, in) and stacks (experts, out, in), whatever the model's own code has (`is_stored_turned`). Raises
    ModelError for an architecture that Transformers does not have, or whose config it cannot read.
    """
    read = understood(config)
    try:
        model = _built(read, dtype)
    except CANNOT as error:
        raise ModelError(
            f"Transformers cannot build a {config.get('model_type')!r} model from this config.json: {error!r:.300}."
        ) from error
    if ropes_of(text_table(config)):  # where the file says nothing, what Transformers takes for granted is meant
        base = getattr(read, "default_theta", None)
        check_ropes(model, text_table(with_omitted(config, base if isinstance(base, float) else None)))
    _scale_as_published(model, config)
    _turn(model)
    model.requires_grad_(False)
    built: nn.Module = model.eval()
    return built


def _built(config: Any, dtype: torch.dtype) -> Any:
    import transformers
    from transformers.initialization import no_init_weights

    known: Any = transformers.MODEL_FOR_CAUSAL_LM_MAPPING
    if type(config) not in known:
        raise ArchitectureError(
            f"Unsupported architecture: Transformers has no causal language model for {config.model_type!r}."
        )
    maker: Any = transformers.AutoModelForCausalLM
    attention = ATTENTION if _asks_for_attention(known[type(config)]) else OWN_ATTENTION
    with no_init_weights(), torch.device("meta"):
        model = maker.from_config(config, dtype=dtype, attn_implementation=attention, experts_implementation=EXPERTS)
    model.tie_weights()
    _compute_buffers(model)
    return model


def _asks_for_attention(kind: Any) -> bool:
    """Whether a class of models looks for its attention in Transformers' table; some that do are not marked."""
    return kind._supports_attention_backend or hasattr(sys.modules[kind.__module__], "ALL_ATTENTION_FUNCTIONS")


def _turn(model: nn.Module) -> None:
    """Have every matrix as (out, in): those of GPT-2's own kind of linear layer, and stacks that are multiplied from
    the other side. A class of the model's own that does no more than a linear layer is taken for one.
    """
    from transformers.pytorch_utils import Conv1D

    for path, module in list(model.named_modules()):
        if isinstance(module, Conv1D):
            turned: Any = nn.Linear(module.nx, module.nf, device="meta", dtype=module.weight.dtype)
            turned.is_stored_turned = True
            model.set_submodule(path, turned)
        elif isinstance(module, nn.Linear) and type(module) is not nn.Linear and _does_no_more(module):
            module.__class__ = nn.Linear
        elif is_experts(module) and module.is_transposed:
            module.is_transposed, module.is_stored_turned = False, True
            for name, held in list(module.named_parameters(recurse=False)):
                if held.ndim == STACK:
                    setattr(module, name, nn.Parameter(held.transpose(1, 2), requires_grad=False))


def _does_no_more(module: nn.Linear) -> bool:
    """Whether a module gives what a linear layer does, as Falcon's: tried in small. A router that chooses does not."""
    given = {"weight": torch.tensor([[1.0, -2.0], [0.5, 4.0], [3.0, 0.25]])}
    if module.bias is not None:
        given["bias"] = torch.tensor([0.5, -8.0, 2.0])
    rows = torch.tensor([[1.0, 2.0], [-4.0, 0.5]])  # all sums are exact
    try:
        found = torch.func.functional_call(module, given, (rows,))
    except CANNOT:
        return False
    expected = nn.functional.linear(rows, given["weight"], given.get("bias"))
    return isinstance(found, torch.Tensor) and torch.equal(found, expected)


def stored_turned(model: nn.Module) -> frozenset[str]:
    """The paths of parameters that Transformers itself has the other way around in their last two dimensions."""
    return frozenset(
        f"{path}.{name}"
        for path, module in model.named_modules()
        if getattr(module, "is_stored_turned", False)
        for name, held in module.named_parameters(recurse=False)
        if held.ndim == (STACK if is_experts(module) else 2)
    )


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
            raise ArchitectureError(
                f"Unsupported architecture: Transformers' {type(model).__name__} does not say what {path} is to be."
            )


def _scale_as_published(model: nn.Module, config: Config) -> None:
    """Round what embeddings are multiplied by as the model itself has it: in its own type, and not in the walk's."""
    for module in model.modules():
        if isinstance(module, nn.Embedding):
            for name, buffer in module.named_buffers(recurse=False):
                if not buffer.ndim and buffer.is_floating_point():
                    module.register_buffer(name, torch.tensor(as_published(float(buffer), config)), persistent=False)


def shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    """Every parameter's shape by its path, in the model's order. One that is another one's is left out."""
    tied = getattr(model, "all_tied_weights_keys", {})
    return {name: tuple(held.shape) for name, held in model.state_dict().items() if name not in tied}


def exact_parameters(config: Config) -> frozenset[str]:
    """The paths of those that Transformers keeps in float32 where all others have 16 bits, such as what gives experts
    their tokens: by its rule for names (they contain one of the model's patterns), or because its code makes them so.
    """
    model: Any = skeleton(config, torch.bfloat16)
    patterns = sorted(getattr(model, "_keep_in_fp32_modules_strict", None) or ())
    named = re.compile("|".join(pattern.replace("*", ".*") for pattern in patterns) or "$^")
    held = model.state_dict().items()
    return frozenset(name for name, each in held if each.dtype == torch.float32 or named.search(name))


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
        raise ArchitectureError(
            f"Unsupported architecture: {type(model).__name__} has no list of {count} decoder layers."
        )
    return min(lists, key=lambda each: each[0].count("."))
