"""One token times a matrix of codes: two instructions a weight, so that reading the codes is what takes time.

A program has a few rows and all of their columns; each of its threads takes stripes (see `striped_words`) of every row
and one value of the inputs for all rows. Nothing is added up by atomics: the same inputs give the same sums.

How a code becomes a number without a conversion: a float32 whose upper nine bits are zero is a subnormal number, the
value of its lower 23 bits times 2^-149. Masked out where they lie, codes are such numbers already; a product with an
input that was multiplied by 2^100 is exact and lies in the normal range again, and where in the word the code lay is a
power of two that its input takes back. CUDA's multiply-add takes subnormal numbers at full speed. The numbers of E2M1
and E4M3 work the same way: sign, exponent and fraction are moved to where a float32 has them, and what is missing to
the other bias of the exponent is a power of two. Inputs have to be below 2^27 in size.
"""

import triton
import triton.language as tl

CODE, E2M1, E4M3 = 0, 1, 2  # what a code stands for: itself, or a number of a microscaling format
PLAIN, E8M0_SCALE, E4M3_SCALE = 0, 1, 2  # how scales are stored


@triton.jit
def scale_of(stored, SCALES: tl.constexpr):
    """Scales as they are loaded → float32."""
    if SCALES == 1:
        bits = stored.to(tl.uint32)
        value = tl.where(bits == 0, 0x00400000, bits << 23).to(tl.float32, bitcast=True)
    elif SCALES == 2:
        bits = stored.to(tl.uint32)
        tiny = ((bits & 0x7F) << 20 | (bits & 0x80) << 24).to(tl.float32, bitcast=True)
        value = tiny * 1.329227995784916e36  # 2^120
    else:
        value = stored.to(tl.float32)
    return value


@triton.jit
def _tiny(word, last, AT: tl.constexpr, BITS: tl.constexpr, FIRST: tl.constexpr, NUMBER: tl.constexpr):
    """Code `AT` of a word as a float32 near zero; `last` holds the high bits of the two odd codes of 3 bits."""
    if NUMBER == 1:  # E2M1: the sign to bit 31, the others to bits 22 to 24
        if AT <= 5:
            moved = word << (22 - 4 * AT)
        else:
            moved = word >> (4 * AT - 22)
        bits = ((word << (28 - 4 * AT)) & 0x80000000) | (moved & 0x01C00000)
    elif NUMBER == 2:  # E4M3: the sign to bit 31, the others to bits 20 to 26
        if AT <= 2:
            moved = word << (20 - 8 * AT)
        else:
            moved = word >> (8 * AT - 20)
        bits = ((word << (24 - 8 * AT)) & 0x80000000) | (moved & 0x07F00000)
    elif AT >= 10 and BITS == 3:  # on top of the word
        bits = (word >> 30) | ((last >> (18 + AT)) & 4)
    elif AT < FIRST:
        bits = word & ((2**BITS - 1) << (BITS * AT))
    else:
        bits = (word >> (BITS * FIRST)) & ((2**BITS - 1) << (BITS * (AT - FIRST)))
    return bits.to(tl.float32, bitcast=True)


@triton.jit
def _term(
    words, x, CODE: tl.constexpr, IN_WORD: tl.constexpr, WORDS: tl.constexpr, BITS: tl.constexpr, NUMBER: tl.constexpr
):
    """The inputs x (stripes, 4) times code `CODE` of every unit, (rows, stripes, 4), by 2^-49 of a plain code."""
    TOP: tl.constexpr = CODE >= IN_WORD * WORDS  # codes 30 and 31 of 3 bits lie on top of words 0 and 1
    INDEX: tl.constexpr = CODE - IN_WORD * WORDS if TOP else CODE // IN_WORD
    AT: tl.constexpr = CODE - 2 * IN_WORD if TOP else CODE % IN_WORD
    FIRST: tl.constexpr = 23 // BITS  # codes that lie within a float32's fraction
    LIFTED: tl.constexpr = 0 if NUMBER != 0 or TOP else BITS * (AT if AT < FIRST else AT - FIRST)
    return _tiny(words[INDEX], words[2], AT, BITS, FIRST, NUMBER) * (x * (2.0 ** (100 - LIFTED)))[None, :, :]


@triton.jit
def _units(words, row, there, stripe, stripes, WORDS: tl.constexpr):
    """The words of four units a stripe: three of (rows, stripes, 4) uint32, which are all the same one where units have
    one word.
    """
    at = ((row[:, None] * (WORDS * stripes) + stripe[None, :]) * 4)[:, :, None] + tl.arange(0, 4)[None, None, :]
    first = tl.load(words + at, mask=there[:, :, None], other=0).to(tl.uint32, bitcast=True)
    if WORDS == 1:
        return first, first, first
    second = tl.load(words + at + stripes * 4, mask=there[:, :, None], other=0).to(tl.uint32, bitcast=True)
    third = tl.load(words + at + stripes * 8, mask=there[:, :, None], other=0).to(tl.uint32, bitcast=True)
    return first, second, third


