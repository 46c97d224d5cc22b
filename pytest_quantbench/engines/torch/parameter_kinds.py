"""What each parameter of a Transformers model is there for, told from the classes of its modules and from shapes."""

from collections.abc import Mapping
from functools import partial

from torch import nn

from pytest_quantbench.engines.parameters import Kind, Parameter
from pytest_quantbench.engines.routers import deciding
from pytest_quantbench.engines.torch.expert_products import is_experts
from pytest_quantbench.engines.torch.skeleton import STACK, decoder_layers, shapes

MATRIX = 2  # dimensions
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def parameters(model: nn.Module) -> list[Parameter]:
    """Every parameter, in the model's order."""
    modules, (path, _) = dict(model.named_modules()), decoder_layers(model)
    kind = partial(_kind, modules=modules, routers=routers(model))
    return [
        Parameter(
            path=name,
            shape=shape,
            kind=kind(name, len(shape)),
            owner=type(modules[name.rpartition(".")[0]]).__name__,
            layer=int(name[len(path) + 1 :].partition(".")[0]) if name.startswith(path + ".") else None,
        )
        for name, shape in shapes(model).items()
    ]


def routers(model: nn.Module) -> frozenset[str]:
    """The paths of the modules that give experts their tokens."""
    modules = dict(model.named_modules())
    weights = {path: getattr(module, "weight", None) for path, module in modules.items()}
    rows = {path: len(held) for path, held in weights.items() if isinstance(held, nn.Parameter) and held.ndim == MATRIX}
    mixtures = {path: _experts(module) for path, module in modules.items() if is_experts(module)}
    return frozenset(deciding(rows, mixtures, decoder_layers(model)[0]))


def _experts(module: nn.Module) -> int:
    return next(len(held) for held in module.parameters(recurse=False) if held.ndim == STACK)


def _kind(name: str, dimensions: int, modules: Mapping[str, nn.Module], routers: frozenset[str]) -> Kind:
    """Of a parameter with this path and so many dimensions."""
    owner, _, last = name.rpartition(".")
    module = modules[owner]
    if is_experts(module) and dimensions >= MATRIX:
        return "experts" if dimensions == STACK else "expert bias"
    if dimensions < MATRIX or isinstance(module, CONVOLUTIONS):
        return "other"
    if owner in routers and last == "weight":
        return "router"
    if isinstance(module, nn.Embedding):
        return "embedding"
    if type(module) is nn.Linear:
        return "linear"
    # a matrix whose use is not known: only its own module multiplies with it
    return "foreign" if last == "weight" or dimensions == STACK else "other"
