"""Mixtures of experts: an implementation of our own of what Transformers keeps as stacks of matrices.

Transformers' modules of experts ask a table for the function that computes them (`ExpertsInterface`). Ours is in it
under the name `EXPERTS`: expert by expert, every one's rows in one product, whose inputs can be changed or looked at.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from transformers.integrations.moe import ExpertsInterface

from pytest_quantbench.engines.torch.products import product

EXPERTS = "quantbench"
# (name of the stack, rows of all experts sorted by expert, each expert and its rows' slice) → rows to be multiplied
Before = Callable[[str, torch.Tensor, list[tuple[int, slice]]], torch.Tensor]


def is_experts(module: nn.Module) -> bool:
    """Whether a module holds stacks of matrices, and asks the table who computes it."""
    return hasattr(module, "_is_expert_parallel") and hasattr(module, "is_transposed")


def stacks(module: nn.Module) -> list[str]:
    """The names of a module's stacks of matrices, in the order in which they multiply."""
    return ["gate_up_proj" if module.has_gate else "up_proj", "down_proj"]


def set_before(module: nn.Module, before: Before | None) -> None:
    """What the inputs of a module's products go through from now on; None: nothing."""
    module.before_products = before  # type: ignore[assignment]


def _experts(module: Any, hidden: torch.Tensor, chosen: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """(tokens, in) and for each token the experts it goes to and their weights, (tokens, k) → (tokens, in).

    A token that goes to expert number `num_experts` goes to none.
    """
    experts, order = torch.sort(chosen.reshape(-1), stable=True)
    parts = list(_parts(experts, module.num_experts))
    routed = order[: parts[-1][1].stop if parts else 0]
    tokens = routed // chosen.shape[-1]
    before = getattr(module, "before_products", None)
    rows = hidden[tokens]
    for place, name in enumerate(stacks(module)):
        rows = _multiplied(module, name, rows if before is None else before(name, rows, parts), parts)
        if place == 0:
            rows = module._apply_gate(rows) if module.has_gate else module.act_fn(rows)
    if module.has_post_expert_norm:
        rows = module.post_expert_norm(rows)
    weighted = rows * weights.reshape(-1)[routed, None]
    added = torch.zeros_like(hidden, dtype=torch.promote_types(weighted.dtype, torch.float32))
    return added.index_add_(0, tokens, weighted.to(added.dtype)).to(hidden.dtype)


def _parts(experts: torch.Tensor, count: int) -> Iterator[tuple[int, slice]]:
    """Of sorted numbers of experts every one that has rows, and where they stand."""
    begin = 0
    for expert, rows in enumerate(torch.bincount(experts, minlength=count)[:count].tolist()):
        if rows:
            yield expert, slice(begin, begin + rows)
        begin += rows


def _multiplied(module: Any, name: str, rows: torch.Tensor, parts: list[tuple[int, slice]]) -> torch.Tensor:
    """(rows, in) → (rows, out), each with its expert's matrix."""
    stack = getattr(module, name)
    bias = getattr(module, f"{name}_bias") if module.has_bias else None
    matrices = stack.transpose(1, 2) if module.is_transposed else stack  # (experts, out, in)
    out = rows.new_empty((len(rows), matrices.shape[1]))
    for expert, part in parts:
        out[part] = product(rows[part], matrices[expert], None if bias is None else bias[expert])
    return out


ExpertsInterface.register(EXPERTS, _experts)
