"""What a graph of small operations comes to: norms and rotations by one call each, nothing that does nothing.

Only the arithmetic counts, not what a model calls it. Whatever is not recognized stays as it is.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch.fx import Graph, Node

from pytest_quantbench.engines.torch.step_kernels import NORM, ROTATE

aten = torch.ops.aten
CHECKS = ("aten::_assert_tensor_metadata", "aten::_assert_async", "aten::_assert_scalar")
# These give what they are given where neither type nor shape changes.
IDLE = (aten.to.dtype, aten.to.device, aten.to.dtype_layout, aten.expand.default, aten.contiguous.default)


def simplified(graph: Graph) -> None:
    """Change the graph in place."""
    for node in list(graph.nodes):
        if _name(node) in CHECKS:
            graph.erase_node(node)
        elif _is_idle(node):
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)
    for node in list(graph.nodes):
        if (found := _norm(node) or _rotation(node)) is not None:
            target, given = found
            with graph.inserting_before(node):
                made = graph.call_function(target, given)
            made.meta = dict(node.meta)
            node.replace_all_uses_with(made)
    graph.eliminate_dead_code(lambda node: node.op in ("placeholder", "output") or _writes(node))


def _is_idle(node: Node) -> bool:
    """Whether an operation gives just what it is given; to make numbers lie behind each other is something."""
    if node.target not in IDLE or not _alike(node, node.args[0]):
        return False
    return node.target is not aten.contiguous.default or bool(_value(node.args[0]).is_contiguous())


def _name(node: Node) -> str:
    return str(getattr(getattr(node.target, "_schema", None), "name", ""))


def _writes(node: Node) -> bool:
    return bool(getattr(getattr(node.target, "_schema", None), "is_mutable", False))


def _value(node: Any) -> Any:
    """The tensor without memory that stands for what a node gives; None for what is no node's."""
    return node.meta.get("val") if isinstance(node, Node) else None


def _alike(one: Any, other: Any) -> bool:
    left, right = _value(one), _value(other)
    return left is not None and right is not None and left.dtype == right.dtype and left.shape == right.shape


def _is(node: Any, *targets: Any) -> bool:
    return isinstance(node, Node) and node.target in targets


def _swapped(node: Any, target: Any) -> Iterator[tuple[Any, Any]]:
    """Both orders of what a sum or a product is made of."""
    if _is(node, target) and len(node.args) == 2 and not node.kwargs:
        yield node.args[0], node.args[1]
        yield node.args[1], node.args[0]


def _is_float32(*nodes: Any) -> bool:
    return all(_value(node) is not None and _value(node).dtype == torch.float32 for node in nodes)


def _norm(node: Node) -> tuple[Any, tuple[Any, ...]] | None:
    """x · rsqrt(mean(x²) + ε), perhaps times weights."""
    for weight, normed in _swapped(node, aten.mul.Tensor):
        bare = _bare_norm(normed)
        if bare is not None and len(normed.users) == 1 and _fits(weight, bare[0]):
            return NORM, (bare[0], weight, bare[1])
    bare = _bare_norm(node)
    weighted = bare is not None and len(node.users) == 1 and _is(next(iter(node.users)), aten.mul.Tensor)
    if bare is None or (weighted and _norm(next(iter(node.users))) is not None):
        return None
    return NORM, (bare[0], None, bare[1])


def _fits(weight: Any, x: Any) -> bool:
    """Whether these have the form of weights of x's last axis; they may be computed, as long as it is one row."""
    return _is_float32(weight) and _value(weight).shape == _value(x).shape[-1:]


def _bare_norm(node: Any) -> tuple[Node, float] | None:
    """x and ε."""
    for x, root in _swapped(node, aten.mul.Tensor):
        if not (_is(root, aten.rsqrt.default) and _is(root.args[0], aten.add.Tensor)):
            continue
        mean, epsilon = root.args[0].args[:2]
        if not (_is(mean, aten.mean.dim) and isinstance(epsilon, float) and mean.args[1:] == ([-1], True)):
            continue
        square = mean.args[0]
        if _is(square, aten.pow.Tensor_Scalar) and square.args == (x, 2) and _is_float32(x):
            return x, epsilon
    return None


def _rotation(node: Node) -> tuple[Any, tuple[Any, ...]] | None:
    """x · cos + (−second half of x, first half) · sin, for one token's cosines and sines."""
    for plain, turned in _swapped(node, aten.add.Tensor):
        for x, cosines in _swapped(plain, aten.mul.Tensor):
            for halves, sines in _swapped(turned, aten.mul.Tensor):
                if _is_turned(halves, x) and _is_float32(x, cosines, sines) and _is_one_row(cosines, sines, x):
                    return ROTATE, (x, cosines, sines)
    return None


def _is_one_row(cosines: Node, sines: Node, x: Node) -> bool:
    width = _value(x).shape[-1]
    return all(_value(each).numel() == _value(each).shape[-1] == width for each in (cosines, sines))


def _is_turned(halves: Any, x: Any) -> bool:
    """Whether a node is (−second half of x, first half)."""
    if not _is(halves, aten.cat.default) or len(halves.args[0]) != 2 or _value(x) is None:
        return False
    (negative, first), axes = halves.args[0], _value(x).ndim
    if not (halves.args[1:] in ((-1,), (axes - 1,)) and _is(negative, aten.neg.default)):
        return False
    half, second = _value(x).shape[-1] // 2, negative.args[0]
    return _is_slice(first, x, 0, half) and _is_slice(second, x, half, 2 * half)


def _is_slice(node: Any, x: Node, begin: int, end: int) -> bool:
    if not _is(node, aten.slice.Tensor) or node.args[0] is not x:
        return False
    axis, first, last = node.args[1:4]
    width = _value(x).shape[-1]
    return axis in (-1, _value(x).ndim - 1) and first == begin and min(last, width) == end
