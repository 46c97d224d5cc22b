"""The mlx-lm model of a config.json, before it has weights: its parameters' shapes and its list of decoder layers."""

import importlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten, tree_map

from pytest_quantbench.errors import ModelError
from pytest_quantbench.modelconfig import remote_code

Config = Mapping[str, Any]


def skeleton(config: Config, names: Iterable[str]) -> nn.Module:
    """The mlx-lm model of this config, in evaluation mode, with lazy weights that are never made.

    Raises ModelError for an architecture that mlx-lm does not have, or whose config it cannot read.
    """
    from mlx_lm.utils import MODEL_REMAPPING

    model_type = str(config.get("model_type"))
    if not re.fullmatch(r"[\w-]+", model_type, re.ASCII):  # it becomes part of a module's name
        raise ModelError(f"Unsupported architecture: {model_type!r:.80} is not the name of one.")
    try:
        module = importlib.import_module(f"mlx_lm.models.{MODEL_REMAPPING.get(model_type, model_type)}")
    except ModuleNotFoundError as error:
        own = f" The model's own code ({', '.join(code)}) is never run." if (code := remote_code(config)) else ""
        raise ModelError(
            f"Unsupported architecture: model_type {model_type!r} is not one that mlx-lm has.{own}"
        ) from error
    try:
        # from_dict may write into nested tables of the config (Gemma 3 does).
        model: nn.Module = module.Model(module.ModelArgs.from_dict(tree_map(lambda value: value, dict(config))))
    except (TypeError, LookupError, ValueError, AttributeError, ArithmeticError, AssertionError, RuntimeError) as error:
        raise ModelError(f"mlx-lm cannot build a {model_type!r} model from this config.json: {error!r}.") from error
    if hasattr(model, "sanitize"):  # some models learn from the names that they have no output head of their own
        model.sanitize({name: mx.zeros((1, 1)) for name in names})
    model.eval()
    return model


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
        raise ModelError(f"Unsupported architecture: {type(model).__module__} has no list of decoder layers.")
    path = next(path for path, module in model.named_modules() if module is layers[0]).rpartition(".")[0]
    held: Any = model  # `model.layers` may be a slice of the list that the model goes through: follow the path instead
    for part in path.split("."):
        held = getattr(held, part)
    return path, held
