"""One token times a matrix of codebooks' words, which are looked up as they are met; and lattice words, worked out.

The codes of a row follow each other, four or two to a 32-bit word: a thread loads one such word and looks up 16 bytes,
a codebook's word of eight numbers in 16 bits, for each code in it. Small codebooks stay in the cache next to the cores.

The 65,536 words of E8P (see `e8_lattice`) would not: they are worked out. One of 256 rows of sizes, as odd numbers in
fields of 3 bits, comes from a table of 1 KB; signs are bits of the code. Both make a subnormal float32 as in `matvec`.
"""

import triton
import triton.language as tl


@triton.jit
def _lattice(code, words, inputs, first, columns, there, FINER: tl.constexpr):
    """Codes (rows, vectors) uint32 of E8P and where their vectors begin (vectors,) → their products with the inputs."""
    row = tl.load(words + (code >> 8), mask=there, other=0).to(tl.uint32, bitcast=True)
    signs = (code >> 1) & 127
    odd = signs ^ (signs >> 4)
    odd = odd ^ (odd >> 2)
    odd = (odd ^ (odd >> 1) ^ (row >> 24)) & 1  # the eighth sign makes the sum even
    signs = signs | (odd << 7)
    place = tl.arange(0, 8)
    column = first[None, :, None] + place[None, None, :]
    x = tl.load(inputs + column, mask=column < columns, other=0).to(tl.float32)
    size = (row[:, :, None] >> (3 * place)[None, None, :].to(tl.uint32)) & 7
    sign = (signs[:, :, None] << (31 - place)[None, None, :].to(tl.uint32)) & 0x80000000
    number = (size | sign).to(tl.float32, bitcast=True)  # half of it, by 2^-149, is the word without its shift
    total = tl.sum(number * (x * 2.0**100), 2)
    shift = tl.where((code & 1) == 0, 0.25, -0.25)
    return (total * 281474976710656.0 + shift * tl.sum(x, 2)) * FINER  # 2^48


@triton.jit
def _columns(result, row, there, places, values, inputs, COUNT: tl.constexpr):
    """What the dense weights of some inputs add."""
    column = tl.arange(0, COUNT)
    weights = tl.load(values + row[:, None] * COUNT + column[None, :], mask=there[:, None], other=0).to(tl.float32)
    return result + tl.sum(weights * tl.load(inputs + tl.load(places + column)).to(tl.float32)[None, :], 1)


@triton.jit
def _codes_of_rows(codes, row, rows, cell, cells, stage):
    """(rows, cells) uint32 of one stage, and whether they are there."""
    there = (row < rows)[:, None] & (cell < cells)[None, :]
    at = (stage * rows + row)[:, None] * cells + cell[None, :]
    return tl.load(codes + at, mask=there, other=0).to(tl.uint32, bitcast=True), there


