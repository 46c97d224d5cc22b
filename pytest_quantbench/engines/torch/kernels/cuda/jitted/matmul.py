"""Several tokens times a matrix of codes: tiles are decoded where the matrix units read them.

Codes, and the numbers of E2M1 and E4M3, are exact in bfloat16 and float16, so they go into the product as they are; its
sums, in float32, are multiplied by the scales group by group. What comes out is the product of the decoded float32
matrix, not of one that was rounded to bfloat16 first. That is why prompts run by this kernel, too, and not by a matrix
that is decoded once for PyTorch's own product: such a matrix would have to be rounded, and written to memory.
"""

import triton
import triton.language as tl

from pytest_quantbench.engines.torch.kernels.cuda.jitted.matvec import scale_of


@triton.jit
def _number(code, NUMBER: tl.constexpr):
    """Codes (uint32) → what they stand for, in float32: exact in 16 bits."""
    if NUMBER == 1:
        bits = ((code & 8) << 28) | ((code & 7) << 22)
        value = bits.to(tl.float32, bitcast=True) * 8.507059173023462e37  # 2^126
    elif NUMBER == 2:
        bits = ((code & 0x80) << 24) | ((code & 0x7F) << 20)
        value = bits.to(tl.float32, bitcast=True) * 1.329227995784916e36  # 2^120
    else:
        value = code.to(tl.float32)
    return value


@triton.jit
def _codes(
    words,
    row,
    there,
    column,
    stripes,
    BITS: tl.constexpr,
    CODES: tl.constexpr,
    IN_WORD: tl.constexpr,
    WORDS: tl.constexpr,
):
    """Those of four columns in a row each: (rows, columns / 4, 4) uint32, where `column` are the first of the four."""
    unit = tl.arange(0, 4)
    stripe, code = column // (4 * CODES), column // 4 % CODES
    on_top = code >= IN_WORD * WORDS  # codes 30 and 31 of 3 bits
    index = tl.where(on_top, code - IN_WORD * WORDS, code // IN_WORD)
    shift = tl.where(on_top, IN_WORD * BITS, code % IN_WORD * BITS).to(tl.uint32)
    first = row[:, None] * (WORDS * stripes * 4) + stripe[None, :] * 4
    at = (first + index[None, :] * (stripes * 4))[:, :, None] + unit[None, None, :]
    word = tl.load(words + at, mask=there[:, :, None], other=0).to(tl.uint32, bitcast=True)
    codes = (word >> shift[None, :, None]) & (2**BITS - 1)
    if BITS == 3:
        there = there & on_top[None, :]
        at = (first + 2 * stripes * 4)[:, :, None] + unit[None, None, :]
        last = tl.load(words + at, mask=there[:, :, None], other=0).to(tl.uint32, bitcast=True)
        shift = tl.where(on_top, code - 2, 0).to(tl.uint32)  # bits 30 and 31 become bit 2
        codes = codes | ((last >> shift[None, :, None]) & 4)
    return codes


@triton.jit
def _of_single_weights(
    starts, places, values, inputs, row, rows, token, tokens, columns, ROWS: tl.constexpr, TOKENS: tl.constexpr
):
    """What single weights add to this tile (ROWS, TOKENS)."""
    result = tl.zeros([ROWS, TOKENS], tl.float32)
    first = tl.program_id(0) * ROWS
    begin, end = tl.load(starts + first), tl.load(starts + tl.minimum(first + ROWS, rows))
    for single in range(begin, end):
        row_begin = tl.load(starts + row, mask=row < rows, other=0)
        row_end = tl.load(starts + row + 1, mask=row < rows, other=0)
        weight = tl.where((single >= row_begin) & (single < row_end), tl.load(values + single), 0.0)
        x = tl.load(inputs + token * columns + tl.load(places + single), mask=token < tokens, other=0)
        result += weight[:, None] * x.to(tl.float32)[None, :]
    return result


@triton.jit
def matmul(
    words,  # (rows, WORDS, 4 × stripes) int32
    scales,  # (rows, groups), like biases
    biases,
    factor,  # (1,) float32
    starts,  # (rows + 1,) int32: where each row's single weights begin
    places,  # their columns, int32
    values,  # and they, float32
    inputs,  # (tokens, columns)
    out,  # (tokens, rows)
    tokens,
    rows,
    columns,
    stripes,
    groups,
    group,  # columns of a group
    BITS: tl.constexpr,
    NUMBER: tl.constexpr,
    CODES: tl.constexpr,  # of a unit, as words
    IN_WORD: tl.constexpr,
    WORDS: tl.constexpr,
    SCALES: tl.constexpr,
    CENTER: tl.constexpr,  # what a code counts from; −1: biases are read
    FACTOR: tl.constexpr,
    SPARSE: tl.constexpr,
    OPERANDS: tl.constexpr,  # their type in the product
    ROWS: tl.constexpr,  # of a tile
    COLUMNS: tl.constexpr,  # of a tile: they lie in one group
    TOKENS: tl.constexpr,  # of a tile
):
    row, token = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)), (tl.program_id(1) * TOKENS + tl.arange(0, TOKENS))
    total = tl.zeros([ROWS, TOKENS], tl.float32)
    for start in range(0, columns, COLUMNS):
        column, across = start + tl.arange(0, COLUMNS // 4) * 4, start + tl.arange(0, COLUMNS)
        there = (row < rows)[:, None] & (column < columns)[None, :]
        codes = _codes(words, row, there, column, stripes, BITS, CODES, IN_WORD, WORDS)
        numbers = tl.reshape(_number(codes, NUMBER).to(OPERANDS), [ROWS, COLUMNS])
        there = (across < columns)[:, None] & (token < tokens)[None, :]
        x = tl.load(inputs + token[None, :] * columns + across[:, None], mask=there, other=0)
        dot = tl.dot(numbers, x.to(OPERANDS))  # (ROWS, TOKENS)
        at = row * groups + start // group
        scale = scale_of(tl.load(scales + at, mask=row < rows, other=0), SCALES)
        if NUMBER != 0:
            total += dot * scale[:, None]
        elif CENTER >= 0:
            total += (dot - tl.sum(x.to(tl.float32), 0)[None, :] * CENTER) * scale[:, None]
        else:
            bias = tl.load(biases + at, mask=row < rows, other=0).to(tl.float32)
            total += dot * scale[:, None] + tl.sum(x.to(tl.float32), 0)[None, :] * bias[:, None]
    if FACTOR:
        total *= tl.load(factor)
    if SPARSE:
        total += _of_single_weights(starts, places, values, inputs, row, rows, token, tokens, columns, ROWS, TOKENS)
    at = token[None, :] * rows + row[:, None]
    tl.store(out + at, total.to(out.dtype.element_ty), mask=(row < rows)[:, None] & (token < tokens)[None, :])
