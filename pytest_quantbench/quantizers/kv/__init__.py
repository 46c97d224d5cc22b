"""Methods that hold a model's key-value cache in few bits, one file each, and the protocol that they keep to.

Such a method is a frozen dataclass whose fields are its parameters. It says in which form every token's keys and values
are held (`CacheForm`), by arithmetic on numpy arrays; an engine that walks or generates lets attention see the cache
so. Methods never import each other.
"""

from pytest_quantbench.quantizers.kv.protocol import CacheForm, Floats, KVQuantizer, Rounding, Stage
from pytest_quantbench.quantizers.kv.registry import get, make, names

__all__ = ["CacheForm", "Floats", "KVQuantizer", "Rounding", "Stage", "get", "make", "names"]
