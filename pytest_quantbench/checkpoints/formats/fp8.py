"""Weights in E4M3 with a scale for all, for each row, or for blocks of 128 × 128: DeepSeek's files and their relatives.

Source: DeepSeek-V3's repository (`weight_dequant`), Transformers' FineGrainedFP8Config and FbgemmFp8Config. A quantized
matrix is `weight` (out, in) in E4M3 beside its scales, by which it is multiplied in spite of the name:
`weight_scale_inv` (⌈out / 128⌉, ⌈in / 128⌉) for `quant_method` fp8 with a `weight_block_size`, one number without;
`weight_scale`, one number or (out, 1), in AutoFP8's files and for fbgemm_fp8. Scales are in 16 or 32 bits, or powers of
two in E8M0, which some files store as bytes.

Where we differ: inputs, which engines round to E4M3 as well, are not rounded, and the matrix's note says so. Experts in
four bits, and in stacks, are refused.
"""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from pytest_quantbench.checkpoints.formats.float_codecs import Float8
from pytest_quantbench.checkpoints.formats.folder import FLOATS, Folder, OwnedParts, quantization_of
from pytest_quantbench.checkpoints.formats.protocol import HeldTensor, Holding
from pytest_quantbench.checkpoints.safetensors_header import LARGEST_DIMENSION, short
from pytest_quantbench.errors import ModelError
from pytest_quantbench.quantizers import Array, Arrays
from pytest_quantbench.quantizers.numerics.microscaled_formats import e8m0_values

METHODS = ("fp8", "fbgemm_fp8")
SCALES = ("weight_scale_inv", "weight_scale")
OF_INPUTS = ("input_scale", "activation_scale", "input_scale_ub")
CACHE_SCALES = ("k_scale", "v_scale")
NOTE = "inputs not rounded, as the file's scheme asks"


class Fp8:
    """A `Format`."""

    name: ClassVar[str] = "fp8"
    what: ClassVar[str] = "fp8 checkpoints (E4M3 with a scale for all, for each row or for blocks; fbgemm_fp8)"

    def recognizes(self, source: Path) -> bool:
        """`quant_method` in config.json says so."""
        return quantization_of(source).get("quant_method") in METHODS

    def open(self, source: Path) -> Holding:
        """Open it."""
        return Fp8Holding(Folder(source))


class Fp8Holding(OwnedParts):
    """Matrices under their own names."""

    format, naming = "fp8", "published"

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self.files = folder.files
        self._beside = CACHE_SCALES if folder.quantization.get("kv_cache_scheme") else ()
        self._file = folder.directory / "config.json"
        self._block = self._block_size(folder.quantization.get("weight_block_size"))
        if folder.quantization.get("expert_dtype", "fp8") != "fp8":
            raise ModelError(f"{self._file} says expert_dtype = {short(folder.quantization['expert_dtype'])}, not fp8.")
        if not any(tensor.codec is not None for tensor in self.stored()):
            raise ModelError(f"{self._file} says that this model is in fp8, and no tensor of it is.")

    def _block_size(self, value: Any) -> tuple[int, int] | None:
        if value is None:
            return None
        known = isinstance(value, list) and len(value) == 2 and all(type(part) is int for part in value)
        if not known or not 0 < min(value) <= max(value) <= LARGEST_DIMENSION:
            raise ModelError(f"{self._file} says weight_block_size = {short(value)}: rows and columns are needed.")
        return value[0], value[1]

    def tensor(self, name: str) -> HeldTensor | None:
        """The tensor of this name."""
        folder, path = self._folder, name.removesuffix(".weight")
        if not name.endswith(".weight") or not self._is_quantized(path):
            return folder.plain(name)
        shape = folder.expect(name, dtypes=("F8_E4M3",)).shape
        if len(shape) != 2 or 0 in shape:
            raise ModelError(f"{folder.file_of(name)}: {short(name)} of shape {shape} is no matrix.")
        scales = next(
            (part for part in (f"{path}.{part}" for part in SCALES) if part in folder.tensors), f"{name}_scale"
        )
        block = self._block_of(scales, (shape[0], shape[1]))
        parts = [f"{path}.{part}" for part in (*SCALES, *OF_INPUTS)]
        stored = [name, *(part for part in parts if part in folder.tensors)]

        def read() -> Arrays:
            found = folder.read([name, scales])
            blocks = (-(-shape[0] // block[0]), -(-shape[1] // block[1]))
            return {"codes": found[name].view(np.uint8), "scales": _values(found[scales]).reshape(blocks)}

        return HeldTensor(
            name=name,
            shape=shape,
            stored_bytes=folder.stored_bytes(stored),
            kind="fp8",
            codec=Float8(block=block, in_features=shape[1]),
            read=read,
            parameters={"bits": 8, "block": f"{block[0]} × {block[1]}"},
            note=NOTE,
        )

    def _is_quantized(self, path: str) -> bool:
        tensors = self._folder.tensors
        if (weight := tensors.get(f"{path}.weight")) is None:
            return False
        return weight.dtype not in FLOATS or any(f"{path}.{part}" in tensors for part in SCALES)

    def _block_of(self, scales: str, shape: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns that share a scale. Raises ModelError for scales of another shape than the config says."""
        found = self._folder.expect(scales, dtypes=(*FLOATS, "F8_E8M0", "U8")).shape
        blocks = {(): shape, (1,): shape, (1, 1): shape, (shape[0], 1): (1, shape[1]), shape[:1]: (1, shape[1])}
        if self._block is not None:
            high, wide = self._block
            blocks = {(-(-shape[0] // high), -(-shape[1] // wide)): self._block}
        if found not in blocks:
            raise ModelError(
                f"{self._folder.file_of(scales)}: {short(scales)} has shape {found}, and {self._file} says that "
                f"weight_block_size = {self._block} for a matrix of {shape}."
            )
        return blocks[found]

    def _owner(self, name: str) -> str:
        """The name of the matrix that a stored tensor belongs to, or its own."""
        path, _, part = name.rpartition(".")
        return f"{path}.weight" if part in (*SCALES, *OF_INPUTS) and f"{path}.weight" in self._folder.tensors else name


def _values(scales: Array) -> Array:
    """Scales as they are, or what powers of two in bytes stand for."""
    return e8m0_values(scales.view(np.uint8)) if scales.dtype.itemsize == 1 else scales
