"""What a key-value cache gives back of keys and values, on PyTorch's tensors.

`Grid` is computed where the tensors are, in the same steps as its definition in numpy; any other rounding is numpy's.
"""

from functools import cache

import torch

from pytest_quantbench.engines import held_caches
from pytest_quantbench.engines.torch.arrays import to_torch
from pytest_quantbench.quantizers.kv.grid import HALF_MOST, Grid
from pytest_quantbench.quantizers.kv.protocol import CacheForm, Integers, Part, rotation
from pytest_quantbench.quantizers.numerics.affine_rounding import FINEST


def given_back(
    form: CacheForm,
    part: Part,
    stage: int,
    states: torch.Tensor,
    positions: Integers,
    queries: torch.Tensor | None = None,
    keys: torch.Tensor | None = None,
) -> torch.Tensor:
    """As `held_caches.given_back`, in the type of the states."""
    rounding = form.stages(part)[stage].rounding
    if rounding is None:
        return states
    if not isinstance(rounding, Grid):
        arrays = (None if each is None else each.float().cpu().numpy() for each in (queries, keys))
        found = held_caches.given_back(form, part, stage, states.float().cpu().numpy(), positions, *arrays)
        return torch.from_numpy(found).to(states.device, states.dtype)
    turn = _turn(states.shape[-1], states.device) if form.rotates and part == "keys" else None
    numbers = states.float() if turn is None else states.float() @ turn
    back = _placed(rounding, numbers, positions)
    return (back if turn is None else back @ turn.T).to(states.dtype)


@cache
def _turn(channels: int, device: torch.device) -> torch.Tensor:
    return to_torch(rotation(channels)).to(device)


def _placed(grid: Grid, numbers: torch.Tensor, positions: Integers) -> torch.Tensor:
    """(rows, heads, tokens, channels) → the same on the grid, tokens that are rounded together by their positions."""
    if grid.along == "channels":
        return _rows(grid, numbers)
    back = numbers.clone()
    for rows, there in held_caches.alike(positions):
        where = tuple(torch.from_numpy(each).to(numbers.device) for each in (rows[:, None], there[None, :]))
        some = numbers.transpose(1, 2)[where].permute(0, 2, 3, 1)  # (rows, heads, channels, tokens)
        back.transpose(1, 2)[where] = _rows(grid, some).permute(0, 3, 1, 2)
    return back


def _rows(grid: Grid, rows: torch.Tensor) -> torch.Tensor:
    """(…, length) → each row in groups, of which the last may be shorter."""
    length = rows.shape[-1]
    whole = length // grid.group * grid.group
    parts = [
        _groups(grid, rows[..., part].reshape(-1, size)).reshape(rows[..., part].shape)
        for part, size in ((slice(0, whole), grid.group), (slice(whole, length), length - whole))
        if part.stop > part.start
    ]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)


def _groups(grid: Grid, groups: torch.Tensor) -> torch.Tensor:
    """(groups, length) → the same on their grids."""
    low, high = groups.amin(1, keepdim=True), groups.amax(1, keepdim=True)
    least, most = 0.0, float(2**grid.bits - 1)
    if grid.kind == "mlx":
        steps, zeros = _mlx(low, high, most)
        scales, back_zeros = steps.bfloat16().float(), zeros.bfloat16().float()
    elif grid.kind == "symmetric":
        most = float(2 ** (grid.bits - 1) - 1)
        least, zeros = -most, torch.zeros_like(low)
        scales = _half(torch.maximum(high.abs(), low.abs()) / most)
        steps, back_zeros = torch.where(scales == 0, 1.0, scales), zeros
    else:
        zeros, scales = _half(low), _half((high - low) / most)
        steps, back_zeros = torch.where(scales == 0, 1.0, scales), zeros
    codes = groups.sub(zeros).div_(steps).round_().clamp_(least, most)
    return codes.mul_(scales).add_(back_zeros)


def _mlx(low: torch.Tensor, high: torch.Tensor, top: float) -> tuple[torch.Tensor, torch.Tensor]:
    """The float32 scale and bias of each group, as `affine_rounding` has them."""
    negative = low.abs() > high.abs()
    scales = ((high - low) / top).clamp_min(float(FINEST))
    scales = torch.where(negative, scales, -scales)
    edges = torch.where(negative, low, high)
    steps = (edges / scales).round()
    apart = steps != 0
    return torch.where(apart, edges / steps, scales), torch.where(apart, edges, 0.0)


def _half(numbers: torch.Tensor) -> torch.Tensor:
    """Rounded to float16, within its range."""
    return numbers.clamp(-float(HALF_MOST), float(HALF_MOST)).half().float()
