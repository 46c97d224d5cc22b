"""One token times a matrix of small codebooks' words, by tables: what each word makes of each vector of inputs.

All rows of a matrix meet the same vectors of inputs, and a codebook has few words: so their products, 256 for each of
32 vectors, are computed first, by the matrix units, and a code is then a place in a table in the memory next to the
cores. Codes lie in memory (stages, tiles of 32 vectors, groups of 16 rows, 32, 16): a thread reads 16 bytes, which are
one vector's codes in 16 rows, and the threads of a warp have the 32 vectors: their columns of the table lie in 32
different banks, so that no look-up waits for another. A matrix is split along its inputs, too; a second kernel adds up
the parts.
"""

import triton
import triton.language as tl


@triton.jit
def table_matvec(
    codes,  # (STAGES, tiles, groups, 32, 16) uint8
    words,  # (STAGES, COUNT, LENGTH)
    inputs,  # (columns,)
    parts,  # (splits, rows) float32
    rows,
    columns,
    tiles,
    groups,
    tiles_of_part,
    STAGES: tl.constexpr,
    COUNT: tl.constexpr,
    LENGTH: tl.constexpr,
    DEPTH: tl.constexpr,  # of the product for the table: LENGTH filled up to what matrix units take
    ROWS: tl.constexpr,
):
    vector, place, word = tl.arange(0, 32), tl.arange(0, DEPTH), tl.arange(0, COUNT)
    group, of_group = tl.program_id(0) * (ROWS // 16) + tl.arange(0, ROWS // 16), tl.arange(0, 16)
    total = tl.zeros([ROWS // 16, 32, 16], tl.float32)
    begin = tl.program_id(1) * tiles_of_part
    for tile in range(begin, tl.minimum(begin + tiles_of_part, tiles)):
        column = (tile * 32 + vector)[None, :] * LENGTH + place[:, None]
        there = (place < LENGTH)[:, None] & (column < columns)
        x = tl.load(inputs + column, mask=there, other=0).to(tl.float32)  # (DEPTH, 32)
        for stage in tl.static_range(STAGES):
            at = (stage * COUNT + word)[:, None] * LENGTH + place[None, :]
            held = tl.load(words + at, mask=(place < LENGTH)[None, :], other=0).to(tl.float32)
            table = tl.dot(held, x, input_precision="tf32")  # (COUNT, 32): words and inputs of 16 bits are exact
            at = (((stage * tiles + tile) * groups + group)[:, None] * 32 + vector[None, :]) * 16
            at = at[:, :, None] + of_group[None, None, :]
            code = tl.load(codes + at, mask=(group < groups)[:, None, None], other=0).to(tl.int32)
            # Gathered in one dimension, a table lies in shared memory; in two, warps would pass it around by shuffles.
            found = tl.gather(
                tl.reshape(table, [COUNT * 32]), tl.reshape(code * 32 + vector[None, :, None], [ROWS * 32]), 0
            )
            total += tl.reshape(found, [ROWS // 16, 32, 16])
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    tl.store(parts + tl.program_id(1) * rows + row, tl.reshape(tl.sum(total, 1), [ROWS]), mask=row < rows)


@triton.jit
def sum_parts(
    parts,  # (splits, rows) float32
    scales,  # (rows,) float32
    places,  # (COLUMNS,) int32 inputs with dense weights
    values,  # (rows, COLUMNS)
    inputs,
    out,  # (rows,)
    rows,
    splits,
    COLUMNS: tl.constexpr,
    ROWS: tl.constexpr,
):
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    result = tl.zeros([ROWS], tl.float32)
    for split in range(splits):
        result += tl.load(parts + split * rows + row, mask=row < rows, other=0)
    result *= tl.load(scales + row, mask=row < rows, other=0)
    if COLUMNS > 0:
        column = tl.arange(0, COLUMNS)
        weights = tl.load(values + row[:, None] * COLUMNS + column[None, :], mask=(row < rows)[:, None], other=0)
        x = tl.load(inputs + tl.load(places + column)).to(tl.float32)
        result += tl.sum(weights.to(tl.float32) * x[None, :], 1)
    tl.store(out + row, result.to(out.dtype.element_ty), mask=row < rows)
