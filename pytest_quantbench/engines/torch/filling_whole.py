"""Weights into a whole model: quantized matrices as kernels take them, or everything decoded."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import nn

from pytest_quantbench.engines.bandwidth import experts_read
from pytest_quantbench.engines.protocol import EncodedWeights
from pytest_quantbench.engines.torch.arrays import as_torch
from pytest_quantbench.engines.torch.embeddings import Embedding, Stack, Table, joined
from pytest_quantbench.engines.torch.kernels.dense import DECODED
from pytest_quantbench.engines.torch.layers import Linear, Ruled, dense, linear
from pytest_quantbench.engines.torch.stored_rows import StoredRows
from pytest_quantbench.errors import ModelError
from pytest_quantbench.quantizers import Layer
from pytest_quantbench.quantizers.encoding import Encoding

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
    read: int = 0  # bytes of one decode step, beside those of modules that know their own
    kernels: Counter[str] = field(default_factory=Counter)

    def fill(self) -> None:
        """Everything. Raises ModelError where a parameter is nowhere."""
        holders = self._holders()
        matrices = [name for name in self.weights.names if len(self._held(name).shape) > 1]
        for name in self.weights.names:
            if name not in matrices:
                self._set(name, as_torch(self.weights.dense(name)))
        for name in matrices:
            self._matrix(name, holders[id(self._held(name))])
        for path, buffer in self.model.named_buffers():
            if buffer.device != self.device and not buffer.is_meta:
                owner, _, leaf = path.rpartition(".")
                setattr(self.model.get_submodule(owner), leaf, buffer.to(self.device))
        missing = [path for path, held in self.model.state_dict().items() if held.is_meta]
        if missing:
            raise ModelError(f"The model's weights lack {', '.join(missing[:3])}: it cannot be loaded.")

    def _holders(self) -> dict[int, list[tuple[str, str]]]:
        """Every parameter's modules, with the name there: several where it is tied."""
        found: dict[int, list[tuple[str, str]]] = {}
        for path, module in self.model.named_modules():
            for leaf, parameter in module.named_parameters(recurse=False):
                found.setdefault(id(parameter), []).append((path, leaf))
        return found

    def _held(self, name: str) -> torch.Tensor:
        path, _, leaf = name.rpartition(".")
        return getattr(self.model.get_submodule(path), leaf)  # type: ignore[no-any-return]

    def _set(self, name: str, tensor: torch.Tensor) -> None:
        path, _, leaf = name.rpartition(".")
        owner = self.model.get_submodule(path)
        held = tensor.to(self.device, self.dtype) if tensor.is_floating_point() else tensor.to(self.device)
        if leaf in owner._buffers:
            owner._buffers[leaf] = held
        else:
            owner.register_parameter(leaf, nn.Parameter(held, requires_grad=False))
        self.read += held.nbytes

    def _matrix(self, name: str, holders: list[tuple[str, str]]) -> None:
        encoding = self.weights.encoding(name)
        identical = encoding is None or encoding.codec.name == "identity"
        modules = [self.model.get_submodule(path) for path, _ in holders]
        if self.native and all(isinstance(module, nn.Linear | nn.Embedding) for module in modules):
            self._native(name, holders, None if identical else encoding)
        elif self.native and not identical and encoding is not None and self._stack(name, encoding):
            return
        else:
            self._plain(name, holders, encoding)
            self.decoded += not identical
            self.kernels[DECODED if not identical else f"linear, {str(self.dtype).removeprefix('torch.')}"] += 1

    def _native(self, name: str, holders: list[tuple[str, str]], encoding: Encoding | None) -> None:
        """Linear layers by kernels, embeddings row by row."""
        layer = Layer()
        if encoding is not None:
            layer = encoding.layers()[0] or Layer()

        def decode() -> torch.Tensor:
            return as_torch(self.weights.dense(name) if encoding is None else dense(encoding, self.device))

        for path, _ in holders:
            module = self.model.get_submodule(path)
            if isinstance(module, nn.Linear):
                built = linear(layer, decode, self.device, self.dtype, module.bias)
                self.model.set_submodule(path, built)
                self.kernels[built.kernel] += 1
                self.decoded += built.kernel == DECODED
            else:
                assert isinstance(module, nn.Embedding)
                by_row = encoding is not None and layer.grid is not None and layer.rotation is None
                rows = StoredRows(layer, self.device) if by_row else Table(decode().to(self.device))
                self.decoded += encoding is not None and not by_row
                self.model.set_submodule(path, Embedding(module, rows, self.dtype))

    def _stack(self, name: str, encoding: Encoding) -> bool:
        """Experts as they are stored, where all of them are grids of one kind; whether they were."""
        grid = joined(encoding.layers()) if len(encoding.shape) == 3 else None
        if grid is None or encoding.codec.has_input_rule:
            return False
        path, _, leaf = name.rpartition(".")
        owner, stack = self.model.get_submodule(path), Stack(grid, encoding.shape[0], self.device, self.dtype)
        delattr(owner, leaf)
        setattr(owner, leaf, stack)
        self.kernels[BY_EXPERT] += 1
        self.read += stack.bytes_per_expert * experts_read(self.weights.config, stack.experts)
        return True

    def _plain(self, name: str, holders: list[tuple[str, str]], encoding: Encoding | None) -> None:
        """Decoded, with the rules for its inputs in front."""
        held = as_torch(self.weights.dense(name) if encoding is None else dense(encoding, self.device))
        before = self.read
        for path, leaf in holders:
            self._set(f"{path}.{leaf}", held)
        parameter = nn.Parameter(held.to(self.device, self.dtype), requires_grad=False)
        for path, leaf in holders:
            setattr(self.model.get_submodule(path), leaf, parameter)
        self.read = before + self._read_of(parameter, holders)
        rules = self.weights.inputs(name)
        if rules is None:
            return
        for path, _ in holders:
            module = self.model.get_submodule(path)
            if isinstance(rules, tuple) or not isinstance(module, nn.Linear):
                raise ModelError(
                    f"The inputs of {name} are quantized, which is not built for {type(module).__name__} here: leave "
                    f"its part of the recipe without a rule for inputs, or take --engine mlx."
                )
            self.model.set_submodule(path, Ruled(rules, module))

    def _read_of(self, parameter: torch.Tensor, holders: list[tuple[str, str]]) -> int:
        """What one decode step reads of a decoded parameter."""
        modules = [self.model.get_submodule(path) for path, _ in holders]
        if all(isinstance(module, nn.Embedding) for module in modules):
            return parameter.nbytes // len(parameter)
        if parameter.ndim == 3:
            return parameter.nbytes * experts_read(self.weights.config, len(parameter)) // len(parameter)
        return parameter.nbytes


def bytes_per_token(filled: Filling) -> int:
    """What one decode step reads of all weights."""
    known = [module for module in filled.model.modules() if isinstance(module, Linear | Embedding)]
    return filled.read + sum(module.bytes_per_token for module in known)


def kernels(filled: Filling) -> Mapping[str, int]:
    """Through which kernels the matrices go."""
    return dict(filled.kernels)
