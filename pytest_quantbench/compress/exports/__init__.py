"""Forms in which a compressed model is handed on to whoever runs it: one file each, behind one protocol.

A form is found by its name in a table, and imported when it is asked for.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

from pytest_quantbench.errors import unknown

if TYPE_CHECKING:
    from pytest_quantbench.compress.exports.protocol import Exporter

MEMBERS: Mapping[str, str] = {
    "mlx": "pytest_quantbench.compress.exports.mlx:Mlx",
    "gguf": "pytest_quantbench.compress.exports.gguf:Gguf",
    "hf": "pytest_quantbench.compress.exports.hf:Hf",
}


def get(name: str) -> Exporter:
    """The exporter of this name. Raises UnknownNameError for a name that is in no table."""
    if name not in MEMBERS:
        raise unknown("form of an export", name, list(MEMBERS))
    module, _, attribute = MEMBERS[name].partition(":")
    return cast("Exporter", getattr(importlib.import_module(module), attribute)())
