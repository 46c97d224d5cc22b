"""Several tokens times a matrix of codebooks' words: a tile of words is looked up, added up over the stages in float32,
and multiplied in the matrix units' TF32, whose 11 bits hold words and inputs of 16 bits.
"""

import triton
import triton.language as tl


@triton.jit
def _looked_up(
    codes,
    words,
    line,
    lines,
    there,
    vector,
    stage,
    book,
    size,
    COUNT: tl.constexpr,
    LENGTH: tl.constexpr,
    CODES: tl.constexpr,
):
    """Words (lines, vectors, LENGTH) float32 that codes of these vectors name. A line is a row, or a block of rows.

    Codes are in cells of 32 bits, `size` of them a line; where `CODES` is 0, in tiles as `word_tables` has them.
    """
    if CODES == 0:
        at = ((stage * size + vector // 32)[None, :] * ((lines + 15) // 16) + (line // 16)[:, None]) * 32
        code = tl.load(codes + (at + (vector % 32)[None, :]) * 16 + (line % 16)[:, None], mask=there, other=0)
    else:
        cell = (stage * lines + line)[:, None] * size + (vector // CODES)[None, :]
        held = tl.load(codes + cell, mask=there, other=0).to(tl.uint32, bitcast=True)
        shift = (vector % CODES * (32 // CODES)).to(tl.uint32)
        code = (held >> shift[None, :]) & (2 ** (32 // CODES) - 1)
    at = (book * COUNT + code.to(tl.int32)) * LENGTH
    word = tl.load(words + at[:, :, None] + tl.arange(0, LENGTH)[None, None, :], mask=there[:, :, None], other=0)
    return word.to(tl.float32)


@triton.jit
def word_matmul(
    narrow,  # codes of stages with few words, and those words
    narrow_words,
    wide,  # the same of stages with many
    wide_words,
    scales,  # (rows,) float32
    inputs,  # (tokens, columns)
    out,  # (tokens, rows)
    tokens,
    rows,
    lines,  # rows, or blocks of LENGTH rows
    columns,
    narrow_size,
    wide_size,
    NARROW: tl.constexpr,
    WIDE: tl.constexpr,
    NARROW_COUNT: tl.constexpr,
    WIDE_COUNT: tl.constexpr,
    LENGTH: tl.constexpr,
    ALONG_INPUTS: tl.constexpr,
    NARROW_CODES: tl.constexpr,  # in a cell
    LATTICE: tl.constexpr,  # both wide stages have the same words
    FINER: tl.constexpr,  # what the second of them is multiplied by
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    TOKENS: tl.constexpr,
):
    LINES: tl.constexpr = ROWS if ALONG_INPUTS else ROWS // LENGTH
    VECTORS: tl.constexpr = COLUMNS // LENGTH if ALONG_INPUTS else COLUMNS
    line, token = tl.program_id(0) * LINES + tl.arange(0, LINES), tl.program_id(1) * TOKENS + tl.arange(0, TOKENS)
    total = tl.zeros([ROWS, TOKENS], tl.float32)
    for start in range(0, columns, COLUMNS):
        vector = start // COLUMNS * VECTORS + tl.arange(0, VECTORS)
        there = (line < lines)[:, None] & (vector * (COLUMNS // VECTORS) < columns)[None, :]
        sums = tl.zeros([LINES, VECTORS, LENGTH], tl.float32)
        for stage in tl.static_range(WIDE):
            word = _looked_up(
                wide, wide_words, line, lines, there, vector, stage, 0 if LATTICE else stage, wide_size,
                WIDE_COUNT, LENGTH, 2,
            )  # fmt: skip
            sums += word * (FINER if stage == 1 else 1.0)
        for stage in tl.static_range(NARROW):
            sums += _looked_up(
                narrow, narrow_words, line, lines, there, vector, stage, stage, narrow_size,
                NARROW_COUNT, LENGTH, NARROW_CODES,
            )  # fmt: skip
        weights = tl.reshape(sums if ALONG_INPUTS else tl.permute(sums, (0, 2, 1)), [ROWS, COLUMNS])
        column = start + tl.arange(0, COLUMNS)
        there = (column < columns)[:, None] & (token < tokens)[None, :]
        x = tl.load(inputs + token[None, :] * columns + column[:, None], mask=there, other=0).to(tl.float32)
        total += tl.dot(weights, x, input_precision="tf32")
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    total *= tl.load(scales + row, mask=row < rows, other=0)[:, None]
    there = (row < rows)[:, None] & (token < tokens)[None, :]
    tl.store(out + token[None, :] * rows + row[:, None], total.to(out.dtype.element_ty), mask=there)
