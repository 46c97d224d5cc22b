"""One decode step on a CPU as a flat list of calls: no module, no dispatch, no memory that is made anew.

`torch.export` gives the step as a graph of operations on tensors whose shapes are fixed. It is carried out once, and
all that it made is kept: views stay what they are, whatever depends on nothing that changes from step to step is done
for good, and each operation that is left is called with the same memory for its result every time.
"""

import io
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch.fx import Node

from pytest_quantbench.engines.torch import step_kernels
from pytest_quantbench.engines.torch.kernels.cpu import product
from pytest_quantbench.engines.torch.step_patterns import simplified

Call: TypeAlias = tuple[Callable[..., Any], tuple[Any, ...], Mapping[str, Any]]
# By an operation's name: what makes of its arguments, and of the place of its result, a function and what it is called
# with in every step. The compiled code is called with nothing of PyTorch's in between.
DIRECT: Mapping[str, Callable[[tuple[Any, ...], torch.Tensor], tuple[Callable[..., Any], tuple[Any, ...]]]] = {
    **step_kernels.DIRECT,
    "quantbench::cpu_product": product.bind,
}
# What export says of a model that it cannot: control flow that hangs on values, operations that it does not know.
UNEXPORTABLE = (
    torch._dynamo.exc.TorchDynamoException,
    torch.fx.experimental.symbolic_shapes.GuardOnDataDependentSymNode,
    torch._subclasses.fake_tensor.DataDependentOutputException,
    torch._subclasses.fake_tensor.DynamicOutputShapeException,
    torch._subclasses.fake_tensor.UnsupportedOperatorException,
)


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
    """The program of a module that is called with these tensors, and will read what is in them.

    Raises one of UNEXPORTABLE for a module that cannot be exported.
    """
    with _quiet():
        exported = torch.export.export(step, tuple(inputs), strict=False)
    simplified(exported.graph)
    return _Binding(exported, inputs).program()


@contextmanager
def _quiet() -> Iterator[None]:
    """Exporting prints the graph as far as it got where it fails, and warns beside the error that it raises."""
    log = logging.getLogger("torch.fx.experimental.symbolic_shapes")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with redirect_stderr(io.StringIO()):
            yield
    finally:
        log.setLevel(level)


class _Binding:
    """Carries a graph out once and notes what has to be done again in every step."""

    def __init__(self, exported: torch.export.ExportedProgram, inputs: Sequence[torch.Tensor]) -> None:
        self._graph, signature = exported.graph, exported.graph_signature
        held = {**exported.state_dict, **exported.constants}
        targets = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
        targets |= signature.inputs_to_lifted_tensor_constants
        self._inputs = dict(zip(signature.user_inputs, inputs, strict=True))
        self._held = {**{name: held[target] for name, target in targets.items()}, **self._inputs}
        self._outputs = signature.user_outputs
        self._values: dict[Node, Any] = {}
        self._changing = _written(self._graph.nodes)  # what is not the same in every step
        self._calls: list[Call] = []

    def program(self) -> Program:
        """What it comes to."""
        with torch.no_grad():
            for node in self._graph.nodes:
                if node.op == "placeholder":
                    self._values[node] = self._held[node.name]
                    self._changing |= {node} if node.name in self._inputs else set()
                elif node.op == "call_function":
                    self._call(node)
        named = {node.name: value for node, value in self._values.items()}
        return Program(calls=tuple(self._calls), outputs=tuple(named[str(name)] for name in self._outputs))

    def _call(self, node: Node) -> None:
        """Do it, and note it where it has to be done again."""
        given, named = torch.fx.map_arg((node.args, dict(node.kwargs)), lambda each: self._values[each])
        target: Any = node.target
        result = self._values[node] = target(*given, **named)
        if node not in self._changing and not self._changing.intersection(node.all_input_nodes):
            return
        self._changing.add(node)
        if _writes(node):
            self._calls.append((target, given, named))
        elif not _is_view(result, (given, named)):
            self._calls.append(_again(target, given, named, result))


def _writes(node: Node) -> bool:
    """Whether an operation writes into its first argument."""
    schema = getattr(node.target, "_schema", None)
    return schema is not None and schema.is_mutable


def _written(nodes: Iterable[Node]) -> set[Node]:
    """What operations write into, and what that memory may be a view of."""
    written: set[Node] = set()
    for node in nodes:
        argument: Any = node.args[0] if _writes(node) else None
        while isinstance(argument, Node) and argument not in written:
            written.add(argument)
            argument = argument.args[0] if argument.op == "call_function" and argument.args else None
    return written


def _tensors(tree: Any) -> list[torch.Tensor]:
    return [each for each in torch.utils._pytree.tree_leaves(tree) if isinstance(each, torch.Tensor)]


def _is_view(result: Any, given: Any) -> bool:
    """Whether a result is memory of its arguments, seen in another way."""
    memory = {tensor.untyped_storage().data_ptr() for tensor in _tensors(given)}
    made = _tensors(result)
    return bool(made) and all(tensor.untyped_storage().data_ptr() in memory for tensor in made)


def _again(target: Any, given: Any, named: Mapping[str, Any], result: Any) -> Call:
    """The call that computes a result where it was computed first."""
    schema = target._schema
    if schema.name in DIRECT:
        function, arrays = DIRECT[schema.name](given, result)
        return function, arrays, {}
    into = _into(schema) if isinstance(result, torch.Tensor) else None
    if into is not None:
        return into, given, {**named, "out": result}
    return _copied, (target, given, named, _tensors(result)), {}


def _copied(target: Any, given: Any, named: Mapping[str, Any], results: Sequence[torch.Tensor]) -> None:
    """For operations that cannot be told where to put what they make."""
    for result, made in zip(results, _tensors(target(*given, **named)), strict=True):
        result.copy_(made)


def _into(schema: Any) -> Callable[..., Any] | None:
    """The same operation with a place for its result, `out`; None where there is none."""
    name = schema.name.removeprefix("aten::")
    packet = getattr(torch.ops.aten, name, None) if schema.name.startswith("aten::") else None
    wanted = [(argument.name, str(argument.type)) for argument in schema.arguments]
    for overload in () if packet is None else packet.overloads():
        operation = getattr(packet, overload)
        arguments = operation._schema.arguments
        plain = [(argument.name, str(argument.type)) for argument in arguments if not argument.is_out]
        if plain == wanted and [argument.name for argument in arguments if argument.is_out] == ["out"]:
            return PLAIN.get(name, operation)  # type: ignore[no-any-return]
    return None


# PyTorch's functions of the same name, which are called in half the time
PLAIN: Mapping[str, Any] = {
    name: getattr(torch, name)
    for name in (
        "add mul sub div neg cat pow mean rsqrt sqrt cos sin tanh sigmoid exp le ge lt gt eq argmax matmul bmm sum "
        "amax logical_and bitwise_and index_select"
    ).split()
}
