"""GPTQ checkpoints (`quant_method: gptq`), as AutoGPTQ, GPTQModel and optimum write them.

Source: AutoGPTQ's and GPTQModel's `QuantLinear`. A packed module has
- `qweight` (in × bits / 32, out) int32: codes of 2, 3, 4 or 8 bits, down the columns (see packed_words),
- `scales` (groups, out) in 16 bits and `qzeros` (groups, out × bits / 32) int32, whose codes run along the rows,
- `g_idx` (in,) int32: the group of each input. Without it, and mostly with it, groups are of one size and in order;
  where columns were taken in the order of their activations (`desc_act`), they are anywhere, and it must be there.

weight = (code − zero point) × scale, which we compute in float32; their kernels round products to 16 bits.

In the first form of the format (`checkpoint_format: gptq`) zero points are stored less one, in the second (`gptq_v2`)
as they are. A zero point of 0 makes the first form wrap. AutoGPTQ's kernels add the one to each code by itself;
GPTQModel has subtracted from whole words, where a 0 borrows from the code above it, and adds to whole words (but for 3
bits). Each is read as its maker does, which config.json's `meta.quantizer` tells; without a 0 there is no difference.

Bits and group of a module are told from its tensors' shapes, among those that config.json has, for all modules or,
under `dynamic`, for some. Which these are is not looked up: a pattern of names is a stranger's regular expression.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
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
from pytest_quantbench.checkpoints.formats.packed_words import along_rows, turned, words_of
from pytest_quantbench.checkpoints.formats.protocol import Holding
from pytest_quantbench.errors import ModelError
from pytest_quantbench.quantizers import Array, Arrays, Codec
from pytest_quantbench.quantizers.layer import Layer

BITS = (2, 3, 4, 8)
FORMS = ("gptq", "gptq_v2")
TYPES = {"qweight": ("I32",), "qzeros": ("I32",), "scales": FLOATS, "g_idx": ("I32", "I64")}
OLD_CONFIG = "quantize_config.json"  # where AutoGPTQ wrote it before it was a part of config.json


@dataclass(frozen=True, slots=True, kw_only=True)
class Gptq(Codec):
    """Codes of `bits` in rows of `in_features`; each `group` of a row has a scale and a zero point."""

    bits: int
    group: int
    in_features: int
    less_one: bool  # zero points are stored less one, which was subtracted
    by_words: bool = False  # from whole words

    name: ClassVar[str] = "gptq"

    def decode(self, arrays: Mapping[str, Array]) -> Array:
        """(out, in) float32."""
        codes = along_rows(turned(arrays["qweight"]), self.bits, self.in_features)
        return zero_points.decoded(codes, arrays["scales"].T, self.zeros(arrays), self._group_of(arrays))

    def layer(self, arrays: Mapping[str, Array]) -> Layer | None:
        """MLX's affine grid, whose codes lie as these do; None where groups are out of order, or no kernel has them."""
        if self._group_of(arrays) is not None:
            return None
        words, scales = turned(arrays["qweight"]), np.ascontiguousarray(arrays["scales"].T)
        return zero_points.layer(words, self.bits, scales, self.zeros(arrays), self.in_features)

    def note(self, weight_shape: tuple[int, int], arrays: Mapping[str, Array]) -> str:
        """Whether groups are out of order."""
        return "" if self._in_order(arrays) else "groups in the order of activations"

    def zeros(self, arrays: Mapping[str, Array]) -> NDArray[np.int16]:
        """(out, groups) zero points."""
        words = np.ascontiguousarray(arrays["qzeros"]).view(np.uint32)
        if self.by_words:
            words = words + np.uint32(sum(1 << place for place in range(0, 32, self.bits)))  # a 1 in every code
        stored = along_rows(words, self.bits, arrays["scales"].shape[1]).T.astype(np.int16)
        return stored + 1 & 2**self.bits - 1 if self.less_one and not self.by_words else stored

    def _in_order(self, arrays: Mapping[str, Array]) -> bool:
        return "g_idx" not in arrays or np.array_equal(arrays["g_idx"], np.arange(self.in_features) // self.group)

    def _group_of(self, arrays: Mapping[str, Array]) -> Array | None:
        """(in,) the group of each column; None where they are of one size and in order."""
        if self._in_order(arrays):
            return None if self.in_features % self.group == 0 else np.arange(self.in_features) // self.group
        return arrays["g_idx"]


class GptqCheckpoint:
    """A `Format`."""

    name: ClassVar[str] = "gptq"
    what: ClassVar[str] = "GPTQ checkpoints of 2, 3, 4 or 8 bits (checkpoint_format gptq or gptq_v2)"

    def recognizes(self, source: Path) -> bool:
        """`quant_method` is gptq, or there is the quantize_config.json that older ones have."""
        return _settings(source).get("quant_method") == "gptq"

    def open(self, source: Path) -> Holding:
        """Open it."""
        folder, settings = Folder(source), _settings(source)
        zeros = _zeros_as(folder, settings)
        sizes = _sizes(folder, settings)
        any_order = settings.get("desc_act") is True
        matrices = [_matrix(folder, path, sizes, zeros, any_order=any_order) for path in modules(folder, "qweight")]
        return PackedHolding(self.name, folder, matrices, "X.qweight, X.qzeros, X.scales")


def _settings(source: Path) -> Mapping[str, Any]:
    if (found := quantization_of(source)) or not (source / OLD_CONFIG).is_file():
        return found
    return {"quant_method": "gptq", **read_table(source / OLD_CONFIG)}


def _zeros_as(folder: Folder, settings: Mapping[str, Any]) -> tuple[bool, bool]:
    """Whether zero points are stored less one, and whether that was subtracted from whole words. Raises ModelError for
    a form of the format that is not read.
    """
    form = settings.get("checkpoint_format") or settings.get("format") or FORMS[0]
    form = "marlin" if settings.get("is_marlin_format") else form
    if form not in FORMS:
        raise wrong_setting(folder, "checkpoint_format", form, FORMS)
    meta = settings.get("meta")
    return form == FORMS[0], isinstance(meta, dict) and "gptqmodel" in str(meta.get("quantizer")).lower()


def _sizes(folder: Folder, settings: Mapping[str, Any]) -> tuple[list[int], list[int]]:
    """The bits and the groups that config.json has, those of all modules first. Raises ModelError for unknown ones."""
    rules = settings.get("dynamic")
    own = [rule for rule in (rules.values() if isinstance(rules, dict) else ()) if isinstance(rule, dict)]
    bits = [settings.get("bits"), *(rule["bits"] for rule in own if "bits" in rule)]
    groups = [settings.get("group_size"), *(rule["group_size"] for rule in own if "group_size" in rule)]
    for each in bits:
        if each not in BITS:
            raise wrong_setting(folder, "bits", each, BITS)
    return list(map(int, bits)), [checked_group(folder, group) for group in groups]


def _matrix(
    folder: Folder, path: str, sizes: tuple[list[int], list[int]], zeros: tuple[bool, bool], *, any_order: bool
) -> Packed:
    """One module; `any_order`: its groups may be in any. Raises ModelError naming file and tensor where its parts do
    not fit together.
    """
    parts = {part: f"{path}.{part}" for part in ("qweight", "qzeros", "scales", "g_idx")}
    if parts["g_idx"] not in folder.tensors:
        del parts["g_idx"]
    shape, bits, group, groups = _layout(folder, parts, *sizes)
    if "g_idx" not in parts and groups > 1 and any_order:
        raise ModelError(
            f"{folder.directory} lacks {path}.g_idx, which says of every column which group it is in: config.json says "
            f"desc_act = true, that columns were taken in the order of their activations. Fetch the model again."
        )
    less_one, by_words = zeros
    by_words = less_one and by_words and 32 % bits == 0
    codec = Gptq(bits=bits, group=group, in_features=shape[1], less_one=less_one, by_words=by_words)

    def check(arrays: Arrays) -> None:
        found = arrays.get("g_idx")
        if found is not None and not 0 <= found.min() <= found.max() < groups:
            raise ModelError(
                f"{folder.file_of(parts['g_idx'])}: {parts['g_idx']} names groups from {found.min()} to {found.max()}, "
                f"and {parts['scales']} has {groups}. Fetch the model again."
            )

    return packed(folder, f"{path}.weight", shape, codec, parts, {"bits": bits, "group_size": group}, check=check)


def _layout(
    folder: Folder, parts: Mapping[str, str], every_bits: Sequence[int], every_group: Sequence[int]
) -> tuple[tuple[int, int], int, int, int]:
    """The decoded shape, bits, group, and the number of groups of a module, of the sizes that config.json has."""
    shapes = {part: matrix_shape(folder, parts[part], TYPES[part]) for part in ("qweight", "qzeros", "scales")}
    groups, outs = shapes["scales"]
    index = folder.expect(parts["g_idx"], dtypes=TYPES["g_idx"]).shape if "g_idx" in parts else None
    for bits, group in product(every_bits, every_group):
        ins = shapes["qweight"][0] * 32 // bits if index is None else math.prod(index)
        size = ins if group == WHOLE_ROW else group
        wanted = {"qweight": (words_of(ins, bits), outs), "qzeros": (groups, words_of(outs, bits))}
        whole = bits != 3 or ins % 32 == outs % 32 == 0  # three words for every 32 codes
        if shapes == wanted | {"scales": (-(-ins // size), outs)} and index in (None, (ins,)) and whole:
            return (outs, ins), bits, size, groups
    found = ", ".join(f"{part} {shape}" for part, shape in {**shapes, "g_idx": index}.items() if shape is not None)
    raise ModelError(
        f"{folder.file_of(parts['qweight'])}: the parts of {parts['qweight']} have the shapes {found}. That is no "
        f"matrix of {_listed(every_bits)} bits in groups of {_listed(every_group)}, as the config says."
    )


def _listed(sizes: Sequence[int]) -> str:
    return " or ".join(map(str, dict.fromkeys(sizes)))
