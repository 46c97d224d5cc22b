"""HQQ checkpoints (`quant_method: hqq`), as hqq and Transformers (up to release 4) write them into
safetensors files.

Source: hqq's `HQQLinear.state_dict` and `Quantizer.dequantize`. weight = (code − zero point) × scale with zero points
that are no whole numbers, which we compute in float32; hqq rounds to the 16 bits of `compute_dtype`. A module has

- `shape`, `axis`, `group_size`, `nbits`, `packing` and more as tensors of a few numbers; texts are their characters.
  They are read when the files are opened, for only they say how the matrix lies.
- `W_q`: the codes of the matrix after it was cut into groups, row after row: (groups, group) for axis 1, (group,
  groups) for axis 0, in which a group is not a part of a row, but weights that lie in × out / group apart. They are
  packed in slabs (see packed_words). The bytes may be shown as floats (`view_as_float`).
- `scale` and `zero`: (groups, 1) for axis 1, (1, groups) for axis 0.

hqq's own `qmodel.pt` is a pickle, which is not opened.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from pytest_quantbench.checkpoints.formats import zero_points
from pytest_quantbench.checkpoints.formats.folder import FLOATS, Folder, quantization_of
from pytest_quantbench.checkpoints.formats.packed_folder import Packed, PackedHolding, modules, packed, wrong_setting
from pytest_quantbench.checkpoints.formats.packed_words import SLABS, in_slabs
from pytest_quantbench.checkpoints.formats.protocol import Holding
from pytest_quantbench.errors import ModelError
from pytest_quantbench.quantizers import Array, Codec
from pytest_quantbench.quantizers.layer import Layer
from pytest_quantbench.quantizers.numerics.affine import BITS as KERNEL_BITS
from pytest_quantbench.quantizers.numerics.bit_packing import Codes, pack
from pytest_quantbench.quantizers.numerics.row_blocks import over_rows

PICKLE = "qmodel.pt"
NEEDED = ("shape", "axis", "group_size", "nbits", "packing")
OTHERS = (  # what else is stored for a module, of which nothing here depends
    *("view_as_float", "unpack_view_dtype", "quant_scale", "quant_zero", "compute_dtype", "offload_meta"),
    *("encoded_state_dict", "stores_quant_config", "channel_wise", "optimize", "round_zero"),
)
MOST_NUMBERS = 100  # in a tensor that says how the matrix lies


@dataclass(frozen=True, slots=True, kw_only=True)
class Hqq(Codec):
    """Codes in slabs, of a matrix of this shape in groups along an axis of its own."""

    packing: str
    shape: tuple[int, int]
    group: int
    axis: int

    name: ClassVar[str] = "hqq"

    @property
    def grouped(self) -> tuple[int, int]:
        """The shape in which the matrix was cut into groups."""
        groups = math.prod(self.shape) // self.group
        return (groups, self.group) if self.axis == 1 else (self.group, groups)

    @property
    def words(self) -> tuple[int, int]:
        """The shape of the packed words."""
        return -(-self.grouped[0] // SLABS[self.packing].codes), self.grouped[1]

    def decode(self, arrays: Mapping[str, Array]) -> Array:
        """(out, in) float32."""
        codes = self._codes(arrays)
        scales, zeros = (arrays[part].astype(np.float32) for part in ("scale", "zero"))
        dense = np.empty(codes.shape, np.float32)

        def work(rows: slice) -> None:
            own = rows if self.axis == 1 else slice(None)
            np.subtract(codes[rows], zeros[own], out=dense[rows])
            with np.errstate(over="ignore"):  # what is not finite is seen, and told, by those who ask
                dense[rows] *= scales[own]

        over_rows(work, *self.grouped)
        return dense.reshape(self.shape)

    def layer(self, arrays: Mapping[str, Array]) -> Layer | None:
        """MLX's affine grid, for which codes are packed anew; None where groups are no parts of rows, or no kernel has
        their size or width.
        """
        (outs, ins), bits = self.shape, SLABS[self.packing].bits
        if self.axis != 1 or ins % self.group or bits not in KERNEL_BITS or ins * bits % 32:
            return None
        words = pack(self._codes(arrays).reshape(outs, ins), bits).view(np.uint32)
        scales, zeros = (arrays[part].reshape(outs, -1) for part in ("scale", "zero"))
        return zero_points.layer(words, bits, scales, zeros, ins)

    def _codes(self, arrays: Mapping[str, Array]) -> Codes:
        kind = {"U8": np.uint8, "I32": np.int32}[SLABS[self.packing].dtype]
        words = np.ascontiguousarray(arrays["W_q"]).reshape(-1).view(kind).reshape(self.words)
        return in_slabs(words, SLABS[self.packing], self.grouped[0])


class HqqCheckpoint:
    """A `Format`."""

    name: ClassVar[str] = "hqq"
    what: ClassVar[str] = "HQQ checkpoints in safetensors (1 to 8 bits, both axes)"

    def recognizes(self, source: Path) -> bool:
        """`quant_method` is hqq, or there is hqq's own pickle alone."""
        return quantization_of(source).get("quant_method") == "hqq" or _is_pickled(source)

    def open(self, source: Path) -> Holding:
        """Open it."""
        if _is_pickled(source):
            raise ModelError(
                f"{source} has {PICKLE}, a pickle, which can run code and is not opened. Load it with hqq and save it "
                f"with Transformers' save_pretrained, which writes safetensors."
            )
        folder = Folder(source)
        claimed = _claimed_bits(folder.quantization.get("quant_config"))
        paths = modules(folder, "W_q")
        said = _said(folder, paths)
        return PackedHolding(self.name, folder, [_matrix(folder, path, said, claimed) for path in paths], "X.W_q")


