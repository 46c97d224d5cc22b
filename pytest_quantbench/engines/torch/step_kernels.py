"""What one decode step does beside its products, compiled for a CPU: one token's attention, norms, rotated positions.

PyTorch's own operations take about a microsecond each to be called, and a layer has some thirty of them. Each of these
does the work of several in one call. All are `torch.library` operations, so that a step can be exported with them in
it; a captured step calls their compiled functions directly (`DIRECT`), on arrays that are always the same.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from pytest_quantbench.engines.torch.kept_code import compiled

F32: TypeAlias = NDArray[np.float32]
Bound: TypeAlias = tuple[Callable[..., Any], tuple[Any, ...]]


@compiled
def _exponentials(values: F32, integers: NDArray[np.int32], count: int, top: float) -> Any:  # pragma: no cover
    """values[:count] become exp(values − top); their sum. `integers` is room for as many numbers.

    exp(x) = 2^n · e^f with |f| ≤ ln 2 / 2, and Taylor's polynomial of degree 7 for e^f: it is right to float32's last
    bits, and unlike the C library's it is vectorized.
    """
    for i in range(count):
        x = max(values[i] - np.float32(top), np.float32(-87.0))
        n = np.floor(x * np.float32(1.44269504) + np.float32(0.5))
        f = x - n * np.float32(0.693359375) - n * np.float32(-2.12194440e-4)
        p = np.float32(1 / 5040)
        p = p * f + np.float32(1 / 720)
        p = p * f + np.float32(1 / 120)
        p = p * f + np.float32(1 / 24)
        p = p * f + np.float32(1 / 6)
        p = p * f + np.float32(0.5)
        p = p * f + np.float32(1)
        p = p * f + np.float32(1)
        values[i] = p
        integers[i] = (np.int32(n) + np.int32(127)) << np.int32(23)
    powers = integers[:count].view(np.float32)
    total = np.float32(0)
    for i in range(count):
        values[i] *= powers[i]
        total += values[i]
    return total


@compiled
def _attend(
    out: F32,  # (heads, head values)
    query: F32,  # (heads, head width)
    keys: F32,  # (key heads, places, head width)
    values: F32,  # (key heads, places, head values)
    mask: NDArray[np.bool_],  # (places,): which are seen
    sinks: F32,  # (heads,), or (0,) for none
    scale: float,
    softcap: float,  # 0: none
    scores: F32,  # (heads, places): room
    integers: NDArray[np.int32],  # (places,): room
) -> None:  # pragma: no cover
    heads, width = query.shape
    shared = heads // keys.shape[0]
    first, end = 0, len(mask)
    while first < end and not mask[first]:
        first += 1
    while end > first and not mask[end - 1]:
        end -= 1
    for key_head in range(keys.shape[0]):
        for place in range(first, end):
            for head in range(key_head * shared, (key_head + 1) * shared):
                dot = np.float32(0)
                for i in range(width):
                    dot += query[head, i] * keys[key_head, place, i]
                score = dot * np.float32(scale)
                if softcap > 0:
                    score = np.float32(np.tanh(score / np.float32(softcap)) * np.float32(softcap))
                scores[head, place] = score if mask[place] else np.float32(-np.inf)
        for head in range(key_head * shared, (key_head + 1) * shared):
            row = scores[head, first:end]
            top = np.float32(-np.inf)
            for place in range(end - first):
                top = max(top, row[place])
            if len(sinks):
                top = max(top, sinks[head])
            total = _exponentials(row, integers, end - first, top)
            if len(sinks):
                total += np.float32(np.exp(sinks[head] - top))
            for i in range(values.shape[2]):
                out[head, i] = 0
            for place in range(end - first):
                weight = row[place] / total
                for i in range(values.shape[2]):
                    out[head, i] += weight * values[key_head, first + place, i]


@compiled
def _rms_norm(out: F32, x: F32, weight: F32, epsilon: float) -> None:  # pragma: no cover
    """(rows, width), each over the root of its mean square, times weights (width,); (0,): no weights."""
    for row in range(x.shape[0]):
        total = np.float32(0)
        for i in range(x.shape[1]):
            total += x[row, i] * x[row, i]
        factor = np.float32(1) / np.sqrt(total / np.float32(x.shape[1]) + np.float32(epsilon))
        if len(weight):
            for i in range(x.shape[1]):
                out[row, i] = x[row, i] * factor * weight[i]
        else:
            for i in range(x.shape[1]):
                out[row, i] = x[row, i] * factor


@compiled
def _rotate(out: F32, x: F32, cosines: F32, sines: F32) -> None:  # pragma: no cover
    """(rows, width), whose halves are the two coordinates of each pair, turned by angles (width,)."""
    half = x.shape[1] // 2
    for row in range(x.shape[0]):
        for i in range(half):
            one, other = x[row, i], x[row, i + half]
            out[row, i] = one * cosines[i] - other * sines[i]
            out[row, i + half] = other * cosines[i + half] + one * sines[i + half]


@torch.library.custom_op("quantbench::attend", mutates_args=())
def attend(
    query: torch.Tensor,  # (1, heads, 1, head width)
    keys: torch.Tensor,  # (1, key heads, places, head width)
    values: torch.Tensor,  # (1, key heads, places, head values)
    mask: torch.Tensor,  # (1, 1, 1, places) bool
    sinks: torch.Tensor | None,  # (heads,)
    scale: float,
    softcap: float,
) -> torch.Tensor:
    """What one token's attention gives, (1, 1, heads, head values), in float32 on a CPU."""
    out = torch.empty(1, 1, query.shape[1], values.shape[3])
    function, given = _bind_attend((query, keys, values, mask, sinks, scale, softcap), out)
    function(*given)
    return out


