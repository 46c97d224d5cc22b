"""AWQ checkpoints (`quant_method: awq`), as AutoAWQ and GPTQModel write them.

Source: AutoAWQ's `WQLinear_GEMM` and `WQLinear_GEMV`. weight = (code − zero point) × scale with codes of 4 bits and
groups along the rows, which we compute in float32; their kernels round products to 16 bits. A packed module has
`qweight`, `qzeros` and `scales`, in one of two forms:

- `version: gemm`: `qweight` (in, out / 8) int32, interleaved in eights (see packed_words), `qzeros` (groups, out / 8)
  likewise, `scales` (groups, out).
- `version: gemv`: `qweight` (out, in / 8) int32 with codes in their order, `qzeros` (out, words) likewise and `scales`
  (out, 8 × words), whose rows are filled up with zeros beyond the groups.

AWQ multiplies each input of a layer by a number before it rounds, and divides what comes before by it: a norm's
weights, or the rows of another matrix. Both are part of what the files hold, so that neither these matrices nor these
norms are near the original's, while what the whole computes is. Where nothing comes before that could be divided, the
numbers are a tensor of their own (`act.scales`), which stands among what is left over.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pytest_quantbench.checkpoints.config import read_table
from pytest_quantbench.checkpoints.formats import zero_points
from pytest_quantbench.checkpoints.formats.folder import FLOATS, Folder, quantization_of
from pytest_quantbench.checkpoints.formats.packed_folder import (
    WHOLE_ROW,
    Packed,
    PackedHolding,
    checked_group,
    matrix_shape,
    modules,
    packed,
    wrong_setting,
)
from pytest_quantbench.checkpoints.formats.packed_words import along_rows, interleaved
from pytest_quantbench.checkpoints.formats.protocol import Holding
from pytest_quantbench.errors import ModelError
from pytest_quantbench.quantizers import Array, Codec
from pytest_quantbench.quantizers.layer import Layer
from pytest_quantbench.quantizers.numerics.bit_packing import Codes, pack

BITS = 4
OLD_CONFIG = "quant_config.json"  # where AutoAWQ wrote it before it was a part of config.json
OLD_KEYS = {"w_bit": "bits", "q_group_size": "group_size"}
TYPES = {"qweight": ("I32",), "qzeros": ("I32",), "scales": FLOATS}


@dataclass(frozen=True, slots=True, kw_only=True)
class AwqGemm(Codec):
    """Inputs down, outputs across and interleaved."""

    name: ClassVar[str] = "awq gemm"

    def decode(self, arrays: Mapping[str, Array]) -> Array:
        """(out, in) float32."""
        return zero_points.decoded(interleaved(arrays["qweight"]), arrays["scales"].T, interleaved(arrays["qzeros"]))

    def layer(self, arrays: Mapping[str, Array]) -> Layer | None:
        """MLX's affine grid, for which codes are packed anew."""
        codes = interleaved(arrays["qweight"])
        scales, zeros = np.ascontiguousarray(arrays["scales"].T), interleaved(arrays["qzeros"])
        return None if codes.shape[1] % 8 else zero_points.layer(_words(codes), BITS, scales, zeros, codes.shape[1])


@dataclass(frozen=True, slots=True, kw_only=True)
class AwqGemv(Codec):
    """Outputs down, inputs across in their order; `groups` of what the rows of scales hold are used."""

    groups: int

    name: ClassVar[str] = "awq gemv"

    def decode(self, arrays: Mapping[str, Array]) -> Array:
        """(out, in) float32."""
        words = arrays["qweight"]
        return zero_points.decoded(along_rows(words, BITS, words.shape[1] * 8), *self._grids(arrays))

    def layer(self, arrays: Mapping[str, Array]) -> Layer | None:
        """MLX's affine grid, whose codes lie as these do."""
        words = arrays["qweight"].view(np.uint32)
        return zero_points.layer(words, BITS, *self._grids(arrays), words.shape[1] * 8)

    def _grids(self, arrays: Mapping[str, Array]) -> tuple[Array, Codes]:
        """(out, groups) scales and zero points."""
        return arrays["scales"][:, : self.groups], along_rows(arrays["qzeros"], BITS, self.groups)


