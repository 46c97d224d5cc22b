"""The source of mlx-lm's modules: which keys of a config.json their arguments declare, and which of them are used.

Nothing in mlx-lm says so, and a key that is declared need not be used. A key is used where code takes it from the
arguments by name.
"""

import ast
import dataclasses
import inspect
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from types import ModuleType

MODELS = "mlx_lm.models"
ARGUMENTS = re.compile(r"(.*_)?(args|config|cfg|params)")  # what mlx-lm's modules call the arguments of a model
# Modules of mlx-lm's that are no models.
BLOCKS = "activations base bitlinear_layers cache gated_delta mla pipeline rope_utils ssm switch_layers"
BUILDING_BLOCKS = frozenset(f"{MODELS}.{name}" for name in BLOCKS.split())


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Of one module: keys that classes of arguments declare, those that are taken from arguments, functions called."""

    name: str
    declared: frozenset[str]
    used: frozenset[str]
    functions: frozenset[str]


def closure(module: ModuleType) -> list[ModuleType]:
    """The module and those of mlx-lm's models that it is made of."""
    found, open_ = [module], [module]
    while open_:
        here = open_.pop()
        for name in _imported(here.__name__):
            other = sys.modules.get(name)
            if other is not None and other not in found:
                found.append(other)
                open_.append(other)
    return found


@cache
def _tree(name: str) -> ast.Module:
    return ast.parse(inspect.getsource(sys.modules[name]))


@cache
def _imported(name: str) -> list[str]:
    """The models' modules that a module imports from its own folder."""
    found = []
    for node in ast.walk(_tree(name)):
        if isinstance(node, ast.ImportFrom) and node.level == 1:
            names = [node.module] if node.module else [alias.name for alias in node.names]
            found += [f"{MODELS}.{each}" for each in names]
    return [each for each in found if each not in BUILDING_BLOCKS]


def declared_by(kind: type) -> frozenset[str]:
    """The keys that a class of arguments takes: its fields, and what its own methods ask for by name."""
    own = ast.parse(inspect.getsource(kind))
    return frozenset(field.name for field in dataclasses.fields(kind)) | frozenset(_strings(own))


@cache
def source_of(name: str) -> Source:
    module = sys.modules[name]
    kinds = [
        kind
        for kind in vars(module).values()
        if inspect.isclass(kind) and dataclasses.is_dataclass(kind) and kind.__module__ == name
    ]
    names = {kind.__name__ for kind in kinds}
    declared: set[str] = set().union(*(declared_by(kind) for kind in kinds)) if kinds else set()
    used: set[str] = set()
    functions: set[str] = set()
    for part in _tree(name).body:
        inside = isinstance(part, ast.ClassDef) and part.name in names
        used |= set(_taken(part, inside=inside)) | set(_strings(part))
        functions |= set(_called(part))
    return Source(name=name, declared=frozenset(declared), used=frozenset(used), functions=frozenset(functions))


def _taken(part: ast.AST, *, inside: bool) -> Iterator[str]:
    """Attributes taken from something that is called arguments, or from `self` within their own class."""
    for node in ast.walk(part):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
            owner = node.value.attr if isinstance(node.value, ast.Attribute) else getattr(node.value, "id", "")
            if ARGUMENTS.fullmatch(owner) or (inside and owner == "self"):
                yield node.attr


def _strings(part: ast.AST) -> Iterator[str]:
    """Every text in the code: a key may be asked for as args["key"] or getattr(args, "key")."""
    for node in ast.walk(part):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def _called(part: ast.AST) -> Iterator[str]:
    for node in ast.walk(part):
        if isinstance(node, ast.Attribute | ast.Name):
            yield node.attr if isinstance(node, ast.Attribute) else node.id
