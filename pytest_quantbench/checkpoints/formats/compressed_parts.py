"""The tensors of one quantized module of a compressed-tensors checkpoint, checked, and the codec that reads them.

Source: the compressors of the compressed-tensors package. By format, beside `weight_scale`:

- pack-quantized: `weight_packed` (out, words) int32, codes of 1 to 8 bits as a stream of bits. Older versions put
  whole codes into each word and left the rest of it empty, which differs for 3, 5, 6 and 7 bits. `weight_shape` (2,)
  is the shape of the matrix; `weight_zero_point` is packed along the rows, or int8 in older files; `weight_g_idx` (in,)
  says the group of each column.
- int-quantized, float-quantized, naive-quantized: `weight` in int8 or E4M3, and `weight_zero_point` int8.
- nvfp4-pack-quantized: `weight_packed` uint8, two codes a byte, `weight_scale` E4M3, `weight_global_scale`.
- mxfp4-pack-quantized, mxfp6-pack-quantized, mxfp8-quantized: powers of two for every 32 as `weight_scale`.

Codes are signed there, from −2^(bits − 1); here they count from zero, as they are packed.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from pytest_quantbench.checkpoints.formats.compressed_module import Module
from pytest_quantbench.checkpoints.formats.compressed_schemes import Arguments
from pytest_quantbench.checkpoints.formats.float_codecs import Float8, MxFloats, NvFloat4
from pytest_quantbench.checkpoints.formats.folder import FLOATS
from pytest_quantbench.checkpoints.formats.integer_codec import (
    Integers,
    RuledIntegers,
    loose_codes,
    loose_words_of,
    stream,
    unpacked,
)
from pytest_quantbench.checkpoints.formats.packed_words import words_of
from pytest_quantbench.checkpoints.formats.protocol import HeldTensor
from pytest_quantbench.quantizers import Array, Arrays, Codec


def packed(module: Module) -> HeldTensor:
    """pack-quantized."""
    (rows, columns), bits = module.shape, module.weights.bits
    stored = module.folder.expect(f"{module.path}.weight_packed", dtypes=("I32",)).shape
    dense, loose = words_of(columns, bits), loose_words_of(columns, bits)
    if stored not in ((rows, dense), (rows, loose)):
        raise module.error(
            f"has a weight_packed of shape {stored}, and {(rows, dense)} is needed for a matrix of {module.shape} in "
            f"{bits} bits"
        )
    if dense == loose > 1 and 32 % bits:
        raise module.error(f"has rows of {columns} codes of {bits} bits, which old and new versions pack differently")

    def read(parts: Mapping[str, Array]) -> Arrays:
        words = parts["weight_packed"].view(np.uint32)
        codes = words if stored[1] == dense else stream(loose_codes(words, bits, columns), bits)
        return {"codes": codes, **_beside_codes(module, parts, bits, is_loose=stored[1] != dense)}

    return module.held(_integers(module, bits), read)


def unpacked_integers(module: Module) -> HeldTensor:
    """int-quantized, and naive-quantized integers: a byte for each code."""
    rows, columns = module.shape
    module.folder.expect(f"{module.path}.weight", dtypes=("I8",), shape=(rows, columns))

    def read(parts: Mapping[str, Array]) -> Arrays:
        codes = np.pad(parts["weight"].view(np.uint8) ^ np.uint8(128), ((0, 0), (0, -columns % 4)))
        return {"codes": codes.view(np.uint32), **_beside_codes(module, parts, 8, is_loose=False)}

    return module.held(_integers(module, 8), read)


def _integers(module: Module, bits: int) -> Codec:
    """Of codes in so many bits. Raises ModelError for parts beside the codes that do not fit."""
    module.expect_scales("weight_scale", FLOATS)
    _expect_zeros(module, bits)
    if module.has("weight_g_idx"):
        module.folder.expect(f"{module.path}.weight_g_idx", dtypes=("I32",), shape=module.shape[1:])
    inputs, (_, in_features) = module.scheme.inputs, module.shape
    if inputs is None or not rounds(inputs):
        return Integers(bits=bits, block=module.block, in_features=in_features)
    if not inputs.dynamic:
        module.expect_number("input_scale", FLOATS)
    if not inputs.dynamic and module.has("input_zero_point"):
        module.expect_number("input_zero_point", ("I8",))
    return RuledIntegers(bits=bits, block=module.block, in_features=in_features, input_bits=inputs.bits)


def rounds(inputs: Arguments) -> bool:
    """Whether what is done to inputs is done here, too: integers, per token or on one grid for all."""
    known = inputs.strategy == "token" and inputs.symmetric if inputs.dynamic else inputs.strategy == "tensor"
    return known and inputs.type == "int" and inputs.bits <= 8


def _expect_zeros(module: Module, bits: int) -> None:
    if not module.has("weight_zero_point"):
        if not module.weights.symmetric:
            raise module.error("lacks its weight_zero_point, and config.json says that it is not symmetric")
        return
    found = module.folder.expect(f"{module.path}.weight_zero_point", dtypes=("I8", "I32"))
    rows, groups = module.blocks
    packed_rows = {words_of(rows, bits), loose_words_of(rows, bits)}
    if found.dtype == "I8":
        module.expect_scales("weight_zero_point", ("I8",))
    elif len(found.shape) != 2 or found.shape[0] not in packed_rows or found.shape[1] != groups:
        raise module.error(f"has a weight_zero_point of shape {found.shape} for {module.blocks} scales of {bits} bits")


def _beside_codes(module: Module, parts: Mapping[str, Array], bits: int, *, is_loose: bool) -> Arrays:
    """The codec's other arrays. Raises ModelError for an order of columns that does not fill the groups."""
    found: Arrays = {"scales": parts["weight_scale"].reshape(module.blocks)}
    if "weight_zero_point" in parts:
        zeros = _zeros(parts["weight_zero_point"], module.blocks, bits, is_loose)
        if (zeros != 2 ** (bits - 1)).any():
            found["zeros"] = zeros
    if "weight_g_idx" in parts and (parts["weight_g_idx"] != -1).any():  # −1: the columns are in their order
        groups = parts["weight_g_idx"]
        if groups.min() < 0 or groups.max() >= module.blocks[1] or (np.bincount(groups) != module.block[1]).any():
            raise module.error(f"has a weight_g_idx that does not fill {module.blocks[1]} groups of {module.block[1]}")
        found["g_idx"] = groups
    names = {"input_scale": "input_scale", "input_zero_point": "input_zero"}
    inputs = module.scheme.inputs
    if inputs is not None and rounds(inputs) and not inputs.dynamic:
        found |= {ours: parts[theirs].reshape(1) for theirs, ours in names.items() if theirs in parts}
    return found


