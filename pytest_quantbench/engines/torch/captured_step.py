"""One decode step on a CPU as a flat list of calls: no module, no dispatch, no memory that is made anew.

`torch.export` gives the step as a graph of operations on tensors whose shapes are fixed. It is carried out once, and
all that it made is kept: views stay what they are, whatever depends on nothing that changes from step to step is done
for good, and each operation that is left is called with the same memory for its result every time.
"""

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch.fx import Node

from pytest_quantbench.engines.torch.step_kernels import DIRECT

Call: TypeAlias = tuple[Callable[..., Any], tuple[Any, ...], Mapping[str, Any]]
# What export says of a model that it cannot: control flow that hangs on values, operations that it does not know.
UNEXPORTABLE = (torch._dynamo.exc.TorchDynamoException, torch.fx.experimental.symbolic_shapes.GuardOnDataDependentSymNode)
CHECKS = ("aten::_assert_tensor_metadata", "aten::_assert_async", "aten::_assert_scalar", "aten::_assert_async.msg")


@dataclass(frozen=True, slots=True)
class Program:
    """The calls of one step. It reads the tensors that it was captured with, and its results lie in `outputs`."""

    calls: tuple[Call, ...]
    outputs: tuple[torch.Tensor, ...]

    def run(self) -> None:
        """One step."""
        for function, given, named in self.calls:
            function(*given, **named)


def captured(step: torch.nn.Module, inputs: Sequence[torch.Tensor]) -> Program:
    """The program of a module that is called with these tensors, which it will read them from."""
    exported = torch.export.export(step, tuple(inputs), strict=False)
    return _Binding(exported, inputs).program()


class _Binding:
    """Carries a graph out once and notes what has to be done again in every step."""

    def __init__(self, exported: torch.export.ExportedProgram, inputs: Sequence[torch.Tensor]) -> None:
        self._graph = exported.graph
        signature = exported.graph_signature
        held = {**exported.state_dict, **exported.constants}
        targets = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
        targets |= signature.inputs_to_lifted_tensor_constants
        self._held = {name: held[target] for name, target in targets.items()}
        self._inputs = dict(zip(signature.user_inputs, inputs, strict=True))
        self._outputs = signature.user_outputs
        self._values: dict[Node, Any] = {}
        self._changing: set[Node] = set()
        self._same: dict[Any, Node] = {}
        self._calls: list[Call] = []

    def program(self) -> Program:
        """What it comes to."""
        self._changing |= _written(self._graph.nodes)
        with torch.no_grad():
            for node in self._graph.nodes:
                if node.op == "placeholder":
                    self._begin(node)
                elif node.op == "call_function":
                    self._call(node)
        named = {node.name: value for node, value in self._values.items()}
        return Program(calls=tuple(self._calls), outputs=tuple(named[name] for name in self._outputs))

    def _begin(self, node: Node) -> None:
        if node.name in self._inputs:
            self._changing.add(node)
        self._values[node] = (self._inputs if node.name in self._inputs else self._held)[node.name]

    def _call(self, node: Node) -> None:
        if _name(node) in CHECKS:
            return
        given, named = torch.fx.node.map_arg((node.args, dict(node.kwargs)), lambda each: self._values[each])
        result = node.target(*given, **named)
        self._values[node] = result
        if node not in self._changing and not any(each in self._changing for each in node.all_input_nodes):
            return
        self._changing.add(node)
        if is_write(node):
            self._calls.append((node.target, given, named))
        elif not _is_view(result, (given, named)):
            self._calls.append(_again(node, given, named, result))


def _name(node: Node) -> str:
    schema = getattr(node.target, "_schema", None)
    return "" if schema is None else schema.name


def is_write(node: Node) -> bool:
    """Whether an operation writes into one of its arguments."""
    schema = getattr(node.target, "_schema", None)
    return schema is not None and schema.is_mutable


def _written(nodes: Iterable[Node]) -> set[Node]:
    """What operations write into, and what that memory is a view of."""
    written: set[Node] = set()
    for node in nodes:
        if is_write(node):
            argument: Any = node.args[0]
            while isinstance(argument, Node) and argument not in written:
                written.add(argument)
                argument = argument.args[0] if argument.op == "call_function" and argument.args else None
    return written


def _tensors(tree: Any) -> list[torch.Tensor]:
    found: list[torch.Tensor] = []
    torch.fx.node.map_aggregate(tree, lambda each: found.append(each) if isinstance(each, torch.Tensor) else None)
    return found


def _is_view(result: Any, given: Any) -> bool:
    memory = {tensor.untyped_storage().data_ptr() for tensor in _tensors(given)}
    made = _tensors(result)
    return bool(made) and all(tensor.untyped_storage().data_ptr() in memory for tensor in made)


def _again(node: Node, given: Any, named: Any, result: Any) -> Call:
    """The call that computes a node's result where it was computed first."""
    name = _name(node)
    if name in DIRECT:
        function, arrays = DIRECT[name](given, result)
        return function, arrays, {}
    out = _out_variant(node.target)
    if out is not None and isinstance(result, torch.Tensor):
        return out, given, {**named, "out": result}
    def recompute():
        for old, new in zip(_tensors(result), _tensors(node.target(*given, **named)), strict=True):
            old.copy_(new)
    return recompute, (), {}


def _out_variant(target: Any) -> Any:
    schema = target._schema
    packet = getattr(torch.ops.aten, schema.name.partition("::")[2], None)
    if packet is None: return None
    wanted = [(a.name, str(a.type)) for a in schema.arguments]
    for o in packet.overloads():
        s = getattr(packet, o)._schema
        if [(a.name, str(a.type)) for a in s.arguments if not a.is_out] == wanted and sum(a.is_out for a in s.arguments) == 1:
            plain = getattr(torch, schema.name.partition("::")[2], None)
            return plain if plain is not None and schema.name.partition("::")[2] in PLAIN else getattr(packet, o)
    return None

PLAIN = {"add","mul","sub","div","neg","cat","pow","mean","rsqrt","cos","sin","le","ge","lt","gt","eq","tanh","sigmoid","exp","argmax","matmul","bmm","index_select","sqrt","logical_and","bitwise_and"}
