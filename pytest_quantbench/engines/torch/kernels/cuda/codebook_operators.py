"""Operators of PyTorch on matrices of codebooks' words: `quantbench::table_matvec` and `word_matvec` for one token,
`word_matmul` for more.

Arguments that they share: codes and words of the stages with few words (`narrow`) and of those with many (`wide`),
`scales` (out,) float32, and `kind`: see `Kind`.
"""

from typing import NamedTuple

import torch

from pytest_quantbench.engines.torch.kernels.cuda.jitted import word_lookups, word_tables, word_tiles
from pytest_quantbench.engines.torch.kernels.cuda.launching import next_power, started

PROGRAMS = 264  # two for each multiprocessor of an H100
TABLE_ROWS, LEAST_ROWS = 512, 128  # of a program that has tables: many share a table, few leave enough programs


class Kind(NamedTuple):
    """What the operators are told of a matrix in whole numbers; operators take it as a list."""

    rows: int
    length: int  # of a vector
    along_inputs: int
    lattice: int  # bits of a weight in a lattice's words; 0: no lattice
    tiled: int  # whether narrow codes lie in tiles


FINER = {0: 1.0, 2: 1.0, 3: 1.0, 4: 1 / 3.7}  # by the bits of a lattice: what its second wide stage is multiplied by


@torch.library.custom_op("quantbench::table_matvec", mutates_args=())
def table_matvec(
    x: torch.Tensor,
    codes: torch.Tensor,
    words: torch.Tensor,
    scales: torch.Tensor,
    columns: list[torch.Tensor],
    kind: list[int],
    out: torch.dtype,
) -> torch.Tensor:
    """(1, in) → (1, out), for codes in tiles. `columns`: places and values of dense columns, or nothing."""
    rows = Kind(*kind).rows
    stages, tiles, groups = codes.shape[:3]
    of_program = min(TABLE_ROWS, max(16, next_power(rows)))
    while of_program > LEAST_ROWS and -(-rows // of_program) * tiles < PROGRAMS:
        of_program //= 2
    programs = -(-rows // of_program)
    tiles_of_part = max(1, tiles * programs // PROGRAMS)
    splits = -(-tiles // tiles_of_part)
    parts, result = x.new_empty((splits, rows), dtype=torch.float32), x.new_empty((1, rows), dtype=out)
    started(
        word_tables.table_matvec,
        (programs, splits),
        *(codes, words, x, parts, rows, x.shape[1], tiles, groups, tiles_of_part),
        STAGES=stages,
        COUNT=words.shape[1],
        LENGTH=words.shape[2],
        DEPTH=max(16, words.shape[2]),
        ROWS=of_program,
        num_warps=8,
    )
    places, values = columns or (codes, scales)
    started(
        word_tables.sum_parts,
        (-(-rows // 128),),
        *(parts, scales, places, values, x, result, rows, splits),
        COLUMNS=len(places) if columns else 0,
        ROWS=128,
        num_warps=4,
    )
    return result


@torch.library.custom_op("quantbench::word_matvec", mutates_args=())
def word_matvec(
    x: torch.Tensor,
    narrow: list[torch.Tensor],
    wide: list[torch.Tensor],
    scales: torch.Tensor,
    columns: list[torch.Tensor],
    kind: list[int],
    out: torch.dtype,
) -> torch.Tensor:
    """(1, in) → (1, out), for codes in rows of cells; of a lattice the wide words are its sizes."""
    rows, length, along_inputs, lattice, _ = kind
    result = x.new_empty((1, rows), dtype=out)
    places, values = columns or (scales, scales)
    (few, few_words), (many, many_words) = narrow, wide
    cells = max(few.shape[2], many.shape[2])
    held = (few, few_words, many, many_words, scales, places, values, x, result)
    constants = {
        "NARROW": len(few),
        "WIDE": len(many),
        "NARROW_COUNT": few_words.shape[1],
        "WIDE_COUNT": 1 if lattice else many_words.shape[1],
        "LENGTH": length,
        "COLUMNS": len(places) if columns else 0,
        "CELLS": max(16, min(128, next_power(cells))),
        "num_warps": 4,
    }
    if along_inputs:
        of_program = 4 if rows >= 4 * PROGRAMS else 1
        extra = {"LATTICE": bool(lattice), "FINER": FINER[lattice], "ROWS": of_program}
        started(
            word_lookups.along_inputs,
            (-(-rows // of_program),),
            *(*held, rows, x.shape[1], few.shape[2], many.shape[2]),
            **constants,
            **extra,
        )
    else:
        blocks = max(few.shape[1], many.shape[1])
        started(
            word_lookups.along_outputs,
            (blocks,),
            *(*held, blocks, rows, x.shape[1], few.shape[2], many.shape[2]),
            **constants,
            BLOCKS=1,
        )
    return result


@torch.library.custom_op("quantbench::word_matmul", mutates_args=())
def word_matmul(
    x: torch.Tensor,
    narrow: list[torch.Tensor],
    wide: list[torch.Tensor],
    scales: torch.Tensor,
    kind: list[int],
    out: torch.dtype,
) -> torch.Tensor:
    """(tokens, in) → (tokens, out), without dense columns; of a lattice the wide words are all of them."""
    rows, length, along_inputs, lattice, tiled = kind
    tokens, result = len(x), x.new_empty((len(x), rows), dtype=out)
    (few, few_words), (many, many_words) = narrow, wide
    shape = {"ROWS": 32, "TOKENS": 16} if tokens <= 16 else {"ROWS": 64, "TOKENS": 64}
    started(
        word_tiles.word_matmul,
        (-(-rows // shape["ROWS"]), -(-tokens // shape["TOKENS"])),
        *(few, few_words, many, many_words, scales, x, result, tokens, rows),
        *(rows if along_inputs else -(-rows // length), x.shape[1], few.shape[1 if tiled else 2], many.shape[2]),
        NARROW=len(few),
        WIDE=len(many),
        NARROW_COUNT=few_words.shape[1],
        WIDE_COUNT=many_words.shape[1],
        LENGTH=length,
        ALONG_INPUTS=bool(along_inputs),
        NARROW_CODES=0 if tiled else 4,
        LATTICE=bool(lattice),
        FINER=FINER[lattice],
        COLUMNS=64,
        num_warps=4,
        num_stages=2,
        **shape,
    )
    return result


@table_matvec.register_fake
@word_matvec.register_fake
@word_matmul.register_fake
def _like(x: torch.Tensor, *others: object) -> torch.Tensor:
    """What comes out, without numbers in it: the last two arguments are its kind and its type."""
    kind, out = others[-2:]
    assert isinstance(kind, list)
    assert isinstance(out, torch.dtype)
    return x.new_empty((len(x), kind[0]), dtype=out)
