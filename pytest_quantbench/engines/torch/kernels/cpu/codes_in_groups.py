"""Which affine and microscaled layers the kernel of `lanes` takes, and the module that it makes of one."""

from collections.abc import Mapping

import numpy as np
import torch

from pytest_quantbench.engines.torch.arrays import as_torch
from pytest_quantbench.engines.torch.kernels.cpu.lanes import Lanes, tiled, unit
from pytest_quantbench.engines.torch.kernels.cpu.machine_code import Instructions, instructions
from pytest_quantbench.engines.torch.kernels.cpu.numbers import SCALES, Numbers
from pytest_quantbench.engines.torch.kernels.cpu.parts import parts_of, possible
from pytest_quantbench.engines.torch.kernels.cpu.product import CpuProduct, Plan
from pytest_quantbench.engines.torch.kernels.protocol import Decode, Product
from pytest_quantbench.quantizers import Array, Layer
from pytest_quantbench.quantizers.layer import Affine, Microscaled

BITS = range(2, 9)


def fits(layer: Layer, device: torch.device, dtype: torch.dtype) -> bool:
    """Codes of 2 to 8 bits in groups that are whole words, with scales of one of the known types."""
    grid = layer.grid
    if not isinstance(grid, Affine | Microscaled) or grid.bits not in BITS or not possible(layer):
        return False
    even = grid.group % unit(grid.bits) == 0 and grid.group % 16 == 0
    return even and (isinstance(grid, Microscaled) or grid.scales.dtype.name in SCALES)


def made(layer: Layer, decode: Decode, device: torch.device, dtype: torch.dtype) -> Product:
    """The module for this CPU."""
    return product(layer, instructions())


def product(layer: Layer, cpu: Instructions) -> CpuProduct:
    """The module for a CPU that has such instructions."""
    grid = layer.grid
    assert isinstance(grid, Affine | Microscaled)
    rows, padded = len(grid.codes), grid.codes.shape[1] * 32 // grid.bits
    parts = parts_of(layer, rows, grid.in_features if layer.rotation is None else padded, padded)
    kind, scales = _described(grid)
    arrays = {"codes": grid.codes.view(np.int32), **scales}
    held = {name: as_torch(tiled(array)) for name, array in arrays.items()} | dict(parts.arrays)
    numbers = {"groups": padded // grid.group, **parts.numbers}
    plan = Plan(kind=kind, beside=parts.beside, cpu=cpu)
    return CpuProduct(plan, held, numbers, _name(grid), parts.covers)


def _described(grid: Affine | Microscaled) -> tuple[Lanes, Mapping[str, Array]]:
    """The kind of a grid, and its scales and biases; biases that put zero in the middle of the codes are none."""
    if isinstance(grid, Microscaled):
        numbers = Numbers(form="E4M3" if grid.bits == 8 else "E2M1")
        scales = "E8M0" if grid.form.powers_of_two else "E4M3"
        return Lanes(numbers=numbers, bits=grid.bits, group=grid.group, scales=scales, biased=False), {
            "scales": grid.scales
        }
    centred = grid.is_centred
    numbers, kept = Numbers(middle=grid.middle if centred else 0), {"scales": grid.scales}
    if not centred:
        kept["biases"] = grid.biases.astype(grid.scales.dtype)
    kind = Lanes(numbers=numbers, bits=grid.bits, group=grid.group, scales=grid.scales.dtype.name, biased=not centred)
    return kind, kept


def _name(grid: Affine | Microscaled) -> str:
    return f"lanes, {grid.bits} bits" if isinstance(grid, Affine) else f"lanes, {grid.form.name}"
