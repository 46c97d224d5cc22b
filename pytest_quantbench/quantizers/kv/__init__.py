"""Methods that hold a model's key-value cache in few bits, one file each, and the protocol that they keep to.

Such a method is a frozen dataclass whose fields are its parameters. It says in which form every token's keys and values
are held (`CacheForm`), by arithmetic on numpy arrays; an engine that walks or generates lets attention see the cache
so. Methods never import each other; the rounding that most of them share is `Grid`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pytest_quantbench.quantizers.kv.registry import get, make, names

if TYPE_CHECKING:
    from pytest_quantbench.quantizers.kv.grid import Grid
    from pytest_quantbench.quantizers.kv.protocol import CacheForm, Floats, KVQuantizer, Rounding, Stage, rotation

__all__ = [
    "CacheForm",
    "Floats",
    "Grid",
    "KVQuantizer",
    "Part",
    "Rounding",
    "Stage",
    "get",
    "make",
    "names",
    "rotation",
]


def __getattr__(name: str) -> Any:
    """What needs numpy is imported when asked for: names are looked up in every pytest run."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{'grid' if name == 'Grid' else 'protocol'}"), name)
