"""One decode step on a CPU as a flat list of calls: no module, no dispatch, no memory that is made anew.

`torch.export` gives the step as a graph of operations on tensors whose shapes are fixed. It is carried out once, and
all that it made is kept: views stay what they are, whatever depends on nothing that changes from step to step is done
for good, and each operation that is left is called with the same memory for its result every time.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch.fx import Node

from pytest_quantbench.engines.torch import step_kernels, tracing
from pytest_quantbench.engines.torch.kernels.cpu import product
from pytest_quantbench.engines.torch.step_patterns import simplified
from pytest_quantbench.engines.torch.tracing import UntraceableError
from pytest_quantbench.errors import first_line

Call: TypeAlias = tuple[Callable[..., Any], tuple[Any, ...], Mapping[str, Any]]
# By an operation's name: what makes of its arguments, and of the place of its result, a function and what it is called
# with in every step. The compiled code is called with nothing of PyTorch's in between.
DIRECT: Mapping[str, Callable[[tuple[Any, ...], torch.Tensor], tuple[Callable[..., Any], tuple[Any, ...]]]] = {
    **step_kernels.DIRECT,
    "quantbench::cpu_product": product.bind,
}


@dataclass(frozen=True, slots=True)
class Program:
    """The calls of one step. It reads the tensors that it was captured with, and its results lie in `outputs`.

    `held` are all tensors that the calls read and write: compiled code is given addresses, which hold nothing.
    """

    calls: tuple[Call, ...]
    outputs: tuple[torch.Tensor, ...]
    held: tuple[torch.Tensor, ...]

    def run(self) -> None:
        """One step."""
        for function, given, named in self.calls:
            function(*given, **named)


def captured(step: torch.nn.Module, inputs: Sequence[torch.Tensor]) -> Program:
    """The program of a module that is called with these tensors, and will read what is in them.

    Raises UntraceableError for a module that cannot be exported, or not be carried out again and again so.
    """
    with tracing.told(), tracing.without_stacks():
        exported = torch.export.export(step, tuple(inputs), strict=False)
    simplified(exported.graph)
    binding = _Binding(exported, inputs)
    try:
        return binding.program()
    except RuntimeError as error:  # memory that lies otherwise than it did when the step was traced
        raise UntraceableError(first_line(error)) from error


class _Binding:
    """Carries a graph out once and notes what has to be done again in every step."""

    def __init__(self, exported: torch.export.ExportedProgram, inputs: Sequence[torch.Tensor]) -> None:
        self._graph, signature = exported.graph, exported.graph_signature
        held = {**exported.state_dict, **exported.constants}
        targets = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
        targets |= signature.inputs_to_lifted_tensor_constants
        self._inputs = dict(zip(signature.user_inputs, inputs, strict=True))
        self._held = {**{name: held[target] for name, target in targets.items()}, **self._inputs}
        self._results = [
            place
            for place, output in enumerate(signature.output_specs)
            if output.kind is torch.export.graph_signature.OutputKind.USER_OUTPUT
        ]
        self._values: dict[Node, Any] = {}
        self._changing = _written(self._graph.nodes)  # what is not the same in every step
        self._calls: list[Call] = []
        self._used: list[torch.Tensor] = []  # by the calls

    def program(self) -> Program:
        """What it comes to."""
        with torch.no_grad():
            for node in self._graph.nodes:
                if node.op == "placeholder":
                    self._values[node] = self._held[node.name]
                    self._changing |= {node} if node.name in self._inputs else set()
                elif node.op == "call_function":
                    self._call(node)
                elif node.op != "output":
                    raise UntraceableError(f"a step has a part ({node.op}) that is no operation on tensors")
        return Program(calls=tuple(self._calls), outputs=self._outputs(), held=tuple(self._used))

    def _outputs(self) -> tuple[torch.Tensor, ...]:
        """The step's results, as the graph's last node has them once it has been simplified."""
        given: Any = self._graph.output_node().args[0]
        found = [self._values.get(given[place]) if isinstance(given[place], Node) else None for place in self._results]
        tensors = _tensors(found)
        if len(tensors) < len(found):
            raise UntraceableError("a step has results that are no tensors")
        return tuple(tensors)

    def _call(self, node: Node) -> None:
        """Do it, and note it where it has to be done again."""
        given, named = torch.fx.map_arg((node.args, dict(node.kwargs)), lambda each: self._values[each])
        target: Any = node.target
        result = self._values[node] = target(*given, **named)
        if node not in self._changing and not self._changing.intersection(node.all_input_nodes):
            return
        self._changing.add(node)
        if _into_arguments(node):
            self._calls.append((target, given, named))
        elif _is_view(result, (given, named)):
            return
        else:
            self._calls.append(_again(target, given, named, result))
        self._used += _tensors((given, named, result))


def _into_arguments(node: Node) -> list[Node]:
    """The arguments that an operation writes into."""
    schema = getattr(node.target, "_schema", None)
    if schema is None or not schema.is_mutable:
        return []
    names = [argument.name for argument in schema.arguments if argument.is_write]
    given = {**dict(zip((argument.name for argument in schema.arguments), node.args, strict=False)), **node.kwargs}
    leaves = torch.utils._pytree.tree_leaves([given.get(name) for name in names])
    return [leaf for leaf in leaves if isinstance(leaf, Node)]


def _written(nodes: Iterable[Node]) -> set[Node]:
    """What operations write into, and what that memory may be a view of: of what PyTorch's views are views of, their
    first argument.
    """
    written: set[Node] = set()
    for node in nodes:
        for argument in _into_arguments(node):
            seen: Any = argument
            while isinstance(seen, Node) and seen not in written:
                written.add(seen)
                seen = seen.args[0] if seen.op == "call_function" and seen.args else None
    return written


def _tensors(tree: Any) -> list[torch.Tensor]:
    return [each for each in _leaves(tree) if isinstance(each, torch.Tensor)]


def _leaves(tree: Any) -> list[Any]:
    """What lists, tuples and dictionaries in each other hold."""
    return torch.utils._pytree.tree_leaves(tree)


def _is_view(result: Any, given: Any) -> bool:
    """Whether a result is memory of its arguments, seen in another way."""
    memory = {tensor.untyped_storage().data_ptr() for tensor in _tensors(given)}
    made = _tensors(result)
    return bool(made) and all(tensor.untyped_storage().data_ptr() in memory for tensor in made)


def _again(target: Any, given: Any, named: Mapping[str, Any], result: Any) -> Call:
    """The call that computes a result where it was computed first."""
    schema = getattr(target, "_schema", None)
    if schema is None or not all(isinstance(part, torch.Tensor | None) for part in _leaves(result)):
        raise UntraceableError(f"{target} gives numbers that may be others in the next step, or is no operation")
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
