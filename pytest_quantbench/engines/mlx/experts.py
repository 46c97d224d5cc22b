"""Mixtures of experts: which layers hold a matrix for every expert, which rows go to which, and what decides it.

mlx-lm keeps one projection of all experts as one array (experts, out, in) in a `SwitchLinear`, which is called with
inputs and, for each of them, the number of the expert that takes it. Here such an array is a stack of matrices like
any other.
"""

import math
from collections.abc import Iterator, Mapping

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from numpy.typing import NDArray

from pytest_quantbench.engines.routers import deciding

Places = NDArray[np.intp]


def is_stack(module: nn.Module) -> bool:
    """Whether a module is mlx-lm's linear layer with a matrix for every expert."""
    from mlx_lm.models.switch_layers import SwitchLinear

    return type(module) is SwitchLinear


def multiplies(module: nn.Module) -> bool:
    """Whether a module's work is a product of its input with a matrix, its own or its expert's."""
    return type(module) is nn.Linear or is_stack(module)


class Routed:
    """The rows of one call, expert by expert.

    `x` (…, rows, in) and `indices` (…) are broadcast against each other, as `mx.gather_mm` does it: every block of rows
    of `shape` goes to one expert. Sorted or not makes no difference here.
    """

    def __init__(self, x: mx.array, indices: mx.array) -> None:
        outer, chosen = x.shape[:-2], np.asarray(indices)
        self.shape = np.broadcast_shapes(outer, chosen.shape)
        sources = np.broadcast_to(np.arange(math.prod(outer)).reshape(outer), self.shape).ravel()
        experts = np.broadcast_to(chosen, self.shape).ravel()
        self.order: Places = np.argsort(experts, kind="stable")  # blocks of the result, expert by expert
        self.sources: Places = sources[self.order]  # the block of `x` that each of them comes from
        self.experts, self._begins = np.unique(experts[self.order], return_index=True)

    def __iter__(self) -> Iterator[tuple[int, slice]]:
        """Every expert that has rows, and where its blocks stand in `order` and `sources`."""
        ends = [*self._begins[1:], len(self.order)]
        for expert, begin, end in zip(self.experts, self._begins, ends, strict=True):
            yield int(expert), slice(int(begin), int(end))


def routers(model: nn.Module, layers: str) -> dict[str, int]:
    """What gives the experts their tokens: the paths of such matrices' layers, and how many rows each has. `layers`:
    the path of the list of decoder layers.
    """
    modules = dict(model.named_modules())
    rows = {path: len(module["weight"]) for path, module in modules.items() if _has_matrix(module)}
    return deciding(rows, _mixtures(modules), layers)


def _mixtures(modules: Mapping[str, nn.Module]) -> dict[str, int]:
    """The modules that hold several stacks, an expert's whole network, and how many experts they have."""
    counts: dict[str, list[int]] = {}
    for path, module in modules.items():
        if is_stack(module):
            counts.setdefault(path.rpartition(".")[0], []).append(len(module["weight"]))
    return {path: found[0] for path, found in counts.items() if len(found) > 1}


def _has_matrix(module: nn.Module) -> bool:
    return isinstance(module.get("weight"), mx.array) and module["weight"].ndim == 2
