"""Decoded weights, put into a model's modules for as long as a walk needs them, and hashed on the way."""

from collections.abc import Mapping, Sequence
from functools import cached_property, partial

import torch
from torch import nn

from pytest_quantbench.engines.digests import Digests
from pytest_quantbench.engines.protocol import Weights
from pytest_quantbench.engines.torch.arrays import as_torch, to_numpy
from pytest_quantbench.engines.torch.expert_products import Before, is_experts, set_before, stacks
from pytest_quantbench.engines.torch.rules import Rounding, rounding
from pytest_quantbench.engines.torch.skeleton import exact_parameters
from pytest_quantbench.errors import ModelError
from pytest_quantbench.quantizers.layer import InputRule

Slots = Mapping[str, Sequence[tuple[nn.Module, str]]]  # a parameter's path → the modules that hold it, under which name


class Filler:
    """Weights of several tracks, and the empty tensors that stand in a model's modules without them."""

    def __init__(self, model: nn.Module, weights: Sequence[Weights], digests: Digests, device: torch.device) -> None:
        self._weights, self._digests, self._device = weights, digests, device
        self.slots = _slots(model, weights[0].names)
        self._empty = {name: getattr(*slots[0]) for name, slots in self.slots.items()}
        self._rules: dict[str, list[torch.utils.hooks.RemovableHandle]] = {}

    @cached_property
    def _exact(self) -> frozenset[str]:
        return exact_parameters(self._weights[0].config)

    def kept(self, name: str, dtype: torch.dtype) -> torch.dtype:
        """The type that a parameter has where activations have this one."""
        return torch.float32 if dtype != torch.float32 and name in self._exact else dtype

    def fill(self, names: Sequence[str], tracks: Sequence[int], dtype: torch.dtype) -> None:
        """Put the decoded weights of these paths where they belong, in this type, and the rules of their inputs."""
        weights = self._weights[tracks[0]]
        for name in names:
            stored = as_torch(weights.dense(name))
            self._digests.note(name, stored.shape, tracks, partial(_float32_values, stored))
            self.put_as(name, stored, dtype)
            self.rule(name, weights.inputs(name))

    def empty(self, names: Sequence[str]) -> None:
        """Take them out again."""
        for name in names:
            self.put(name, self._empty[name])
            self.rule(name, None)

    def put_as(self, name: str, stored: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """Put decoded weights in their place, for activations of this type; what lies there now."""
        kept = self.kept(name, dtype) if stored.is_floating_point() else stored.dtype
        held = stored.to(self._device, kept)
        self.put(name, held)
        return held

    def put(self, name: str, tensor: torch.Tensor) -> None:
        """Put a tensor in the place of a parameter, wherever that is held."""
        for module, own in self.slots[name]:
            if own in module._buffers:
                module._buffers[own] = tensor
            else:
                module._parameters[own] = nn.Parameter(tensor, requires_grad=False)

    def rule(self, name: str, rules: InputRule | tuple[InputRule, ...] | None) -> None:
        """Set what is done to the inputs of the module that a matrix belongs to; None: nothing any longer."""
        for hook in self._rules.pop(name, []):
            hook.remove()
        module, own = self.slots[name][0]
        if is_experts(module) and own in stacks(module):
            _set_rules(module, own, None if rules is None else tuple(rules) if isinstance(rules, tuple) else (rules,))
        elif isinstance(rules, tuple):
            raise ModelError(f"{name} has rules for the inputs of experts, which its module does not tell apart.")
        elif rules is not None and type(module) is nn.Linear and own == "weight":
            rounded = rounding(rules)
            self._rules[name] = [module.register_forward_pre_hook(lambda _, args: (rounded(args[0]), *args[1:]))]


def _slots(model: nn.Module, names: Sequence[str]) -> Slots:
    """Where each parameter is held; one that several modules share, with all of them."""
    holders: dict[int, list[tuple[nn.Module, str]]] = {}
    found = {}
    for path, module in model.named_modules():
        for own, tensor in (*module._parameters.items(), *module._buffers.items()):
            if tensor is not None:
                holders.setdefault(id(tensor), []).append((module, own))
                found[f"{path}.{own}" if path else own] = id(tensor)
    missing = [name for name in names if name not in found]
    if missing:
        raise ModelError(f"{type(model).__name__} has no parameter {missing[0]}.")
    return {name: holders[found[name]] for name in names}


def _float32_values(tensor: torch.Tensor) -> memoryview:
    return to_numpy(tensor.to(torch.float32).contiguous()).data


def _set_rules(module: nn.Module, own: str, rules: tuple[InputRule, ...] | None) -> None:
    """Rules of one of the module's stacks; those of the other stay."""
    known: dict[str, Before] = dict(module.__dict__.get("ruled_stacks", {}))
    known.pop(own, None)
    if rules is not None:
        known[own] = partial(_ruled, [rounding(rule) for rule in rules])
    module.__dict__["ruled_stacks"] = known
    set_before(module, partial(_before, known) if known else None)


def _before(known: Mapping[str, Before], name: str, rows: torch.Tensor, parts: list[tuple[int, slice]]) -> torch.Tensor:
    return known[name](name, rows, parts) if name in known else rows


def _ruled(
    roundings: Sequence[Rounding], name: str, rows: torch.Tensor, parts: list[tuple[int, slice]]
) -> torch.Tensor:
    """Each expert's rows on its own grid."""
    ruled = rows.clone()
    for expert, part in parts:
        ruled[part] = roundings[expert](rows[part])
    return ruled