def _words(codes: Codes) -> NDArray[np.uint32]:
    return pack(codes, BITS).view(np.uint32)


class AwqCheckpoint:
    """A `Format`."""

    name: ClassVar[str] = "awq"
    what: ClassVar[str] = "AWQ checkpoints of 4 bits (version gemm or gemv)"

    def recognizes(self, source: Path) -> bool:
        """`quant_method` is awq, or there is the quant_config.json that older ones have."""
        return _settings(source).get("quant_method") == "awq"

    def open(self, source: Path) -> Holding:
        """Open it."""
        folder, settings = Folder(source), _settings(source)
        if settings.get("bits") != BITS:
            raise wrong_setting(folder, "bits", settings.get("bits"), (BITS,))
        version = settings.get("version") or settings.get("checkpoint_format") or settings.get("format") or "gemm"
        if not isinstance(version, str) or version.lower() not in READERS:
            raise wrong_setting(folder, "version", version, tuple(READERS))
        group = checked_group(folder, settings.get("group_size"))
        matrices = [READERS[version.lower()](folder, path, group) for path in modules(folder, "qweight")]
        return PackedHolding(self.name, folder, matrices, "X.qweight, X.qzeros, X.scales")


def _settings(source: Path) -> Mapping[str, Any]:
    found = quantization_of(source)
    if not found and (source / OLD_CONFIG).is_file():
        found = {"quant_method": "awq", **read_table(source / OLD_CONFIG)}
    return {OLD_KEYS.get(key, key): value for key, value in found.items()}


def _gemm(folder: Folder, path: str, group: int) -> Packed:
    """A module in the form of `gemm`."""
    shapes = _shapes(folder, path)
    ins, words = shapes["qweight"]
    size = ins if group == WHOLE_ROW else group
    groups = ins // size
    _refuse_others(folder, path, shapes, {"qzeros": (groups, words), "scales": (groups, 8 * words)}, ins % size)
    return _packed(folder, path, (8 * words, ins), AwqGemm(), size)


def _gemv(folder: Folder, path: str, group: int) -> Packed:
    """A module in the form of `gemv`. How far rows of scales are filled up depends on the group."""
    shapes = _shapes(folder, path)
    outs, words = shapes["qweight"]
    size = 8 * words if group == WHOLE_ROW else group
    groups = 8 * words // size
    filled = max(shapes["qzeros"][1], -(-groups // 8))
    _refuse_others(folder, path, shapes, {"qzeros": (outs, filled), "scales": (outs, 8 * filled)}, 8 * words % size)
    return _packed(folder, path, (outs, 8 * words), AwqGemv(groups=groups), size)


READERS = {"gemm": _gemm, "gemv": _gemv}


def _shapes(folder: Folder, path: str) -> dict[str, tuple[int, int]]:
    return {part: matrix_shape(folder, f"{path}.{part}", TYPES[part]) for part in TYPES}


def _refuse_others(
    folder: Folder, path: str, shapes: Mapping[str, tuple[int, int]], wanted: Mapping[str, tuple[int, int]], left: int
) -> None:
    """Raise ModelError where the parts of a module have other shapes than are wanted, or a row has a rest."""
    if left or any(shapes[part] != shape for part, shape in wanted.items()):
        found = ", ".join(f"{part} {shape}" for part, shape in shapes.items())
        raise ModelError(
            f"{folder.file_of(f'{path}.qweight')}: the parts of {path}.qweight have the shapes {found}. They do not "
            f"fit together in the version and the groups that the config says."
        )


def _packed(folder: Folder, path: str, shape: tuple[int, int], codec: Codec, group: int) -> Packed:
    parts = {part: f"{path}.{part}" for part in TYPES}
    return packed(folder, f"{path}.weight", shape, codec, parts, {"bits": BITS, "group_size": group})
