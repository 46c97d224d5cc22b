"""Quantized models as MLX stores them (`mlx_lm.convert`, mlx-community's repositories).

Source: mlx-lm's `quantize_model` and MLX's documentation of `mlx.core.quantize`. A quantized layer has `weight`
(out, in × bits / 32) uint32, `scales` and, in the affine mode, `biases`; config.json says group, bits and mode under
`quantization`, for all layers and for single ones by their path. Decoded by the same arithmetic as our own recipes.
Experts in nvfp4 may have a `global_scale` each, their largest weight: what elements and scales multiply to is in units
of the largest number that these can be, 6 × 448.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from pytest_quantbench.checkpoints.formats.float_codecs import grouped
from pytest_quantbench.checkpoints.formats.folder import FLOATS, Folder, quantization_of
from pytest_quantbench.checkpoints.formats.protocol import Claims, HeldTensor, Holding
from pytest_quantbench.errors import ModelError
from pytest_quantbench.quantizers import Array, Arrays, Codec
from pytest_quantbench.quantizers.layer import Affine, Layer, Microscaled
from pytest_quantbench.quantizers.numerics import affine, affine_rounding, block_scales, microscaled_formats
from pytest_quantbench.quantizers.numerics.microscaled_formats import FORMATS

AFFINE_BITS = (1, 2, 3, 4, 5, 6, 8)
FLOATING = ", ".join(f"{form.name} of {form.bits} bits in groups of {form.group}" for form in FORMATS.values())
USUAL: Mapping[str, tuple[int, int]] = {  # group and bits of a layer whose entry names the mode alone
    "affine": (64, 4),
    **{form.name: (form.group, form.bits) for form in FORMATS.values()},
}
UNIT = np.float32(6 * 448)


@dataclass(frozen=True, slots=True, kw_only=True)
class MlxAffine(Codec):
    """weight = code × scale + bias, any group."""

    bits: int
    name: ClassVar[str] = "mlx affine"

    def decode(self, arrays: Mapping[str, Array]) -> Array:
        """(out, in) float32."""
        packed = arrays["weight"].view("uint8")
        return affine_rounding.decoded(packed, arrays["scales"], arrays["biases"], self.bits)

    def layer(self, arrays: Mapping[str, Array]) -> Layer | None:
        """As it is; None for a width or a group that not every MLX has kernels for."""
        weight = arrays["weight"]
        in_features = weight.shape[1] * 32 // self.bits
        if self.bits not in affine.BITS or in_features // arrays["scales"].shape[1] not in affine.GROUPS:
            return None
        grid = Affine(
            codes=weight, scales=arrays["scales"], biases=arrays["biases"], bits=self.bits, in_features=in_features
        )
        return Layer(grid=grid)


@dataclass(frozen=True, slots=True, kw_only=True)
class MlxMicroscaled(Codec):
    """A microscaling format, for nvfp4 maybe with `global_scale`, one number."""

    mode: str
    name: ClassVar[str] = "mlx microscaled"

    def decode(self, arrays: Mapping[str, Array]) -> Array:
        """(out, in) float32: scales are multiplied by the matrix's own before elements are, as MLX does it."""
        form, scales = FORMATS[self.mode], arrays["scales"]
        if "global_scale" not in arrays:
            return microscaled_formats.decoded(arrays["weight"], scales, form)
        codes = np.ascontiguousarray(arrays["weight"]).view(np.uint8)
        columns = block_scales.columns_of(codes.shape[1] * 8 // form.bits, form.group)
        return grouped(codes, form.bits, columns, microscaled_formats.scale_values(scales, form) * _factor(arrays))

    def layer(self, arrays: Mapping[str, Array]) -> Layer:
        """As it is, times the matrix's own scale."""
        form = FORMATS[self.mode]
        in_features = arrays["weight"].shape[1] * 32 // form.bits
        grid = Microscaled(codes=arrays["weight"], scales=arrays["scales"], form=form, in_features=in_features)
        return Layer(grid=grid, scale=_factor(arrays) if "global_scale" in arrays else None)


def _factor(arrays: Mapping[str, Array]) -> Array:
    """(1,): what a matrix with a scale of its own is multiplied by."""
    return np.asarray(arrays["global_scale"], np.float32).reshape(1) / UNIT


class Mlx:
    """A `Format`."""

    name: ClassVar[str] = "mlx"
    what: ClassVar[str] = "MLX models (affine of 1, 2, 3, 4, 5, 6 or 8 bits, mxfp4, mxfp8, nvfp4)"

    def recognizes(self, source: Path) -> bool:
        """`quantization` in config.json has bits and a group, and names no other method."""
        found = quantization_of(source)
        return "group_size" in found and "bits" in found and "quant_method" not in found

    def open(self, source: Path) -> Holding:
        """Open it."""
        return MlxHolding(Folder(source))


class MlxHolding(Holding):
    """Tensors under mlx-lm's names."""

    format, naming = "mlx", "mlx-lm"

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self.files = folder.files
        if not any(tensor.codec is not None for tensor in self.stored()):  # whose parts fit together, or this says so
            raise ModelError(f"{folder.directory / 'config.json'} says that this is quantized, and no tensor of it is.")

    def tensor(self, name: str) -> HeldTensor | None:
        """The tensor of this name."""
        folder, path = self._folder, name.removesuffix(".weight")
        if not name.endswith(".weight") or not {name, f"{path}.scales"} <= folder.tensors.keys():
            return folder.plain(name)
        kind = self._kind(path)
        parts = self._parts(path, str(kind["mode"]))
        shape = self._checked(path, parts, kind)
        stored = [f"{path}.{part}" for part in parts]

        def arrays() -> Arrays:
            found = folder.read(stored)
            return {part: found[f"{path}.{part}"] for part in parts}

        mode = str(kind["mode"])
        codec = MlxAffine(bits=int(kind["bits"])) if mode == "affine" else MlxMicroscaled(mode=mode)
        return HeldTensor(
            name=name,
            shape=shape,
            stored_bytes=folder.stored_bytes(stored),
            kind=f"mlx {mode}",
            codec=codec,
            read=arrays,
            parameters={"bits": kind["bits"], "group_size": kind["group_size"]},
        )

    def _parts(self, path: str, mode: str) -> Sequence[str]:
        """What a layer's matrix is stored in."""
        whole = ("global_scale",) if mode == "nvfp4" and f"{path}.global_scale" in self._folder.tensors else ()
        return ("weight", "scales", "biases") if mode == "affine" else ("weight", "scales", *whole)

    def _kind(self, path: str) -> Mapping[str, Any]:
        """Group, bits and mode of a layer. Raises ModelError for values that MLX does not have."""
        table = self._folder.quantization
        own = table.get(path, True)
        entry = table if own is True else own if isinstance(own, dict) else {"mode": own}
        mode = entry.get("mode", "affine")
        group, bits = USUAL.get(mode, (0, 0)) if isinstance(mode, str) else (0, 0)
        kind = {"group_size": entry.get("group_size", group), "bits": entry.get("bits", bits), "mode": mode}
        whole = all(type(kind[key]) is int and kind[key] > 0 for key in ("group_size", "bits"))
        known = kind["bits"] in AFFINE_BITS if mode == "affine" else (kind["group_size"], kind["bits"]) == (group, bits)
        if not whole or not known:
            raise ModelError(
                f"{self._folder.directory / 'config.json'} says {own if own is not True else kind!r:.120} of {path}, "
                f"which has scales. MLX has affine of {AFFINE_BITS} bits, and {FLOATING}."
            )
        return kind

    def _checked(self, path: str, parts: Sequence[str], kind: Mapping[str, Any]) -> tuple[int, ...]:
        """The decoded shape. Raises ModelError where the parts do not fit together."""
        folder, bits, group = self._folder, int(kind["bits"]), int(kind["group_size"])
        packed = folder.expect(f"{path}.weight", dtypes=("U32",)).shape
        if len(packed) not in (2, 3) or 0 in packed or packed[-1] * 32 % bits or (packed[-1] * 32 // bits) % group:
            raise ModelError(
                f"{folder.file_of(f'{path}.weight')}: {path}.weight of shape {packed} holds no rows of {bits} bits in "
                f"groups of {group}, as config.json says."
            )
        shape = (*packed[:-1], packed[-1] * 32 // bits)
        groups = (*packed[:-1], shape[-1] // group)
        wanted = {
            "scales": (FLOATS if kind["mode"] == "affine" else ("U8",), groups),
            "biases": (FLOATS, groups),
            "global_scale": (("F32",), packed[:-2]),  # one for each expert
        }
        for part in parts[1:]:
            dtypes, part_shape = wanted[part]
            folder.expect(f"{path}.{part}", dtypes=dtypes, shape=part_shape)
        return shape

    def stored(self) -> Sequence[HeldTensor]:
        """All of them."""
        paths = {name.removesuffix(".scales") for name in self._folder.tensors if name.endswith(".scales")}
        beside = {
            f"{path}.{part}"
            for path in paths
            if f"{path}.weight" in self._folder.tensors
            for part in self._parts(path, str(self._kind(path)["mode"]))[1:]
        }
        names = [name for name in self._folder.tensors if name not in beside]
        return [tensor for name in names if (tensor := self.tensor(name)) is not None]

    def left_over(self, names: Sequence[str]) -> Sequence[str]:
        """What has none of these names."""
        return sorted({tensor.name for tensor in self.stored()}.difference(names))

    def claims(self) -> Claims:
        """What the directory's other files say."""
        return self._folder.claims()
