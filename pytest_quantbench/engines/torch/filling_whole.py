"""Weights into a whole model: quantized matrices as kernels take them, or everything decoded."""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any, TypeAlias

import torch
from torch import nn

from pytest_quantbench.engines.bandwidth import experts_read
from pytest_quantbench.engines.digests import Digests
from pytest_quantbench.engines.protocol import EncodedWeights
from pytest_quantbench.engines.torch.arrays import as_torch, named
from pytest_quantbench.engines.torch.embeddings import Embedding, Stack, Table, is_looked_up_by_number, joined
from pytest_quantbench.engines.torch.expert_products import is_experts
from pytest_quantbench.engines.torch.filling import Filler
from pytest_quantbench.engines.torch.kernels.dense import DECODED
from pytest_quantbench.engines.torch.layers import Linear, dense, linear
from pytest_quantbench.engines.torch.skeleton import shapes
from pytest_quantbench.engines.torch.stored_rows import StoredRows
from pytest_quantbench.errors import ModelError
from pytest_quantbench.quantizers import Layer
from pytest_quantbench.quantizers.encoding import Encoding

Decoded: TypeAlias = Callable[[], torch.Tensor]
LEAST_ITEMSIZE = 2  # of weights that nothing was done to
BY_EXPERT = "decoded when chosen"  # a stack of experts: as it is stored, until a token goes to one


