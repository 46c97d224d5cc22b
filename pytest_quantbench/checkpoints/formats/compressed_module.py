"""One quantized module of a compressed-tensors checkpoint: its tensors, its scheme, and what of both has to fit.

A scale, and a zero point, belongs to a block of the matrix (out, in): all of it, a row, so many columns of a row, or so
many rows and columns. Tensors of scales have a number for each block, those of whole rows with or without a second
dimension.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pytest_quantbench.checkpoints.formats.compressed_schemes import Arguments, Scheme
from pytest_quantbench.checkpoints.formats.folder import Folder
from pytest_quantbench.checkpoints.formats.protocol import HeldTensor
from pytest_quantbench.checkpoints.safetensors_header import short
from pytest_quantbench.errors import ModelError
from pytest_quantbench.quantizers import Array, Arrays, Codec

OF_WEIGHT = (
    "weight_packed",
    "weight",
    "weight_scale",
    "weight_shape",
    "weight_zero_point",
    "weight_g_idx",
    "weight_global_scale",
)
OF_INPUTS = ("input_scale", "input_zero_point", "input_global_scale", "output_scale", "output_zero_point")


@dataclass(frozen=True, slots=True, kw_only=True)
class Module:
    """A module, its scheme, and the shape (out, in) of its matrix."""

    folder: Folder
    path: str
    scheme: Scheme
    weights: Arguments
    shape: tuple[int, int]
    note: str

    def has(self, part: str) -> bool:
        """Whether the files hold this part."""
        return f"{self.path}.{part}" in self.folder.tensors

    def error(self, problem: str) -> ModelError:
        """What is to be raised for parts that do not fit together."""
        file = self.folder.file_of(next(f"{self.path}.{part}" for part in OF_WEIGHT if self.has(part)))
        return ModelError(f"{file}: {short(self.path)} {problem}.")

    @property
    def block(self) -> tuple[int, int]:
        """Rows and columns that share a scale. Raises ModelError for what the strategy lacks, or does not fit."""
        (rows, columns), kind = self.shape, self.weights
        whole = {"tensor": (rows, columns), "channel": (1, columns)}
        found = whole.get(kind.strategy) or (kind.block if kind.strategy == "block" else None)
        if kind.strategy in ("group", "tensor_group") and kind.group is not None and columns % kind.group == 0:
            found = (1, kind.group)
        if found is None:
            raise self.error(
                f"of shape {self.shape} cannot have the strategy {short(kind.strategy)} with group_size = {kind.group} "
                f"and block_structure = {kind.block}, as config.json says"
            )
        return found

    @property
    def blocks(self) -> tuple[int, int]:
        """How many of them there are: the shape of the scales."""
        return -(-self.shape[0] // self.block[0]), -(-self.shape[1] // self.block[1])

    def expect_scales(self, part: str, dtypes: tuple[str, ...]) -> None:
        """Raise ModelError for scales, or zeros, that are not one for each block."""
        found = self.folder.expect(f"{self.path}.{part}", dtypes=dtypes).shape
        rows, groups = self.blocks
        shapes = {(rows, groups)} | ({(rows,)} if groups == 1 else set()) | ({()} if rows == groups == 1 else set())
        if found not in shapes:
            raise self.error(f"has a {part} of shape {found}, and {(rows, groups)} is needed")

    def expect_number(self, part: str, dtypes: tuple[str, ...]) -> None:
        """Raise ModelError where this is not one number."""
        found = self.folder.expect(f"{self.path}.{part}", dtypes=dtypes).shape
        if math.prod(found) != 1:
            raise self.error(f"has an {part} of shape {found}, and one number is needed")

    def held(self, codec: Codec, read: Callable[[Mapping[str, Array]], Arrays]) -> HeldTensor:
        """The matrix. `read` makes the codec's arrays of the parts as they are stored."""
        folder, path = self.folder, self.path
        stored = [part for part in (*OF_WEIGHT, *OF_INPUTS) if self.has(part)]

        def arrays() -> Arrays:
            found = folder.read(f"{path}.{part}" for part in stored)
            return read({part: found[f"{path}.{part}"] for part in stored})

        group = {} if self.weights.group is None else {"group_size": self.weights.group}
        return HeldTensor(
            name=f"{path}.weight",
            shape=self.shape,
            stored_bytes=folder.stored_bytes(f"{path}.{part}" for part in stored),
            kind=self.scheme.format,
            codec=codec,
            read=arrays,
            parameters={"bits": self.weights.bits, "strategy": self.weights.strategy, **group},
            note=self.note,
        )