def _zeros(stored: Array, blocks: tuple[int, int], bits: int, is_loose: bool) -> NDArray[np.int16]:
    """(rows, groups) zero points, counted from zero as codes are; packed as the codes are."""
    if stored.dtype == np.int8:
        return stored.reshape(blocks).astype(np.int16) + np.int16(2 ** (bits - 1))
    words = np.ascontiguousarray(stored.T).view(np.uint32)  # (groups, words): packed along the rows
    codes = loose_codes(words, bits, blocks[0]) if is_loose else unpacked(words, bits, blocks[0])
    return np.ascontiguousarray(codes.T).astype(np.int16)


def float8(module: Module) -> HeldTensor:
    """float-quantized, and naive-quantized floats."""
    module.folder.expect(f"{module.path}.weight", dtypes=("F8_E4M3",), shape=module.shape)
    module.expect_scales("weight_scale", FLOATS)
    codec = Float8(block=module.block, in_features=module.shape[1])
    return module.held(
        codec,
        lambda parts: {
            "codes": parts["weight"].view(np.uint8),
            "scales": parts["weight_scale"].reshape(module.blocks),
        },
    )


def microscaled(module: Module) -> HeldTensor:
    """mxfp4-pack-quantized, mxfp6-pack-quantized and mxfp8-quantized."""
    (rows, columns), bits = module.shape, module.weights.bits
    part, dtype = ("weight", "F8_E4M3") if bits == 8 else ("weight_packed", "U8")
    module.folder.expect(f"{module.path}.{part}", dtypes=(dtype,), shape=(rows, columns * bits // 8))
    module.expect_scales("weight_scale", ("U8", "F8_E8M0"))
    codec = MxFloats(bits=bits, in_features=columns)
    return module.held(
        codec, lambda parts: {"codes": parts[part].view(np.uint8), "scales": parts["weight_scale"].view(np.uint8)}
    )


def nvfp4(module: Module) -> HeldTensor:
    """nvfp4-pack-quantized."""
    rows, columns = module.shape
    module.folder.expect(f"{module.path}.weight_packed", dtypes=("U8",), shape=(rows, columns // 2))
    module.expect_scales("weight_scale", ("F8_E4M3",))
    module.expect_number("weight_global_scale", FLOATS)

    def read(parts: Mapping[str, Array]) -> Arrays:
        whole = parts["weight_global_scale"].astype(np.float32).reshape(1)
        if not whole[0] > 0:
            raise module.error(f"has a weight_global_scale of {whole[0]}, by which its scales are divided")
        scales = parts["weight_scale"].view(np.uint8)
        return {"codes": parts["weight_packed"], "scales": scales, "global_scale": whole}

    return module.held(NvFloat4(in_features=columns), read)
