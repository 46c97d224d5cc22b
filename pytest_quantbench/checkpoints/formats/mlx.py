"""Quantized models as MLX stores them (`mlx_lm.convert`, mlx-community's repositories).

Source: mlx-lm's `quantize_model` and MLX's documentation of `mlx.core.quantize`. A quantized layer has `weight`
(out, in × bits / 32) uint32, `scales` and, in the affine mode, `biases`; config.json says group, bits and mode under
`quantization`, for all layers and for single ones by their path. Decoded by the same arithmetic as our own recipes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from pytest_quantbench.checkpoints.formats.folder import FLOATS, Folder, quantization_of
from pytest_quantbench.checkpoints.formats.protocol import Claims, HeldTensor, Holding
from pytest_quantbench.errors import ModelError
from pytest_quantbench.quantizers import Array, Arrays, Codec
from pytest_quantbench.quantizers.layer import Affine, Layer, Microscaled
from pytest_quantbench.quantizers.numerics import affine_rounding, microscaled_formats
from pytest_quantbench.quantizers.numerics.affine import GROUPS
from pytest_quantbench.quantizers.numerics.microscaled_formats import FORMATS

AFFINE_BITS = (2, 3, 4, 5, 6, 8)
FLOATING = ", ".join(f"{form.name} of {form.bits} bits in groups of {form.group}" for form in FORMATS.values())
DEFAULTS: Mapping[str, int | str] = {"group_size": 64, "bits": 4, "mode": "affine"}


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
        """As it is; None for a group that MLX's kernels do not take."""
        weight = arrays["weight"]
        if weight.shape[1] * 32 // self.bits // arrays["scales"].shape[1] not in GROUPS:
            return None
        in_features = weight.shape[1] * 32 // self.bits
        grid = Affine(
            codes=weight, scales=arrays["scales"], biases=arrays["biases"], bits=self.bits, in_features=in_features
        )
        return Layer(grid=grid)


@dataclass(frozen=True, slots=True, kw_only=True)
class MlxMicroscaled(Codec):
    """A microscaling format without a scale for the whole matrix."""

    mode: str
    name: ClassVar[str] = "mlx microscaled"

    def decode(self, arrays: Mapping[str, Array]) -> Array:
        """(out, in) float32."""
        return microscaled_formats.decoded(arrays["weight"], arrays["scales"], FORMATS[self.mode])

    def layer(self, arrays: Mapping[str, Array]) -> Layer:
        """As it is."""
        form = FORMATS[self.mode]
        in_features = arrays["weight"].shape[1] * 32 // form.bits
        return Layer(
            grid=Microscaled(codes=arrays["weight"], scales=arrays["scales"], form=form, in_features=in_features)
        )


class Mlx:
    """A `Format`."""

    name: ClassVar[str] = "mlx"
    what: ClassVar[str] = "MLX models (affine of 2, 3, 4, 5, 6 or 8 bits, mxfp4, mxfp8, nvfp4)"

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
        self.stored()  # every tensor's parts fit together, or this says which do not

    def tensor(self, name: str) -> HeldTensor | None:
        """The tensor of this name."""
        folder, path = self._folder, name.removesuffix(".weight")
        if not name.endswith(".weight") or f"{path}.scales" not in folder.tensors:
            return folder.plain(name)
        kind = self._kind(path)
        parts = ("weight", "scales", "biases") if kind["mode"] == "affine" else ("weight", "scales")
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

    def _kind(self, path: str) -> Mapping[str, Any]:
        """Group, bits and mode of a layer. Raises ModelError for values that MLX does not have."""
        table = self._folder.quantization
        own = table.get(path)
        kind = {key: (own if isinstance(own, dict) else table).get(key, usual) for key, usual in DEFAULTS.items()}
        known = kind["mode"] == "affine" and kind["bits"] in AFFINE_BITS
        form = FORMATS.get(kind["mode"]) if isinstance(kind["mode"], str) else None
        known = known or (form is not None and (kind["bits"], kind["group_size"]) == (form.bits, form.group))
        if not known or not isinstance(kind["group_size"], int) or kind["group_size"] < 1:
            raise ModelError(
                f"{self._folder.directory / 'config.json'} says {kind!r:.120} of {path}. MLX has affine of "
                f"{AFFINE_BITS} bits, and {FLOATING}."
            )
        return kind

    def _checked(self, path: str, parts: Sequence[str], kind: Mapping[str, Any]) -> tuple[int, ...]:
        """The decoded shape. Raises ModelError where the parts do not fit together."""
        folder, bits, group = self._folder, int(kind["bits"]), int(kind["group_size"])
        packed = folder.expect(f"{path}.weight", dtypes=("U32",)).shape
        if len(packed) not in (2, 3) or packed[-1] * 32 % bits or (packed[-1] * 32 // bits) % group:
            raise ModelError(
                f"{folder.file_of(f'{path}.weight')}: {path}.weight of shape {packed} holds no rows of {bits} bits in "
                f"groups of {group}, as config.json says."
            )
        shape = (*packed[:-1], packed[-1] * 32 // bits)
        groups = (*packed[:-1], shape[-1] // group)
        for part in parts[1:]:
            folder.expect(f"{path}.{part}", dtypes=FLOATS if kind["mode"] == "affine" else ("U8",), shape=groups)
        return shape

    def stored(self) -> Sequence[HeldTensor]:
        """All of them."""
        parts = {name.rpartition(".")[0] for name in self._folder.tensors if name.endswith(".scales")}
        beside = {f"{path}.{part}" for path in parts for part in ("scales", "biases")}
        names = [name for name in self._folder.tensors if name not in beside]
        return [tensor for name in names if (tensor := self.tensor(name)) is not None]

    def left_over(self, names: Sequence[str]) -> Sequence[str]:
        """What has none of these names."""
        return sorted({tensor.name for tensor in self.stored()}.difference(names))

    def claims(self) -> Claims:
        """What the directory's other files say."""
        return self._folder.claims()
