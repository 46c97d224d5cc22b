"""Input rules in PyTorch: what quantized activations do to the inputs of a layer. See `quantizers/layer.py`."""

from collections.abc import Callable

import torch

from pytest_quantbench.quantizers.layer import LEAST_SCALE, Fixed, InputRule, PerToken

Rounding = Callable[[torch.Tensor], torch.Tensor]


def rounding(rule: InputRule) -> Rounding:
    """(…, in) → (…, in): the values that the rule's grid can express, computed in float32, in the inputs' own type."""
    return _per_token(rule) if isinstance(rule, PerToken) else _fixed(rule)


def _per_token(rule: PerToken) -> Rounding:
    def rounded(x: torch.Tensor) -> torch.Tensor:
        inputs = x.float()
        scales = (inputs.abs().amax(dim=-1, keepdim=True) / rule.top).clamp(min=LEAST_SCALE)
        return ((inputs / scales).round() * scales).to(x.dtype)

    return rounded


def _fixed(rule: Fixed) -> Rounding:
    def rounded(x: torch.Tensor) -> torch.Tensor:
        codes = ((x.float() / rule.step).round() + rule.zero).clamp(0, rule.top)
        return ((codes - rule.zero) * rule.step).to(x.dtype)

    return rounded
