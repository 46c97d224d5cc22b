"""The mlx-lm model of a config.json, before it has weights: its parameters' shapes and its list of decoder layers."""

from collections.abc import Iterable, Mapping
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten, tree_map

from pytest_quantbench.checkpoints.config import as_published
from pytest_quantbench.checkpoints.key_names import with_asked_names
from pytest_quantbench.checkpoints.layer_kinds import layer_kinds, with_patterns
from pytest_quantbench.checkpoints.omitted_keys import with_omitted
from pytest_quantbench.checkpoints.rope import spelled, text_table
from pytest_quantbench.engines.mlx.config_keys import refuse_unread
from pytest_quantbench.engines.mlx.config_reads import Config as Config
from pytest_quantbench.engines.mlx.config_reads import engine_module, own_default, reads
from pytest_quantbench.engines.mlx.rope_check import check_ropes
from pytest_quantbench.engines.published_names import HEAD, with_head
from pytest_quantbench.errors import ArchitectureError, ModelError

# What mlx-lm's modules raise for a config or weights that they cannot take.
CANNOT = (TypeError, LookupError, ValueError, AttributeError, ArithmeticError, AssertionError, RuntimeError)


def skeleton(config: Config, names: Iterable[str]) -> nn.Module:
    """The mlx-lm model of this config, in evaluation mode, with lazy weights that are never made.

    `names`: of its parameters, or of the tensors they are made from; some models learn from them that they have no
    output head of their own. Raises ModelError for an architecture that mlx-lm does not have, whose config it cannot
    read, or does not read to the end.
    """
    stand_ins = {name: mx.zeros((1, 1)) for name in names}
    model = built(with_head(config, any(name.endswith(HEAD) for name in stand_ins)) if stand_ins else config)
    sanitized(model, stand_ins, config)
    return model


def built(config: Config) -> nn.Module:
    """The model of this config as its class makes it, which has not seen any names yet."""
    try:
        model, whole = _made(config)
    except CANNOT as error:
        raise ModelError(
            f"mlx-lm cannot build a {config.get('model_type')!r} model from this config.json: {error!r}."
        ) from error
    try:
        _check(model, config, text_table(whole))
    except CANNOT as error:
        raise ModelError(f"config.json has values of a kind that cannot be understood: {error!r}.") from error
    _scale_as_published(model, config)
    model.eval()
    return model


def _made(config: Config) -> tuple[nn.Module, Config]:
    """The model, and the config with what it leaves out."""
    module = engine_module(config)
    read, whole = reads(config), with_omitted(config, own_default(config, "rope_theta"))
    understood = with_asked_names(with_patterns(spelled(whole, short=True)), read.asked_top, read.asked_text)
    # from_dict may write into nested tables of the config (Gemma 3 does).
    model: nn.Module = module.Model(module.ModelArgs.from_dict(tree_map(lambda value: value, understood)))
    return model, whole


def _check(model: nn.Module, config: Config, text: Config) -> None:
    """Raise ModelError where the model does not do all that its config says; `text`: with what is left out there."""
    layers = decoder_layers(model)[0] if isinstance(getattr(model, "layers", None), list) else ""
    epsilons = {vars(module)["eps"] for _, module in model.named_modules() if "eps" in vars(module)}
    try:
        checked = check_ropes(model, text, layer_kinds(text), layers)
    except ModelError:
        refuse_unread(config, ropes_checked=True, epsilons=epsilons)  # a key that is not read may be the reason
        raise
    refuse_unread(config, ropes_checked=checked, epsilons=epsilons)


def _scale_as_published(model: nn.Module, config: Config) -> None:
    """Have Gemma's embeddings multiplied as the published model does (see `as_published`).

    mlx-lm takes the root when the model runs, from the size in its arguments, or has it beside (Gemma 4). Its Gemma 3
    rounds to bfloat16 by itself, whatever the model's type.
    """
    if not str(text_table(config).get("model_type", config["model_type"])).startswith("gemma"):
        return
    for _, module in model.named_modules():
        held = vars(module)
        for name in [each for each in held if each in ("embed_scale", "embed_tokens_per_layer_scale")]:
            setattr(module, name, as_published(held[name], config))
        size = getattr(held.get("args"), "hidden_size", None)
        if size is not None:  # whose root is the rounded number; all shapes have been made
            held["args"].hidden_size = as_published(size**0.5, config) ** 2


def sanitized(model: nn.Module, weights: Mapping[str, mx.array], config: Config) -> dict[str, mx.array]:
    """The weights as the model takes them. Once for each model: some change themselves by the names they see."""
    if not hasattr(model, "sanitize"):
        return dict(weights)
    try:
        taken: dict[str, mx.array] = model.sanitize(dict(weights))
    except CANNOT as error:
        raise ModelError(
            f"mlx-lm's {config.get('model_type')!r} cannot take these weights: {error!r}. A tensor that it needs is "
            f"missing, or has another name or shape."
        ) from error
    return taken


def shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    """Every parameter's shape by its path, in the model's order. Evaluates nothing."""
    flat: Any = tree_flatten(model.parameters())
    return {name: tuple(array.shape) for name, array in flat}


def decoder_layers(model: nn.Module) -> tuple[str, list[Any]]:
    """The path of the model's list of decoder layers, and that list itself: replacing its items replaces the layers.

    Raises ModelError for a model without such a list.
    """
    layers = getattr(model, "layers", None)
    if not isinstance(layers, list) or not layers:
        raise ArchitectureError(f"Unsupported architecture: {type(model).__module__} has no list of decoder layers.")
    path = next(path for path, module in model.named_modules() if module is layers[0]).rpartition(".")[0]
    held: Any = model  # `model.layers` may be a slice of the list that the model goes through: follow the path instead
    for part in path.split("."):
        held = getattr(held, part)
    return path, held
