"""bitsandbytes checkpoints (`quant_method: bitsandbytes`), as Transformers writes them.

Source: bitsandbytes' `QuantState` and `Linear8bitLt`; the numbers of NF4 are those of Dettmers et al. 2023, "QLoRA",
appendix E. We compute in float32; bitsandbytes rounds the matrix to the 16 bits that it was loaded in.

- 4 bits. `X.weight` are bytes of two codes, the first in the high half, of the matrix row after row (also shown as
  floats, where `bnb_4bit_quant_storage` says so). A code stands for one of 16 numbers, which its `quant_type` has: nf4
  or fp4. A block of `blocksize` numbers in a row is multiplied by its `X.weight.absmax`. With double quantization these
  are codes themselves, of 8 bits, each one of the 256 numbers of `nested_quant_map`, times the `nested_absmax` of its
  block, plus `nested_offset`. `X.weight.quant_state.bitsandbytes__nf4` holds the rest as JSON in bytes: it is read when
  the files are opened, for only it says which shape the matrix has. Blocks run on across the ends of rows; where they
  do not divide a row, bitsandbytes' own kernel for a CPU (0.50) takes other blocks' scales than were packed.
- 8 bits. `X.weight` (out, in) int8 times `X.SCB` (out,) over 127.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pytest_quantbench.checkpoints.formats.folder import FLOATS, Folder, quantization_of
from pytest_quantbench.checkpoints.formats.packed_folder import Packed, PackedHolding, matrix_shape, modules, packed
from pytest_quantbench.checkpoints.formats.protocol import Holding
from pytest_quantbench.checkpoints.safetensors_header import short
from pytest_quantbench.errors import ModelError
from pytest_quantbench.quantizers import Array, Arrays, Codec
from pytest_quantbench.quantizers.numerics.row_blocks import over_rows

_E2M1 = [0, 1 / 16, 8, 12, 4, 6, 2, 3]  # of fp4, which codes them in an order of its own; the largest becomes 1
NUMBERS: Mapping[str, NDArray[np.float32]] = {  # by quant_type
    "fp4": np.array([*_E2M1, *(-size for size in _E2M1)], np.float32) / np.float32(12),
    "nf4": np.array(
        [
            *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453),
            *(-0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0),
            *(0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224),
            *(0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
        ],
        np.float32,
    ),
}
STATE = "weight.quant_state.bitsandbytes__"
MOST_STATE_BYTES = 10_000  # a real one has 200
BLOCKS = (32, 64, 128, 256, 512, 1024, 2048, 4096)
LARGEST_OFFSET = 1e6  # of real ones, which are a mean of magnitudes of weights, none is near
NESTED = ("nested_absmax", "nested_quant_map")
NOTE = "inputs not rounded to 8 bits, as LLM.int8 does but for outliers"
BY_ROWS = 0  # what `weight_format` has to be: the layouts of older kernels have other numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class FourBit(Codec):
    """Codes of 16 numbers, `block` of them to a scale, which may be coded in blocks, too."""

    numbers: str
    shape: tuple[int, int]
    block: int
    nested_block: int = 0  # 0: scales are as they are
    nested_offset: float = 0.0

    name: ClassVar[str] = "bitsandbytes 4-bit"

    def decode(self, arrays: Mapping[str, Array]) -> Array:
        """(out, in) float32."""
        codes = arrays["weight"].reshape(-1).view(np.uint8)  # two in a byte
        numbers = NUMBERS[self.numbers]
        both = np.stack([np.repeat(numbers, 16), np.tile(numbers, 16)], axis=1).view(np.float64)[:, 0]  # moved as one
        scales = self.scales(arrays)
        dense = np.empty((len(scales), self.block), np.float32)  # the last block is filled up
        pairs = dense.reshape(-1).view(np.float64)
        pairs[len(codes) :] = 0

        def work(rows: slice) -> None:
            place = slice(rows.start * self.block // 2, min(rows.stop * self.block // 2, len(codes)))
            pairs[place] = both[codes[place]]
            dense[rows] *= scales[rows, None]

        over_rows(work, *dense.shape)
        return dense.reshape(-1)[: math.prod(self.shape)].reshape(self.shape)

    def scales(self, arrays: Mapping[str, Array]) -> NDArray[np.float32]:
        """(blocks,) what each block is multiplied by."""
        stored = arrays["absmax"].reshape(-1)
        if not self.nested_block:
            return stored.astype(np.float32)
        blocks = np.repeat(arrays["nested_absmax"], self.nested_block)[: len(stored)]
        return np.asarray(arrays["nested_quant_map"][stored] * blocks + np.float32(self.nested_offset))


@dataclass(frozen=True, slots=True, kw_only=True)
class EightBit(Codec):
    """Codes of a row times the row's largest magnitude over 127."""

    name: ClassVar[str] = "bitsandbytes int8"

    def decode(self, arrays: Mapping[str, Array]) -> Array:
        """(out, in) float32, in the order in which bitsandbytes multiplies."""
        return np.asarray(arrays["weight"] * arrays["SCB"][:, None] * np.float32(1 / 127))


