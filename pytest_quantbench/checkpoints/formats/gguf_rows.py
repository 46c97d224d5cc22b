"""Reads one tensor of a GGUF file, or one matrix of a stack, and looks whether its values can be used.

The file is open while it is read and not afterwards; nothing is mapped or kept, and of a stack of experts no other
bytes are read than those of the one that is asked for.
"""

import ml_dtypes
import numpy as np

from pytest_quantbench.checkpoints.formats.gguf_codecs import HALVES, block_of, is_finite
from pytest_quantbench.checkpoints.formats.gguf_header import GgufTensor
from pytest_quantbench.checkpoints.safetensors_header import short
from pytest_quantbench.errors import ModelError, WeightError
from pytest_quantbench.quantizers import Array

FLOATS = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype(ml_dtypes.bfloat16)}


def rows_of(tensor: GgufTensor, expert: int | None = None) -> Array:
    """(…, out, bytes of a row) uint8 of a tensor in blocks, or the numbers of one that is not; of an expert the matrix.

    Raises ModelError for a file that is no longer what it was, WeightError for what decodes to no finite number.
    """
    content = _content(tensor, expert)
    shape = tensor.shape if expert is None else tensor.shape[1:]
    if tensor.kind in HALVES:
        block, size = block_of(tensor.kind)
        rows: Array = content.reshape(*shape[:-1], shape[-1] // block * size)
        finite = is_finite(rows, tensor.kind)
    else:
        rows = content.view(FLOATS[tensor.kind]).reshape(shape)
        finite = bool(np.isfinite(rows).all())
    if not finite:
        raise WeightError(f"{tensor.file}: {short(tensor.name)} has values that are not finite: not a usable model.")
    return rows


def _content(tensor: GgufTensor, expert: int | None) -> Array:
    count = tensor.stored_bytes // (1 if expert is None else tensor.shape[0])
    try:
        content = np.fromfile(tensor.file, np.uint8, count, offset=tensor.offset + (expert or 0) * count)
    except OSError as error:
        raise ModelError(f"{tensor.file} cannot be read: {error.strerror}.") from error
    if len(content) != count:
        raise ModelError(f"{tensor.file} ends in {short(tensor.name)}: it was cut after it was opened.")
    return content
