"""One token times a matrix of codes, in Triton: two instructions a weight, so that reading the codes is what takes time.

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
def _term(word0, word1, word2, x, CODE: tl.constexpr, IN_WORD: tl.constexpr, WORDS: tl.constexpr, BITS: tl.constexpr, NUMBER: tl.constexpr):
    """The inputs x (stripes, 4) times code `CODE` of every unit (rows, stripes, 4), by 2^-49 of a plain code."""
    TOP: tl.constexpr = CODE >= IN_WORD * WORDS  # codes 30 and 31 of 3 bits lie on top of words 0 and 1
    INDEX: tl.constexpr = CODE - IN_WORD * WORDS if TOP else CODE // IN_WORD
    AT: tl.constexpr = CODE - 2 * IN_WORD if TOP else CODE % IN_WORD
    FIRST: tl.constexpr = 23 // BITS  # codes that lie within a float32's fraction
    LIFTED: tl.constexpr = 0 if NUMBER != 0 or TOP else BITS * (AT if AT < FIRST else AT - FIRST)
    if INDEX == 0:
        word = word0
    elif INDEX == 1:
        word = word1
    else:
        word = word2
    return _tiny(word, word2, AT, BITS, FIRST, NUMBER) * (x * (2.0 ** (100 - LIFTED)))[None, :, :]


@triton.jit
def matvec(
    words,  # (rows, WORDS, 4 × stripes) int32
    scales,  # (rows, groups)
    biases,  # the same
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
    CODES: tl.constexpr,  # of a unit
    IN_WORD: tl.constexpr,
    WORDS: tl.constexpr,  # of a unit
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
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    unit = tl.arange(0, 4)
    row_there = row < rows
    total = tl.zeros([ROWS, STRIPES], tl.float32)
    for start in range(0, stripes, STRIPES):
        stripe = start + tl.arange(0, STRIPES)
        there = row_there[:, None] & (stripe < stripes)[None, :]
        first = (row[:, None] * (WORDS * stripes) + stripe[None, :]) * 4
        at = first[:, :, None] + unit[None, None, :]
        word0 = tl.load(words + at, mask=there[:, :, None], other=0).to(tl.uint32, bitcast=True)
        word1, word2 = word0, word0
        if WORDS == 3:
            word1 = tl.load(words + at + stripes * 4, mask=there[:, :, None], other=0).to(tl.uint32, bitcast=True)
            word2 = tl.load(words + at + stripes * 8, mask=there[:, :, None], other=0).to(tl.uint32, bitcast=True)
        for part in tl.static_range(SPLIT):
            product = tl.zeros([ROWS, STRIPES, 4], tl.float32)
            sums = tl.zeros([STRIPES, 4], tl.float32)
            for each in tl.static_range(CODES // SPLIT):
                column = stripe[:, None] * (4 * CODES) + (part * (CODES // SPLIT) + each) * 4 + unit[None, :]
                x = tl.load(inputs + column, mask=column < columns, other=0).to(tl.float32)
                sums += x
                product += _term(
                    word0, word1, word2, x, part * (CODES // SPLIT) + each, IN_WORD, WORDS, BITS, NUMBER
                )
            group = stripe * SPLIT + part if SHARE == 1 else stripe // SHARE
            scale = scale_of(tl.load(scales + row[:, None] * groups + group[None, :], mask=there, other=0), SCALES)
            if NUMBER == 0:
                dot = tl.sum(product, 2) * 562949953421312.0  # 2^49, what is left of 2^149
                if CENTER >= 0:
                    total += (dot - tl.sum(sums, 1)[None, :] * CENTER) * scale
                else:
                    bias = tl.load(biases + row[:, None] * groups + group[None, :], mask=there, other=0)
                    total += dot * scale + tl.sum(sums, 1)[None, :] * bias.to(tl.float32)
            elif NUMBER == 1:
                total += tl.sum(product, 2) * 67108864.0 * scale  # 2^26, what is left of 2^126
            else:
                total += tl.sum(product, 2) * 1048576.0 * scale  # 2^20, what is left of 2^120
    result = tl.sum(total, 1)
    if FACTOR:
        result *= tl.load(factor)
    if RANK > 0:
        ranks = tl.arange(0, RANK)
        weights = tl.load(left + row[:, None] * RANK + ranks[None, :], mask=row_there[:, None], other=0)
        result += tl.sum(weights.to(tl.float32) * tl.load(projected + ranks)[None, :], 1)
    if SPARSE:
        begin = tl.load(starts + tl.program_id(0) * ROWS)
        end = tl.load(starts + tl.minimum(tl.program_id(0) * ROWS + ROWS, rows))
        for single in range(begin, end):
            row_begin = tl.load(starts + row, mask=row_there, other=0)
            row_end = tl.load(starts + row + 1, mask=row_there, other=0)
            mine = (single >= row_begin) & (single < row_end)
            weight = tl.load(values + single) * tl.load(inputs + tl.load(places + single)).to(tl.float32)
            result += tl.where(mine, weight, 0.0)
    tl.store(out + row, result.to(out.dtype.element_ty), mask=row_there)


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
