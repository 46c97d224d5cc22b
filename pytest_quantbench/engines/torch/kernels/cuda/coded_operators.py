"""Operators of PyTorch on matrices of codes: `quantbench::coded_matvec` for one token, `coded_matmul` for more.

As operators, with what they give on the meta device, they go through `torch.export`, `torch.compile` and the capture of
CUDA graphs like PyTorch's own. They wait for nothing and read nothing back.
"""

import torch

from pytest_quantbench.engines.torch.kernels.cuda.jitted.matmul import matmul
from pytest_quantbench.engines.torch.kernels.cuda.jitted.matvec import matvec, project
from pytest_quantbench.engines.torch.kernels.cuda.launching import next_power, operands, rows_of_program, started
from pytest_quantbench.engines.torch.kernels.cuda.striped_words import WIDTHS

STRIPES = 128  # at most, that a program of one token reads at a time
WIDEST = 64  # columns of a tile


@torch.library.custom_op("quantbench::coded_matvec", mutates_args=())
def coded_matvec(
    x: torch.Tensor,
    words: torch.Tensor,
    scales: torch.Tensor,
    biases: torch.Tensor | None,
    factor: torch.Tensor | None,
    sparse: list[torch.Tensor],
    low_rank: list[torch.Tensor],
    kind: list[int],
    out: torch.dtype,
) -> torch.Tensor:
    """(1, in) → (1, out). `sparse`: starts, places, values, or nothing; `low_rank`: left (out, rank), right (rank, in).

    `kind`: bits, number, group, how scales are stored, and what codes count from where there are no biases.
    """
    bits, number, group, stored, center = kind
    width, rows, stripes = WIDTHS[bits], len(words), words.shape[2] // 4
    at_once = min(STRIPES, next_power(stripes))
    of_program, warps = rows_of_program(rows, at_once)
    result = x.new_empty((1, rows), dtype=out)
    projected, left = (words, words) if not low_rank else (_projected(x, low_rank[1]), low_rank[0])
    starts, places, values = sparse or (words, words, words)
    started(
        matvec,
        (-(-rows // of_program),),
        *(words, scales, scales if biases is None else biases, scales if factor is None else factor, x, result),
        *(starts, places, values, projected, left, rows, x.shape[1], stripes, scales.shape[1]),
        BITS=bits,
        NUMBER=number,
        CODES=width.codes,
        IN_WORD=width.in_word,
        WORDS=width.words,
        SPLIT=max(1, width.stripe // group),
        SHARE=max(1, group // width.stripe),
        SCALES=stored,
        CENTER=center,
        FACTOR=factor is not None,
        SPARSE=bool(sparse),
        RANK=left.shape[1] if low_rank else 0,
        ROWS=of_program,
        STRIPES=at_once,
        num_warps=warps,
    )
    return result


def _projected(x: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """(1, in) and (rank, in) → (rank,) float32."""
    result = x.new_empty(len(right), dtype=torch.float32)
    columns = min(2048, next_power(x.shape[1]))
    started(project, (len(right),), right, x, result, x.shape[1], COLUMNS=columns, num_warps=max(1, columns // 256))
    return result


@torch.library.custom_op("quantbench::coded_matmul", mutates_args=())
def coded_matmul(
    x: torch.Tensor,
    words: torch.Tensor,
    scales: torch.Tensor,
    biases: torch.Tensor | None,
    factor: torch.Tensor | None,
    sparse: list[torch.Tensor],
    kind: list[int],
    out: torch.dtype,
) -> torch.Tensor:
    """(tokens, in) → (tokens, out), with arguments as `coded_matvec` has them."""
    bits, number, group, stored, center = kind
    width, rows, tokens = WIDTHS[bits], len(words), len(x)
    few = tokens <= 16
    shape = {"ROWS": 32, "TOKENS": 16, "num_warps": 4} if few else {"ROWS": 128, "TOKENS": 64, "num_warps": 8}
    result = x.new_empty((tokens, rows), dtype=out)
    starts, places, values = sparse or (words, words, words)
    started(
        matmul,
        (-(-rows // shape["ROWS"]), -(-tokens // shape["TOKENS"])),
        *(words, scales, scales if biases is None else biases, scales if factor is None else factor),
        *(starts, places, values, x, result),
        *(tokens, rows, x.shape[1], words.shape[2] // 4, scales.shape[1], group),
        BITS=bits,
        NUMBER=number,
        CODES=width.codes,
        IN_WORD=width.in_word,
        WORDS=width.words,
        SCALES=stored,
        CENTER=center,
        FACTOR=factor is not None,
        SPARSE=bool(sparse),
        OPERANDS=operands(x.dtype),
        COLUMNS=min(WIDEST, group & -group),
        **shape,
    )
    return result


@coded_matvec.register_fake
@coded_matmul.register_fake
def _like(x: torch.Tensor, words: torch.Tensor, *others: object) -> torch.Tensor:
    """What comes out, without numbers in it: the last argument is its type."""
    assert isinstance(others[-1], torch.dtype)
    return x.new_empty((len(x), len(words)), dtype=others[-1])
