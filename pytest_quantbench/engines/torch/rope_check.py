"""How a built model of Transformers turns queries and keys, held to what config.json says.

Its modules keep the frequencies as a buffer, `inv_freq`, and the factor on what is turned as `attention_scaling`; where
types of layers differ, one of each for every type, whose name stands before.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from pytest_quantbench.checkpoints.layer_kinds import layer_kinds
from pytest_quantbench.engines import rope_check
from pytest_quantbench.engines.rope_check import Turned, Turning

FREQUENCIES, SCALING = "inv_freq", "attention_scaling"
COPIES = ("original_",)  # what a dynamic one goes back to


def check_ropes(model: nn.Module, table: Mapping[str, Any]) -> None:
    """Raise ModelError where a module of the model turns otherwise than the config's table of text says."""
    config: Any = model.config
    kinds = layer_kinds(table) or list(getattr(config.get_text_config(), "layer_types", None) or [])
    rope_check.check_ropes(turned(model), table, mixed=bool(kinds), whose="Transformers'")


def turned(model: nn.Module) -> Iterator[Turned]:
    """What its modules turn by. A dynamic one as it does up to its own length."""
    for path, module in model.named_modules():
        for name, held in module.named_buffers(recurse=False):
            before = name.removesuffix(FREQUENCIES)
            if before == name or before.endswith(COPIES) or held.ndim != 1:
                continue
            scale = getattr(module, before + SCALING, 1.0)
            turning = Turning(frequencies=held.to(torch.float64).numpy(), scale=float(scale))
            yield Turned(path=path, layer_type=before.rstrip("_") or None, turning=turning)
