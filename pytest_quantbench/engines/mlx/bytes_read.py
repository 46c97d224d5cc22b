"""What one decode step of a resident model reads, and through which of MLX's kernels it goes."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from pytest_quantbench.checkpoints.tokenizer import vocabulary
from pytest_quantbench.engines import bandwidth
from pytest_quantbench.engines.machine import available_bytes, memory_bytes
from pytest_quantbench.engines.mlx.codebook_layer import CodebookLinear
from pytest_quantbench.engines.mlx.host_products import backend


def bytes_per_token(model: nn.Module, config: Mapping[str, Any]) -> int:
    """Of a table of embeddings one row; all of it where it has the vocabulary's rows and no other matrix has as many:
    then it is the output head too. Of a stack of experts as many as the config says that a token goes through.
    """
    parts = dict(_with_arrays(model))
    tables = {path for path, module in parts.items() if isinstance(module, nn.Embedding | nn.QuantizedEmbedding)}
    heads = {len(module["weight"]) for path, module in parts.items() if path not in tables and _is_matrix(module)}
    total, words = 0, vocabulary(config)
    for path, module in parts.items():
        held = sum(array.nbytes for array in _arrays(module))
        rows = len(module["weight"]) if path in tables else 0
        if rows and (rows in heads or words not in (rows, None)):
            held //= rows
        elif _is_matrix(module) and module["weight"].ndim == 3:
            experts = len(module["weight"])
            held = held * bandwidth.experts_read(config, experts) // experts
        total += held
    return total


def kernels(model: nn.Module) -> dict[str, int]:
    """MLX's products by their kind of matrix: `quantized_matmul, affine, 4 bits`, `matmul, float32`."""
    return dict(Counter(_kernel(module) for _, module in _with_arrays(model) if _is_matrix(module)))


def read_bytes_per_second(held: int) -> float:
    """On an accelerator the largest number of an array of MLX's; on a CPU numpy's, which reads four times as fast."""
    if backend() == "cpu":
        return bandwidth.on_one_thread(held)
    numbers = mx.zeros(bandwidth.size(held, 8 * bandwidth.MOST_BYTES, free_bytes()) // 4, mx.float32)
    mx.eval(numbers)
    return bandwidth.rate(lambda: mx.eval(numbers.max()), numbers.nbytes)


def free_bytes() -> int:
    """Memory that arrays can still take: on an accelerator all of it less what they have, on a CPU what the system has
    to give.
    """
    if backend() == "cpu":
        return available_bytes()
    return max(0, int(mx.device_info().get("memory_size", memory_bytes())) - mx.get_active_memory())


def _kernel(module: nn.Module) -> str:
    if isinstance(module, CodebookLinear):
        return module.kernel
    if "scales" not in module:
        return f"matmul, {str(module['weight'].dtype).removeprefix('mlx.core.')}"
    return f"quantized_matmul, {module.mode}, {module.bits} bits"


def _is_matrix(module: nn.Module) -> bool:
    return "weight" in module and module["weight"].ndim > 1


def _with_arrays(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Every module that holds arrays of its own, with its path."""
    for path, module in model.named_modules():
        if _arrays(module):
            yield path, module


def _arrays(module: nn.Module) -> list[mx.array]:
    return [value for value in module.values() if isinstance(value, mx.array)]


def longest_side(model: nn.Module) -> int:
    """Of all matrices of a model, or of a part of one; of quantized ones as they are stored, whose rows are whole."""
    shapes = [array.shape for _, module in _with_arrays(model) for array in _arrays(module)]
    return max((max(shape) for shape in shapes if len(shape) > 1), default=1)