@attend.register_fake
def _attend_fake(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    mask: torch.Tensor,
    sinks: torch.Tensor | None,
    scale: float,
    softcap: float,
) -> torch.Tensor:
    return query.new_empty(1, 1, query.shape[1], values.shape[3])


@torch.library.custom_op("quantbench::rms_norm", mutates_args=())
def rms_norm(x: torch.Tensor, weight: torch.Tensor | None, epsilon: float) -> torch.Tensor:
    """(…, width) over the root of its mean square, times (width,) weights."""
    out = torch.empty(x.shape)
    function, given = _bind_rms_norm((x, weight, epsilon), out)
    function(*given)
    return out


@rms_norm.register_fake
def _rms_norm_fake(x: torch.Tensor, weight: torch.Tensor | None, epsilon: float) -> torch.Tensor:
    return x.new_empty(x.shape)


@torch.library.custom_op("quantbench::rotate", mutates_args=())
def rotate(x: torch.Tensor, cosines: torch.Tensor, sines: torch.Tensor) -> torch.Tensor:
    """x · cosines + (−second half, first half) · sines along the last axis: (…, width) and one token's (…, width)."""
    out = torch.empty(x.shape)
    function, given = _bind_rotate((x, cosines, sines), out)
    function(*given)
    return out


@rotate.register_fake
def _rotate_fake(x: torch.Tensor, cosines: torch.Tensor, sines: torch.Tensor) -> torch.Tensor:
    return x.new_empty(x.shape)


def _rows(tensor: torch.Tensor) -> F32:
    """A view (rows, width) of (…, width). Raises RuntimeError where the memory does not allow one."""
    rows: F32 = tensor.view(-1, tensor.shape[-1]).numpy()
    return rows


def _bind_attend(given: tuple[Any, ...], out: torch.Tensor) -> Bound:
    query, keys, values, mask, sinks, scale, softcap = given
    heads, places = query.shape[1], keys.shape[2]
    room = np.empty((heads, places), np.float32), np.empty(places, np.int32)
    held = np.empty(0, np.float32) if sinks is None else sinks.float().numpy()
    arrays = (
        out[0, 0].numpy(),
        query[0, :, 0].numpy(),
        keys[0].numpy(),
        values[0].numpy(),
        mask[0, 0, 0].numpy(),
        held,
    )
    return _attend, (*arrays, scale, softcap, *room)


def _bind_rms_norm(given: tuple[Any, ...], out: torch.Tensor) -> Bound:
    x, weight, epsilon = given
    held = np.empty(0, np.float32) if weight is None else weight.numpy()
    return _rms_norm, (_rows(out), _rows(x), held, epsilon)


def _bind_rotate(given: tuple[Any, ...], out: torch.Tensor) -> Bound:
    x, cosines, sines = given
    return _rotate, (_rows(out), _rows(x), cosines.flatten().numpy(), sines.flatten().numpy())


# By the operation's name: its arguments and where its result goes → a function and what it is called with, again and
# again: the arrays are views of the same memory.
DIRECT: Mapping[str, Callable[[tuple[Any, ...], torch.Tensor], Bound]] = {
    "quantbench::attend": _bind_attend,
    "quantbench::rms_norm": _bind_rms_norm,
    "quantbench::rotate": _bind_rotate,
}
NORM, ROTATE = torch.ops.quantbench.rms_norm.default, torch.ops.quantbench.rotate.default