class BitsAndBytes:
    """A `Format`."""

    name: ClassVar[str] = "bitsandbytes"
    what: ClassVar[str] = "bitsandbytes checkpoints (nf4, fp4, int8)"

    def recognizes(self, source: Path) -> bool:
        """`quant_method` is bitsandbytes, or, in older ones, only how to load it is said."""
        found = quantization_of(source)
        method = found.get("quant_method")
        return method == "bitsandbytes" or (method is None and ("load_in_4bit" in found or "load_in_8bit" in found))

    def open(self, source: Path) -> Holding:
        """Open it."""
        folder = Folder(source)
        states = _states(folder)
        wide = modules(folder, "SCB")
        claimed = {bits for bits in (4, 8) if folder.quantization.get(f"load_in_{bits}bit")}
        stored = {bits for bits, paths in ((4, states), (8, wide)) if paths}
        if claimed and stored and stored != claimed:
            told, found = (" and ".join(map(str, sorted(each))) for each in (claimed, stored))
            raise ModelError(
                f"{folder.directory / 'config.json'} says {told} bits, and the tensors are packed in {found}."
            )
        matrices = [_four(folder, path, name, state) for path, (name, state) in states.items()]
        matrices += [_eight(folder, path) for path in wide]
        return PackedHolding(self.name, folder, matrices, "X.weight.quant_state…, or X.SCB")


def _states(folder: Folder) -> dict[str, tuple[str, Mapping[str, Any]]]:
    """The stored name of every module's state and what it says, by the module's path. Raises ModelError."""
    names = {name: name.partition(f".{STATE}")[0] for name in folder.tensors if f".{STATE}" in name}
    for name in names:
        if math.prod(folder.expect(name, dtypes=("U8",)).shape) > MOST_STATE_BYTES:
            raise _unreadable(folder, name, f"is longer than {MOST_STATE_BYTES} bytes")
    read = folder.read(names)
    return {path: (name, _state(folder, name, read[name].tobytes())) for name, path in names.items()}


def _state(folder: Folder, name: str, text: bytes) -> Mapping[str, Any]:
    """What one of them says, of which all that is used has been checked. Raises ModelError."""
    try:
        state = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _unreadable(folder, name, "is no JSON") from error
    kinds = [kind for kind in NUMBERS if name.endswith(f"__{kind}")]
    if not isinstance(state, dict) or [state.get("quant_type")] != kinds:
        raise _unreadable(folder, name, f"has no quant_type of {', '.join(NUMBERS)} that its name has, too")
    shape, block, nested = state.get("shape"), state.get("blocksize"), state.get("nested_blocksize", BLOCKS[0])
    if not isinstance(shape, list) or len(shape) != 2 or not all(isinstance(each, int) and each > 0 for each in shape):
        raise _unreadable(folder, name, f"says the shape {short(shape)}, which is no matrix's")
    if block not in BLOCKS or nested not in BLOCKS:
        raise _unreadable(folder, name, f"says blocks of {short(block)} and {short(nested)}, and there are {BLOCKS}")
    offset = state.get("nested_offset", 0)
    if not isinstance(offset, int | float) or not abs(offset) < LARGEST_OFFSET:
        raise _unreadable(folder, name, f"says nested_offset {short(offset)}")
    return state


def _unreadable(folder: Folder, name: str, problem: str) -> ModelError:
    return ModelError(f"{folder.file_of(name)}: {short(name)} {problem}. Fetch the model again.")


def _four(folder: Folder, path: str, name: str, state: Mapping[str, Any]) -> Packed:
    """A matrix of 4 bits. Raises ModelError naming file and tensor where its parts do not fit together."""
    outs, ins = state["shape"]
    block, nested = state["blocksize"], state.get("nested_blocksize", 0)
    parts = {"weight": f"{path}.weight"}
    parts |= {part: f"{path}.weight.{part}" for part in ("absmax", "quant_map", *(NESTED if nested else ()))}
    if folder.expect(parts["weight"], dtypes=("U8", *FLOATS)).stored_bytes != -(-outs * ins // 2):
        raise _unreadable(folder, parts["weight"], f"has not the bytes that a matrix ({outs}, {ins}) of 4 bits takes")
    blocks = -(-outs * ins // block)
    folder.expect(parts["absmax"], dtypes=("U8",) if nested else ("F32",), shape=(blocks,))
    folder.expect(parts["quant_map"], dtypes=("F32",), shape=(16,))
    if nested:
        folder.expect(parts["nested_absmax"], dtypes=("F32",), shape=(-(-blocks // nested),))
        folder.expect(parts["nested_quant_map"], dtypes=("F32",), shape=(256,))
    kind = state["quant_type"]
    codec = FourBit(
        numbers=kind,
        shape=(outs, ins),
        block=block,
        nested_block=nested,
        nested_offset=float(state.get("nested_offset", 0)),
    )

    def check(arrays: Arrays) -> None:
        if not np.allclose(arrays["quant_map"], NUMBERS[kind], rtol=0, atol=1e-5):
            raise _unreadable(folder, parts["quant_map"], f"has not the numbers of {kind}")

    parameters = {"type": kind, "block": block, "nested_block": nested}
    return packed(
        folder, parts["weight"], (outs, ins), codec, parts, parameters, beside=[name], opaque=["weight"], check=check
    )


def _eight(folder: Folder, path: str) -> Packed:
    """A matrix of 8 bits. Raises ModelError naming file and tensor where its parts do not fit together."""
    parts = {part: f"{path}.{part}" for part in ("weight", "SCB", "weight_format")}
    shape = matrix_shape(folder, parts["weight"], ("I8",))
    folder.expect(parts["SCB"], dtypes=("F32",), shape=shape[:1])
    if parts["weight_format"] not in folder.tensors:
        del parts["weight_format"]  # older ones have none

    def check(arrays: Arrays) -> None:
        if np.any(arrays.get("weight_format", BY_ROWS) != BY_ROWS):
            raise _unreadable(folder, parts["weight_format"], "says another layout than by rows, which alone is read")

    return packed(folder, parts["weight"], shape, EightBit(), parts, {"bits": 8}, note=NOTE, check=check)
