"""Shows the inputs of a decoder layer's matrices to whoever collects them, while a walk runs the layer."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from pytest_quantbench.engines.protocol import InputSink, Rows
from pytest_quantbench.engines.torch.expert_products import is_experts, set_before
from pytest_quantbench.engines.torch.products import product


class Observer:
    """Tells `inputs` what the matrices of a layer are multiplied with. Rows are float32, in numpy."""

    def __init__(self, inputs: InputSink, device: torch.device) -> None:
        self._inputs, self._device = inputs, device
        self._owner: dict[str, str] = {}  # path → the path that is called with the same inputs, and called first
        self._last: tuple[str, torch.Tensor] | None = None

    @contextmanager
    def watching(self, layer: nn.Module, prefix: str) -> Iterator[None]:
        """Look at the linear layers and experts of this decoder layer meanwhile."""
        hooks = []
        experts = [(path, module) for path, module in layer.named_modules() if is_experts(module)]
        before = [getattr(module, "before_products", None) for _, module in experts]
        for path, module in layer.named_modules():
            if type(module) is nn.Linear:
                hooks.append(module.register_forward_pre_hook(self._hook(prefix + path), prepend=True))
        for (path, module), rule in zip(experts, before, strict=True):
            set_before(module, self._routed(prefix + path, rule))
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()
            for (_, module), rule in zip(experts, before, strict=True):
                set_before(module, rule)

    def _hook(self, path: str) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...]) -> None:
            self._see(path, args[0])

        return hook

    def _see(self, path: str, x: torch.Tensor) -> None:
        """Add the input of one call."""
        shared = self._last is not None and self._last[1] is x
        owner = self._owner.setdefault(path, self._last[0] if shared and self._last else path)
        if owner != path:
            self._inputs.share(path, owner)
            return
        self._inputs.add(path, _rows(x), self._square)
        self._last = (path, x)

    def _routed(self, path: str, rule: Any) -> Any:
        def before(name: str, rows: torch.Tensor, parts: list[tuple[int, slice]]) -> torch.Tensor:
            shown = _rows(rows)
            by_expert = ((expert, shown[part]) for expert, part in parts)
            self._inputs.add_routed(f"{path}.{name}", shown, by_expert, self._square)
            return rows if rule is None else rule(name, rows, parts)

        return before

    def _square(self, rows: Rows) -> Rows:
        """rowsᵀ rows, (in, in), where the walk computes."""
        columns = torch.from_numpy(np.ascontiguousarray(rows)).to(self._device).T.contiguous()
        found: Rows = product(columns, columns).cpu().numpy()
        return found


def _rows(x: torch.Tensor) -> Rows:
    """(…, in) → (rows, in) float32."""
    rows: Rows = x.detach().float().reshape(-1, x.shape[-1]).cpu().numpy()
    return rows
