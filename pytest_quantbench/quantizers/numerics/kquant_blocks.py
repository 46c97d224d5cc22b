"""GGUF's K-quant blocks, byte for byte: 256 weights in 84 (Q2_K) to 210 (Q6_K) bytes.

A block holds 256 weights of a row in sub-blocks of 16 or 32, each with a small integer scale (and, in Q2_K, Q4_K and
Q5_K, a small integer minimum), and one or two float16 numbers that turn those integers into real ones:

    Q2_K, Q4_K, Q5_K:  weight = d · scale · code − dmin · minimum     (code from 0)
    Q3_K, Q6_K:        weight = d · scale · code                      (code from −4 or −32)

Byte orders are ggml's (ggml-common.h, ggml-quants.c); the tests compare them with the `gguf` package. Codes of fewer
than 8 bits always lie in planes: byte i of a run of 16 to 64 bytes holds code i, i + run, i + 2·run, … of its stretch.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

BLOCK = 256
Bytes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """One K-quant type: how many weights share a scale, what its integers can be, and which fields lie where."""

    name: str
    sub: int  # weights in a sub-block
    offset: int  # what is subtracted from a stored code
    bottom: int  # smallest integer scale
    top: int  # largest integer scale and minimum
    minimums: bool
    fields: tuple[tuple[str, int], ...]  # field and its bytes, in order

    @property
    def size(self) -> int:
        """Bytes of a block."""
        return sum(length for _, length in self.fields)


def _layout(name: str, sub: int, offset: int, bottom: int, top: int, minimums: bool, **fields: int) -> Layout:
    return Layout(
        name=name, sub=sub, offset=offset, bottom=bottom, top=top, minimums=minimums, fields=tuple(fields.items())
    )


LAYOUTS: Mapping[int, Layout] = MappingProxyType(
    {
        2: _layout("Q2_K", 16, 0, 0, 15, True, scales=16, codes=64, d=2, dmin=2),
        3: _layout("Q3_K", 16, 4, -32, 31, False, high=32, codes=64, scales=12, d=2),
        4: _layout("Q4_K", 32, 0, 0, 63, True, d=2, dmin=2, scales=12, codes=128),
        5: _layout("Q5_K", 32, 0, 0, 63, True, d=2, dmin=2, scales=12, high=32, codes=128),
        6: _layout("Q6_K", 16, 32, -128, 127, False, codes=128, high=64, scales=16, d=2),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocks:
    """The unpacked content of some blocks; `minimums` and `dmin` are zero where the type has none."""

    codes: Bytes  # (blocks, 256), stored form: the offset is not subtracted
    scales: NDArray[np.int16]  # (blocks, sub-blocks)
    minimums: NDArray[np.int16]  # (blocks, sub-blocks)
    d: NDArray[np.float16]  # (blocks,)
    dmin: NDArray[np.float16]  # (blocks,)


def pack(blocks: Blocks, bits: int) -> Bytes:
    """Blocks → (blocks, bytes of a block)."""
    parts = {
        "d": blocks.d.astype("<f2").view(np.uint8).reshape(-1, 2),
        "dmin": blocks.dmin.astype("<f2").view(np.uint8).reshape(-1, 2),
        "scales": _pack_scales(blocks, bits),
        **_pack_codes(blocks.codes, bits),
    }
    return np.concatenate([parts[name] for name, _ in LAYOUTS[bits].fields], axis=1)


def unpack(packed: Bytes, bits: int) -> Blocks:
    """(blocks, bytes of a block) → Blocks. The inverse of `pack`."""
    fields = LAYOUTS[bits].fields
    ends = np.cumsum([length for _, length in fields])[:-1]
    parts = dict(zip((name for name, _ in fields), np.split(packed, ends, axis=1), strict=True))
    d = _half(parts["d"])
    scales, minimums = _unpack_scales(parts["scales"], bits)
    codes = _unpack_codes(parts, bits)
    dmin = _half(parts["dmin"]) if "dmin" in parts else np.zeros_like(d)
    return Blocks(codes=codes, scales=scales, minimums=minimums, d=d, dmin=dmin)


def dequantize(packed: Bytes, bits: int) -> NDArray[np.float32]:
    """(blocks, bytes of a block) → (blocks, 256) weights, each product and difference rounded to float32 as in ggml."""
    blocks, layout = unpack(packed, bits), LAYOUTS[bits]
    scales, minimums = multipliers(blocks)
    weights = blocks.codes.reshape(*scales.shape, layout.sub).astype(np.float32)
    if layout.offset:
        weights -= np.float32(layout.offset)
    weights *= scales[:, :, None]
    if layout.minimums:
        weights -= minimums[:, :, None]
    return weights.reshape(-1, BLOCK)


def multipliers(blocks: Blocks) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """What codes are multiplied with, and what is subtracted then: (blocks, sub-blocks) float32 each."""
    scales = blocks.d.astype(np.float32)[:, None] * blocks.scales.astype(np.float32)
    return scales, blocks.dmin.astype(np.float32)[:, None] * blocks.minimums.astype(np.float32)


def _half(field: Bytes) -> NDArray[np.float16]:
    return np.ascontiguousarray(field).view("<f2")[:, 0].astype(np.float16)


def _fold(codes: Bytes, width: int, run: int) -> Bytes:
    """(blocks, n) codes of `width` bits → (blocks, n × width / 8): each byte takes codes that lie `run` apart."""
    planes = codes.reshape(len(codes), -1, 8 // width, run)
    folded = planes[:, :, 0].copy()
    for place in range(1, 8 // width):
        folded |= planes[:, :, place] << np.uint8(width * place)
    return folded.reshape(len(codes), -1)


def _unfold(folded: Bytes, width: int, run: int) -> Bytes:
    """The inverse of `_fold`."""
    planes = folded.reshape(len(folded), -1, 1, run)
    shifts = np.arange(0, 8, width, dtype=np.uint8)[:, None]
    return (planes >> shifts & np.uint8(2**width - 1)).reshape(len(folded), -1)


# (bits, run) of the low plane and of the high plane of the codes
_PLANES = {2: ((2, 32), None), 3: ((2, 32), (1, 32)), 4: ((4, 32), None), 5: ((4, 32), (1, 32)), 6: ((4, 64), (2, 32))}


def _pack_codes(codes: Bytes, bits: int) -> dict[str, Bytes]:
    (width, run), high = _PLANES[bits]
    parts = {"codes": _fold(codes & np.uint8(2**width - 1), width, run)}
    return parts if high is None else {**parts, "high": _fold(codes >> np.uint8(width), *high)}


def _unpack_codes(parts: Mapping[str, Bytes], bits: int) -> Bytes:
    (width, run), high = _PLANES[bits]
    codes = _unfold(parts["codes"], width, run)
    if high is not None:
        codes |= _unfold(parts["high"], *high) << np.uint8(width)
    return codes


def _pack_scales(blocks: Blocks, bits: int) -> Bytes:
    """Q2_K: two nibbles. Q3_K: low nibbles, then the high pairs. Q4_K, Q5_K: see below. Q6_K: signed bytes."""
    if bits == 6:
        return blocks.scales.astype(np.int8).view(np.uint8)
    if bits == 3:
        stored = (blocks.scales + 32).astype(np.uint8)
        return np.concatenate([_fold(stored & np.uint8(15), 4, 8), _fold(stored >> np.uint8(4), 2, 4)], axis=1)
    scales, minimums = blocks.scales.astype(np.uint8), blocks.minimums.astype(np.uint8)
    if bits == 2:
        return scales | minimums << np.uint8(4)
    # the first four scales and minimums whole, with the high pairs of the other four above them; then their nibbles
    high, low = [(v[:, :4] | v[:, 4:] >> np.uint8(4) << np.uint8(6)) for v in (scales, minimums)], np.uint8(15)
    return np.concatenate([*high, scales[:, 4:] & low | (minimums[:, 4:] & low) << np.uint8(4)], axis=1)


def _unpack_scales(packed: Bytes, bits: int) -> tuple[NDArray[np.int16], NDArray[np.int16]]:
    minimums = np.zeros((len(packed), 16), np.uint8)
    if bits == 6:
        return packed.view(np.int8).astype(np.int16), minimums.astype(np.int16)
    if bits == 3:
        scales = _unfold(packed[:, :8], 4, 8) | _unfold(packed[:, 8:], 2, 4) << np.uint8(4)
        return scales.astype(np.int16) - np.int16(32), minimums.astype(np.int16)
    if bits == 2:
        scales, minimums = packed & np.uint8(15), packed >> np.uint8(4)
    else:
        first, nibbles = packed[:, :8].reshape(-1, 2, 4), packed[:, 8:]
        low = np.stack([nibbles & np.uint8(15), nibbles >> np.uint8(4)], axis=1)
        both = np.concatenate([first & np.uint8(63), low | first >> np.uint8(6) << np.uint8(4)], axis=2)
        scales, minimums = both[:, 0], both[:, 1]
    return scales.astype(np.int16), minimums.astype(np.int16)