@dataclass(slots=True)
class Filling:
    """Puts parameters into a model that has none yet. `native`: as they are stored, where something runs them so;
    `dtype` is that of the activations, and of whatever is decoded.
    """

    model: nn.Module
    weights: EncodedWeights
    device: torch.device
    dtype: torch.dtype
    native: bool
    decoded: int = 0  # encoded parameters that are held decoded
    kernels: Counter[str] = field(default_factory=Counter)  # through which the matrices go
    _read: int = 0  # bytes of one decode step, beside those of modules that know their own

    def fill(self) -> None:
        """Everything. Raises ModelError where a parameter is nowhere."""
        filler = Filler(self.model, [self.weights], Digests([self.weights]), self.device)
        ranks = {name: getattr(*filler.slots[name][0]).ndim for name in self.weights.names}
        paths = {id(module): path for path, module in self.model.named_modules()}
        for name in sorted(ranks, key=lambda name: ranks[name] > 1):  # biases before the matrices that take them
            encoding = self.weights.encoding(name)
            encoded = None if encoding is None or encoding.codec.name == "identity" else encoding
            if ranks[name] > 1 and self.native and self._is_native(name, filler, encoded, paths):
                continue
            self._plain(name, filler, encoding)
            if ranks[name] > 1:
                self.decoded += encoded is not None
                self.kernels[f"linear, {named(self.dtype)}" if encoded is None else DECODED] += 1
        for module in self.model.modules():
            for name, buffer in module._buffers.items():
                if buffer is not None and buffer.device != self.device and not buffer.is_meta:
                    module._buffers[name] = buffer.to(self.device)
        missing = [path for path, held in self.model.state_dict().items() if held.is_meta]
        if missing:
            raise ModelError(f"The model's weights lack {', '.join(missing[:3])}: it cannot be loaded.")

    @property
    def values(self) -> int:
        """How many weights the model has."""
        return sum(map(math.prod, shapes(self.model).values()))

    @property
    def least_bytes(self) -> int:
        """What all weights take at least, as they are to be held; known before any is decoded."""
        held = shapes(self.model)
        return sum(self._least(name, math.prod(held[name])) for name in self.weights.names if name in held)

    def _least(self, name: str, values: int) -> int:
        encoding = self.weights.encoding(name)
        if not self.native:
            return values * self.dtype.itemsize
        if encoding is None or encoding.codec.name == "identity":
            return values * min(self.dtype.itemsize, LEAST_ITEMSIZE)
        return min(sum(array.nbytes for array in encoding.arrays.values()), values * self.dtype.itemsize)

    @property
    def bytes_per_token(self) -> int:
        """What one decode step reads of all weights."""
        known = [module for module in self.model.modules() if isinstance(module, Linear | Embedding)]
        return self._read + sum(module.bytes_per_token for module in known)

    def _is_native(self, name: str, filler: Filler, encoding: Encoding | None, paths: dict[int, str]) -> bool:
        """Let kernels have a matrix, where they can; whether they do."""
        holders, dtype = filler.slots[name], filler.kept(name, self.dtype)
        if not all(_is_exchangeable(module) for module, _ in holders):
            return encoding is not None and self._is_stack(encoding, *holders[0])
        layer = Layer() if encoding is None else encoding.layers()[0]

        @cache  # of tied weights, which are decoded and held once
        def decode() -> torch.Tensor:
            held = as_torch(self.weights.dense(name) if encoding is None else dense(encoding, self.device))
            stays = encoding is None and held.itemsize < dtype.itemsize  # a kernel may read them so
            return held.to(self.device, held.dtype if stays else dtype)

        for module, _ in holders:
            made = self._embedding if isinstance(module, nn.Embedding) else self._linear
            self.model.set_submodule(paths[id(module)], made(module, layer, decode, dtype))
        self.decoded += encoding is not None and any(self._is_decoded(paths[id(module)]) for module, _ in holders)
        return True

    def _is_decoded(self, path: str) -> bool:
        """Whether a kernel's module or embeddings hold a quantized matrix as plain numbers."""
        made = self.model.get_submodule(path)
        return isinstance(made.rows, Table) if isinstance(made, Embedding) else made.kernel == DECODED

    def _linear(self, module: Any, layer: Layer | None, decode: Decoded, dtype: torch.dtype) -> nn.Module:
        """A linear layer by a kernel."""
        built = linear(layer, decode, self.device, dtype, module.bias)
        if module.bias is not None:
            self._read -= module.bias.nbytes  # counted when it was put there
        self.kernels[built.kernel] += 1
        return built

    def _embedding(self, module: Any, layer: Layer | None, decode: Decoded, dtype: torch.dtype) -> nn.Module:
        """Embeddings row by row."""
        if layer is None or layer.grid is None or layer.rotation is not None:
            return Embedding(module, Table(decode()), dtype)
        return Embedding(module, StoredRows(layer, self.device), dtype)

    def _is_stack(self, encoding: Encoding, owner: nn.Module, own: str) -> bool:
        """Keep experts as they are stored, where all of them are grids of one kind; whether they are."""
        grid = joined(encoding.layers()) if len(encoding.shape) == 3 else None
        if grid is None or encoding.codec.has_input_rule or not is_experts(owner) or owner.is_transposed:
            return False
        stack = Stack(grid, encoding.shape[0], self.device, self.dtype)
        delattr(owner, own)
        setattr(owner, own, stack)
        self.kernels[BY_EXPERT] += 1
        self._read += stack.bytes_per_expert * experts_read(self.weights.config, stack.experts)
        return True

    def _plain(self, name: str, filler: Filler, encoding: Encoding | None) -> None:
        """Put a parameter there decoded, with the rules for its inputs."""
        decoded = as_torch(self.weights.dense(name) if encoding is None else dense(encoding, self.device))
        held = filler.put_as(name, decoded, self.dtype)
        filler.rule(name, self.weights.inputs(name))
        embeds = all(isinstance(module, nn.Embedding) for module, _ in filler.slots[name])
        parts = len(held) if embeds or held.ndim == 3 else 1
        read = 1 if embeds else experts_read(self.weights.config, parts)
        self._read += held.nbytes * read // parts


def _is_exchangeable(module: nn.Module) -> bool:
    """Whether a module of ours can take this one's place: not where its class does more, as Llama 4's router does."""
    return type(module) is nn.Linear or (isinstance(module, nn.Embedding) and is_looked_up_by_number(module))
