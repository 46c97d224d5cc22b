"""mlx-lm's module of a model_type, and what of a config.json that module reads.

Nothing in mlx-lm says which keys change its arithmetic, and a key that is declared need not be used (`rope_scaling` of
Mixtral and Qwen3-MoE is not). So the source is asked: a key is read where the arguments' class declares it and some
code beside that class takes it from the arguments.
"""

import contextlib
import dataclasses
import importlib
import importlib.util
import inspect
import io
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any

import mlx.nn as nn

from pytest_quantbench.checkpoints.config import remote_code
from pytest_quantbench.checkpoints.rope import text_table
from pytest_quantbench.engines.mlx.module_source import MODELS, closure, declared_by, source_of
from pytest_quantbench.errors import ArchitectureError, ModelError

Config = Mapping[str, Any]

GELUS = {  # what Transformers calls them, and mlx.nn
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_approx",
    "gelu_fast": "gelu_approx",
    "gelu_pytorch_tanh": "gelu_approx",
    "gelu_tanh": "gelu_approx",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reads:
    """The keys that a module reads of config.json itself and of the table of text in it, and the functions it calls.

    It may ask for more, and not use them: `asked`.
    """

    top: frozenset[str]
    text: frozenset[str]
    asked_top: frozenset[str]
    asked_text: frozenset[str]
    functions: frozenset[str]


def engine_name(config: Config) -> str:
    """The name of mlx-lm's module for this config, which need not exist. Raises ModelError for what is no name."""
    from mlx_lm.utils import MODEL_ARCHITECTURE_REMAPPING, MODEL_REMAPPING

    model_type = str(config.get("model_type"))
    if not re.fullmatch(r"[\w-]+", model_type, re.ASCII):  # it becomes part of a module's name
        raise ArchitectureError(f"Unsupported architecture: {model_type!r:.80} is not the name of one.")
    named = config.get("architectures")
    for architecture in [named] if isinstance(named, str) else named or ():
        if (model_type, architecture) in MODEL_ARCHITECTURE_REMAPPING:
            return str(MODEL_ARCHITECTURE_REMAPPING[model_type, architecture])
    return str(MODEL_REMAPPING.get(model_type, model_type))


def engine_module(config: Config) -> ModuleType:
    """mlx-lm's module for this config. Raises ModelError where there is none, or where it lacks something itself."""
    name, said = f"{MODELS}.{engine_name(config)}", io.StringIO()
    model_type = config.get("model_type")
    try:
        with contextlib.redirect_stdout(said):
            module = importlib.import_module(name)
            if not hasattr(module, "ModelArgs"):
                raise ArchitectureError(f"Unsupported architecture: model_type {model_type!r} is no model of mlx-lm's.")
            return with_gelu(name, *swap) if (swap := _other_gelu(module, config)) else module
    except ModuleNotFoundError as error:
        if error.name != name:
            raise ModelError(
                f"mlx-lm's module for {model_type!r} needs the package {error.name!r}, which is not installed."
            ) from error
        own = f" The model's own code ({', '.join(code)}) is never run." if (code := remote_code(config)) else ""
        raise ArchitectureError(
            f"Unsupported architecture: model_type {model_type!r} is not one that mlx-lm has.{own}"
        ) from error
    except (SystemExit, ImportError) as error:  # OLMo's module leaves the interpreter where it misses a package
        why = said.getvalue().strip() or error
        raise ModelError(f"mlx-lm's module for {model_type!r} cannot be loaded: {why}") from error


class _Functions:
    """mlx.nn with one function in the place of another."""

    def __init__(self, replaced: str, by: str) -> None:
        self._replaced, self._by = replaced, by

    def __getattr__(self, name: str) -> Any:
        return getattr(nn, self._by if name == self._replaced else name)


def _other_gelu(module: ModuleType, config: Config) -> tuple[str, str] | None:
    """The form of GELU that a module has built in, and the one that the config asks for, where they differ.

    mlx-lm's GPT-NeoX always takes the approximation by tanh, and its StarCoder2 the error function, whatever the config
    says; they are up to 5e-4 apart.
    """
    keys = ("hidden_activation",) if config.get("hidden_activation") else ("hidden_act", "activation_function")
    said = {str(config[key]) for key in keys if config.get(key)}  # Gemma's files have both, and the first one counts
    wanted = {GELUS.get(name) for name in said}
    called = set(source_of(module.__name__).functions & set(GELUS.values()))
    if len(wanted) == 1 and len(called) == 1 and wanted != called and (by := wanted.pop()) is not None:
        return called.pop(), by
    return None


@cache
def with_gelu(name: str, replaced: str, by: str) -> ModuleType:
    """A copy of one of mlx-lm's modules with the other form of GELU; the module itself stays as it is."""
    spec = importlib.util.find_spec(name)
    assert spec is not None  # it was imported before
    assert spec.loader is not None
    copy = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(copy)
    vars(copy)["nn"] = _Functions(replaced, by)
    return copy


def reads(config: Config) -> Reads:
    """What mlx-lm's module reads of this config. Raises ModelError as `engine_module` does."""
    top, text = engine_module(config), text_table(config)
    sources = {source_of(module.__name__) for module in closure(top)}
    inner = f"{MODELS}.{engine_name(text)}" if text is not config and "model_type" in text else ""
    if any(source.name == inner for source in sources):  # of several text models, the one that this config names
        sources = {source_of(module.__name__) for module in (top, *closure(sys.modules[inner]))}
    used = frozenset().union(*(source.used for source in sources))
    called = frozenset[str]().union(*(source.functions for source in sources))
    if (swap := _other_gelu(sys.modules[top.__name__], config)) is not None:
        called = called - {swap[0]} | {swap[1]}
    first = declared_by(top.ModelArgs)
    others = frozenset().union(*(source.declared for source in sources if source.name != top.__name__))
    inside = source_of(top.__name__).declared  # the module's own class for the text, beside ModelArgs
    beside = (others | inside) or first
    whole = first if text is not config else first | beside
    return Reads(
        top=used & whole,
        text=used & beside,
        asked_top=whole,
        asked_text=beside,
        functions=called,
    )


def own_default(config: Config, key: str) -> Any:
    """The value that mlx-lm's module takes for a key which the config leaves out; None for no such value."""
    for module in closure(engine_module(config)):
        for kind in vars(module).values():
            if inspect.isclass(kind) and dataclasses.is_dataclass(kind):
                for field in dataclasses.fields(kind):
                    if field.name == key and isinstance(field.default, int | float):
                        return field.default
    return None