def _is_pickled(source: Path) -> bool:
    return (source / PICKLE).is_file() and not any(source.glob("*.safetensors"))


def _claimed_bits(config: Any) -> set[float]:
    """The bits that config.json has, for all modules or for some by their names."""
    if not isinstance(config, dict):
        return set()
    several = [config, *(each for each in config.values() if isinstance(each, dict))]
    found = [each["weight_quant_params"] for each in several if isinstance(each.get("weight_quant_params"), dict)]
    return {each["nbits"] for each in found if isinstance(each.get("nbits"), int | float)}


def _said(folder: Folder, paths: list[str]) -> Mapping[str, Array]:
    """What the small tensors of all modules hold, by their names. Raises ModelError for one that is missing or long."""
    names = [f"{path}.{part}" for path in paths for part in NEEDED]
    for name in names:
        tensor = folder.expect(name, dtypes=("U8", "I32", "I64", "F32"))
        if not 0 < math.prod(tensor.shape) <= MOST_NUMBERS:
            raise ModelError(
                f"{folder.file_of(name)}: {name} has shape {tensor.shape}, and should be a number or a word."
            )
    return {name: array.reshape(-1) for name, array in folder.read(names).items()}


def _matrix(folder: Folder, path: str, said: Mapping[str, Array], claimed: set[float]) -> Packed:
    """A module. Raises ModelError naming file and tensor where its parts do not fit together."""
    shape, axis, group, bits, packing = (said[f"{path}.{part}"] for part in NEEDED)
    width = round(float(bits[0]), 2)  # 1.58, in 32 bits
    kind = bytes(packing.astype(np.uint8)).decode("ascii", errors="replace")
    if kind not in SLABS or width > SLABS[kind].bits:
        raise wrong_setting(folder, f"{path}.packing", f"{kind} for {width:g} bits", tuple(SLABS))
    if claimed and width not in claimed:
        raise wrong_setting(folder, "nbits", sorted(claimed), (f"what {path}.nbits has, which is {width:g}",))
    codec = Hqq(packing=kind, shape=_pair(shape), group=int(group[0]), axis=int(axis[0]))
    _check(folder, path, codec)
    parts = {part: f"{path}.{part}" for part in ("W_q", "scale", "zero")}
    beside = [f"{path}.{part}" for part in (*NEEDED, *OTHERS) if f"{path}.{part}" in folder.tensors]
    parameters = {"bits": width, "group_size": codec.group, "axis": codec.axis}
    return packed(folder, f"{path}.weight", codec.shape, codec, parts, parameters, beside=beside, opaque=["W_q"])


def _pair(shape: Array) -> tuple[int, int]:
    """Two numbers above 0, or (0, 0)."""
    return (int(shape[0]), int(shape[1])) if shape.size == 2 and shape.min() > 0 else (0, 0)


def _check(folder: Folder, path: str, codec: Hqq) -> None:
    """Raise ModelError where words, scales and zero points have not the shapes that follow from what is said."""
    name, slabs, count = f"{path}.W_q", SLABS[codec.packing], math.prod(codec.shape)
    words = folder.expect(name, dtypes=(slabs.dtype, *FLOATS))
    fits = codec.axis in (0, 1) and codec.group > 0 and count > 0 and count % codec.group == 0
    size = {"U8": 1, "I32": 4}[slabs.dtype]
    rows = words.shape[0] if len(words.shape) == 2 else 0  # of words, that may be called floats of more bytes
    if not fits or rows != codec.words[0] or words.stored_bytes != math.prod(codec.words) * size:
        raise ModelError(
            f"{folder.file_of(name)}: {name} of shape {words.shape} is no matrix {codec.shape} in groups of "
            f"{codec.group} along axis {codec.axis}, packed as {codec.packing}, as the tensors beside it say."
        )
    grids = (codec.grouped[0], 1) if codec.axis == 1 else (1, codec.grouped[1])
    for part in ("scale", "zero"):
        folder.expect(f"{path}.{part}", dtypes=FLOATS, shape=grids)