@triton.jit
def _along_inputs(
    codes,
    words,
    inputs,
    row,
    rows,
    columns,
    cells,
    stage,
    COUNT: tl.constexpr,
    LENGTH: tl.constexpr,
    LATTICE: tl.constexpr,
    FINER: tl.constexpr,
    ROWS: tl.constexpr,
    CELLS: tl.constexpr,
    CODES: tl.constexpr,
):
    """(ROWS,) sums of one stage; `CODES` of them are in a 32-bit word, `COUNT` words in the codebook."""
    total, place = tl.zeros([ROWS, CELLS], tl.float32), tl.arange(0, LENGTH)
    for start in range(0, cells, CELLS):
        cell = start + tl.arange(0, CELLS)
        held, there = _codes_of_rows(codes, row, rows, cell, cells, stage)
        for each in tl.static_range(CODES):
            code = (held >> (32 // CODES * each)) & (2 ** (32 // CODES) - 1)
            first = (cell * CODES + each) * LENGTH
            if LATTICE:
                total += _lattice(code, words, inputs, first, columns, there, FINER)
            else:
                at = (stage * COUNT + code.to(tl.int32)) * LENGTH
                word = tl.load(words + at[:, :, None] + place[None, None, :], mask=there[:, :, None], other=0)
                column = first[:, None] + place[None, :]
                x = tl.load(inputs + column, mask=column < columns, other=0).to(tl.float32)
                total += tl.sum(word.to(tl.float32) * x[None, :, :], 2)
    return tl.sum(total, 1)


@triton.jit
def along_inputs(
    narrow,  # (NARROW, rows, narrow cells) int32: four codes each
    narrow_words,  # (NARROW, 256, LENGTH)
    wide,  # (WIDE, rows, wide cells) int32: two codes each
    wide_words,  # (WIDE, COUNT, LENGTH); of a lattice (256,) int32 sizes
    scales,  # (rows,) float32
    places,  # (COLUMNS,) int32 inputs with dense weights
    values,  # (rows, COLUMNS)
    inputs,  # (columns,)
    out,  # (rows,)
    rows,
    columns,
    narrow_cells,
    wide_cells,
    NARROW: tl.constexpr,
    WIDE: tl.constexpr,
    NARROW_COUNT: tl.constexpr,
    WIDE_COUNT: tl.constexpr,
    LENGTH: tl.constexpr,
    LATTICE: tl.constexpr,
    FINER: tl.constexpr,  # what the second stage of a lattice is multiplied by
    COLUMNS: tl.constexpr,
    ROWS: tl.constexpr,
    CELLS: tl.constexpr,
):
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    result = tl.zeros([ROWS], tl.float32)
    for stage in tl.static_range(WIDE):
        result += _along_inputs(
            wide, wide_words, inputs, row, rows, columns, wide_cells, stage,
            WIDE_COUNT, LENGTH, LATTICE, FINER if stage == 1 else 1.0, ROWS, CELLS, 2,
        )  # fmt: skip
    for stage in tl.static_range(NARROW):
        result += _along_inputs(
            narrow, narrow_words, inputs, row, rows, columns, narrow_cells, stage,
            NARROW_COUNT, LENGTH, False, 1.0, ROWS, CELLS, 4,
        )  # fmt: skip
    result *= tl.load(scales + row, mask=row < rows, other=0)
    if COLUMNS > 0:
        result = _columns(result, row, row < rows, places, values, inputs, COLUMNS)
    tl.store(out + row, result.to(out.dtype.element_ty), mask=row < rows)


@triton.jit
def _along_outputs(
    codes,
    words,
    inputs,
    block,
    blocks,
    columns,
    cells,
    stage,
    COUNT: tl.constexpr,
    LENGTH: tl.constexpr,
    BLOCKS: tl.constexpr,
    CELLS: tl.constexpr,
    CODES: tl.constexpr,
):
    """(BLOCKS, LENGTH) sums of one stage."""
    total, place = tl.zeros([BLOCKS, CELLS, LENGTH], tl.float32), tl.arange(0, LENGTH)
    for start in range(0, cells, CELLS):
        cell = start + tl.arange(0, CELLS)
        held, there = _codes_of_rows(codes, block, blocks, cell, cells, stage)
        for each in tl.static_range(CODES):
            code = (held >> (32 // CODES * each)) & (2 ** (32 // CODES) - 1)
            at = (stage * COUNT + code.to(tl.int32)) * LENGTH
            word = tl.load(words + at[:, :, None] + place[None, None, :], mask=there[:, :, None], other=0)
            column = cell * CODES + each
            x = tl.load(inputs + column, mask=column < columns, other=0).to(tl.float32)
            total += word.to(tl.float32) * x[None, :, None]
    return tl.sum(total, 1)


@triton.jit
def along_outputs(
    narrow,  # (NARROW, blocks, narrow cells) int32, as above
    narrow_words,
    wide,
    wide_words,
    scales,  # (rows,) float32
    places,
    values,
    inputs,
    out,
    blocks,  # vectors along the outputs
    rows,
    columns,
    narrow_cells,
    wide_cells,
    NARROW: tl.constexpr,
    WIDE: tl.constexpr,
    NARROW_COUNT: tl.constexpr,
    WIDE_COUNT: tl.constexpr,
    LENGTH: tl.constexpr,
    COLUMNS: tl.constexpr,
    BLOCKS: tl.constexpr,
    CELLS: tl.constexpr,
):
    block = tl.program_id(0) * BLOCKS + tl.arange(0, BLOCKS)
    sums = tl.zeros([BLOCKS, LENGTH], tl.float32)
    for stage in tl.static_range(WIDE):
        sums += _along_outputs(
            wide, wide_words, inputs, block, blocks, columns, wide_cells, stage,
            WIDE_COUNT, LENGTH, BLOCKS, CELLS, 2,
        )  # fmt: skip
    for stage in tl.static_range(NARROW):
        sums += _along_outputs(
            narrow, narrow_words, inputs, block, blocks, columns, narrow_cells, stage,
            NARROW_COUNT, LENGTH, BLOCKS, CELLS, 4,
        )  # fmt: skip
    row = tl.program_id(0) * (BLOCKS * LENGTH) + tl.arange(0, BLOCKS * LENGTH)
    result = tl.reshape(sums, [BLOCKS * LENGTH]) * tl.load(scales + row, mask=row < rows, other=0)
    if COLUMNS > 0:
        result = _columns(result, row, row < rows, places, values, inputs, COLUMNS)
    tl.store(out + row, result.to(out.dtype.element_ty), mask=row < rows)
