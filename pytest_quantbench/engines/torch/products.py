"""Products of the walk: inputs times a dense matrix, by what is fastest on the device and exact in its type.

On a CPU PyTorch gives float32 products to Intel's library, which takes twice as long as oneDNN on processors of other
makers; oneDNN comes with PyTorch as well, and does bfloat16 there anyway.
"""

from functools import cache

import torch
from torch import nn


def product(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """(…, in) and (out, in) → (…, out), in the type of both."""
    if x.dtype == torch.float32 and x.device.type == "cpu" and has_onednn() and x.numel():
        # of numbers that do not lie behind each other it takes hundreds of times as long
        multiply = torch.ops.mkldnn._linear_pointwise
        found: torch.Tensor = multiply(x.contiguous(), weight.contiguous(), bias, "none", [], "")
        return found
    return nn.functional.linear(x, weight, bias)


class ExactHead:
    """Stands for an output head's own product: its results are float32 in every type, for differences of logits are
    losses. The float32 form of its weights is made once, and kept until they are others or `forget` is called.
    """

    def __init__(self, head: nn.Linear) -> None:
        self._head = head
        self._of: torch.Tensor | None = None
        self._exact: torch.Tensor | None = None

    def forget(self) -> None:
        """Hold no weights."""
        self._of = self._exact = None

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """(…, in) → (…, out)."""
        weight, bias = self._head.weight, self._head.bias
        if x.device.type == "cuda" and x.dtype == weight.dtype == torch.bfloat16:
            rows = torch.mm(x.reshape(-1, x.shape[-1]), weight.T, out_dtype=torch.float32)
            found = rows.reshape(*x.shape[:-1], -1)
            return found if bias is None else found + bias.float()
        if self._of is not weight or self._exact is None:
            self.forget()  # one head at a time
            self._of, self._exact = weight, weight.float()
        return product(x.float(), self._exact, None if bias is None else bias.float())


@cache
def has_onednn() -> bool:
    """Whether this build of PyTorch has oneDNN's product."""
    there = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return bool(there) and hasattr(torch.ops.mkldnn, "_linear_pointwise")