@triton.jit
def _scaled(dot, sums, scales, biases, at, there, NUMBER: tl.constexpr, SCALES: tl.constexpr, CENTER: tl.constexpr):
    """Sums of tiny numbers times inputs, (rows, stripes), and those of the inputs (stripes,) → what a group adds."""
    scale = scale_of(tl.load(scales + at, mask=there, other=0), SCALES)
    if NUMBER == 1:
        result = dot * 67108864.0 * scale  # 2^26, what is left of 2^126
    elif NUMBER == 2:
        result = dot * 1048576.0 * scale  # 2^20, what is left of 2^120
    elif CENTER >= 0:
        result = (dot * 562949953421312.0 - sums[None, :] * CENTER) * scale  # 2^49, what is left of 2^149
    else:
        bias = tl.load(biases + at, mask=there, other=0).to(tl.float32)
        result = dot * 562949953421312.0 * scale + sums[None, :] * bias
    return result


@triton.jit
def _of_single_weights(starts, places, values, inputs, row, rows, ROWS: tl.constexpr):
    """What single weights add to the rows (ROWS,) of this program."""
    result = tl.zeros([ROWS], tl.float32)
    first = tl.program_id(0) * ROWS
    begin, end = tl.load(starts + first), tl.load(starts + tl.minimum(first + ROWS, rows))
    for single in range(begin, end):
        row_begin = tl.load(starts + row, mask=row < rows, other=0)
        row_end = tl.load(starts + row + 1, mask=row < rows, other=0)
        term = tl.load(values + single) * tl.load(inputs + tl.load(places + single)).to(tl.float32)
        result += tl.where((single >= row_begin) & (single < row_end), term, 0.0)
    return result


@triton.jit
def matvec(
    words,  # (rows, WORDS, 4 × stripes) int32
    scales,  # (rows, groups), like biases
    biases,
    factor,  # (1,) float32
    inputs,  # (columns,)
    out,  # (rows,)
    starts,  # (rows + 1,) int32: where each row's single weights begin
    places,  # their columns, int32
    values,  # and they, float32
    projected,  # (RANK,) float32: right · inputs
    left,  # (rows, RANK)
    rows,
    columns,
    stripes,
    groups,
    BITS: tl.constexpr,
    NUMBER: tl.constexpr,
    CODES: tl.constexpr,  # of a unit, as words
    IN_WORD: tl.constexpr,
    WORDS: tl.constexpr,
    SPLIT: tl.constexpr,  # groups of a stripe, where it has more than one
    SHARE: tl.constexpr,  # stripes of a group, where it has more than one
    SCALES: tl.constexpr,
    CENTER: tl.constexpr,  # what a code counts from; −1: biases are read
    FACTOR: tl.constexpr,
    SPARSE: tl.constexpr,
    RANK: tl.constexpr,
    ROWS: tl.constexpr,  # of a program
    STRIPES: tl.constexpr,  # at a time
):
    row, unit = tl.program_id(0) * ROWS + tl.arange(0, ROWS), tl.arange(0, 4)
    total = tl.zeros([ROWS, STRIPES], tl.float32)
    for start in range(0, stripes, STRIPES):
        stripe = start + tl.arange(0, STRIPES)
        there = (row < rows)[:, None] & (stripe < stripes)[None, :]
        held = _units(words, row, there, stripe, stripes, WORDS)
        for part in tl.static_range(SPLIT):
            dot, sums = tl.zeros([ROWS, STRIPES, 4], tl.float32), tl.zeros([STRIPES, 4], tl.float32)
            for each in tl.static_range(CODES // SPLIT):
                column = stripe[:, None] * (4 * CODES) + (part * (CODES // SPLIT) + each) * 4 + unit[None, :]
                x = tl.load(inputs + column, mask=column < columns, other=0).to(tl.float32)
                sums += x
                dot += _term(held, x, part * (CODES // SPLIT) + each, IN_WORD, WORDS, BITS, NUMBER)
            group = (stripe * SPLIT + part if SHARE == 1 else stripe // SHARE)[None, :]
            at, known = row[:, None] * groups + group, there & (group < groups)  # a row may end within a stripe
            total += _scaled(tl.sum(dot, 2), tl.sum(sums, 1), scales, biases, at, known, NUMBER, SCALES, CENTER)
    result = tl.sum(total, 1)
    if FACTOR:
        result *= tl.load(factor)
    if RANK > 0:
        rank = tl.arange(0, RANK)
        weights = tl.load(left + row[:, None] * RANK + rank[None, :], mask=(row < rows)[:, None], other=0)
        result += tl.sum(weights.to(tl.float32) * tl.load(projected + rank)[None, :], 1)
    if SPARSE:
        result += _of_single_weights(starts, places, values, inputs, row, rows, ROWS)
    tl.store(out + row, result.to(out.dtype.element_ty), mask=row < rows)


@triton.jit
def project(right, inputs, out, columns, COLUMNS: tl.constexpr):
    """Row `program` of (rank, columns) times the inputs (columns,) → out (rank,) float32."""
    row = tl.program_id(0)
    total = tl.zeros([COLUMNS], tl.float32)
    for start in range(0, columns, COLUMNS):
        column = start + tl.arange(0, COLUMNS)
        there = column < columns
        weight = tl.load(right + row * columns + column, mask=there, other=0).to(tl.float32)
        total += weight * tl.load(inputs + column, mask=there, other=0).to(tl.float32)
    tl.store(out + row, tl.sum(total, 0))
