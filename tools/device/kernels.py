"""Kernels against decoded products, with how fast each one reads: every format, every shape of a model.

A kernel's outputs are held against the product with the matrix that the method itself decodes, in float32, at batches
of 1, 4 and 16 tokens; at one token it is timed, on matrices that are taken in turn so that none stays in a cache.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch

from pytest_quantbench.engines.torch import kernels as table
from pytest_quantbench.engines.torch.device import wait
from pytest_quantbench.engines.torch.kernels import cuda
from pytest_quantbench.engines.torch.layers import Linear, linear
from pytest_quantbench.quantizers import Layer
from tools.device.random_weights import DEVIATION, FORMS, WRONG, Form, Shape, encoded, matrices

BATCHES = (1, 4, 16)
MOST_ERROR = {torch.bfloat16: 5e-3, torch.float32: 1e-3}  # rounding to bfloat16 makes 1.7e-3 each time
CACHES_BYTES = 200e6  # that matrices taken in turn have together at least, unless they are more than
MOST_COPIES = {"cuda": 64, "cpu": 8}
CALLS, REPEATS = 64, 3
INTERPRETED: Shape = (64, 128)  # of a matrix that an interpreter multiplies with
FEW = (("nibble", 4), ("milo", 3), ("aqlm", 2), ("quip", 2))  # what it takes a minute for
CUT_OFF = 8e-3  # the interpreter cuts off what a device rounds to bfloat16
HEADS = (("rtn", 4), ("rtn", 8))  # the formats of output heads


def checked(config: Mapping[str, Any], device: str) -> Iterator[dict[str, Any]]:
    """Every format at every shape of the config; a kernel that does not compile is told, and the others go on."""
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    for shape in matrices(config):
        is_head = shape[0] == config["vocab_size"]
        for name, build in _builders(shape, device, dtype, HEADS if is_head else tuple(FORMS)):
            row: dict[str, Any] = {"format": name, "shape": list(shape)}
            try:
                yield row | _checked(build, shape, device, dtype)
            except WRONG as error:
                yield row | {"error": f"{type(error).__name__}: {error}"[:500], "right": False}


def interpreted() -> Iterator[dict[str, Any]]:
    """Triton's kernels on a CPU, in its interpreter, which has to be asked for before Triton is imported: small
    matrices, not timed.
    """
    own = table.KERNELS
    table.KERNELS = tuple(replace(kernel, devices=frozenset({"cpu"})) for kernel in cuda.KERNELS)
    try:
        for method, bits in FEW:
            module, dense = _quantized(FORMS[method, bits], INTERPRETED, 0, device="cpu", dtype=torch.bfloat16)
            error = _error(module, torch.as_tensor(dense), 1, torch.bfloat16)
            yield {
                "format": f"{method} {bits}",
                "shape": list(INTERPRETED),
                "kernel": f"{module.kernel}, interpreted",
                "relative_error": error,
                "right": error <= CUT_OFF,
                "bytes": module.bytes_per_token,
                "microseconds": None,
                "gb_per_second": None,
            }
    finally:
        table.KERNELS = own


Build = Callable[[int], "tuple[Linear, np.ndarray[Any, Any] | torch.Tensor | None]"]  # a seed → module, its matrix


def _builders(
    shape: Shape, device: str, dtype: torch.dtype, formats: Sequence[tuple[str, int]]
) -> Iterator[tuple[str, Build]]:
    yield "bf16", lambda seed: _plain(shape, seed, device, dtype)
    for method, bits in formats:
        form = FORMS[method, bits]
        yield f"{method} {bits}", partial(_quantized, form, shape, device=device, dtype=dtype)


def _plain(shape: Shape, seed: int, device: str, dtype: torch.dtype) -> tuple[Linear, torch.Tensor]:
    generator = torch.Generator(device).manual_seed(seed)
    dense = torch.randn(shape, generator=generator, device=device, dtype=torch.bfloat16) * DEVIATION
    return linear(Layer(), lambda: dense, torch.device(device), dtype), dense


def _quantized(form: Form, shape: Shape, seed: int, *, device: str, dtype: torch.dtype) -> tuple[Linear, Any]:
    encoding = encoded(form, np.random.default_rng(seed), shape)
    (layer,) = encoding.layers()
    assert layer is not None
    dense = encoding.dense() if seed == 0 else None
    return linear(layer, lambda: encoding.dense() if dense is None else dense, torch.device(device), dtype), dense


def _checked(build: Build, shape: Shape, device: str, dtype: torch.dtype) -> dict[str, Any]:
    module, dense = build(0)
    assert dense is not None
    exact = torch.as_tensor(dense).to(device, torch.float32)
    errors = [_error(module, exact, batch, dtype) for batch in BATCHES]
    read = module.bytes_per_token
    copies = min(MOST_COPIES[torch.device(device).type], 1 + int(CACHES_BYTES // read))
    per_call = _seconds([module, *(build(seed)[0] for seed in range(1, copies))], shape, device, dtype)
    return {
        "kernel": str(module.kernel),
        "relative_error": max(errors),
        "right": max(errors) <= MOST_ERROR[dtype],
        "bytes": read,
        "microseconds": 1e6 * per_call,
        "gb_per_second": read / per_call / 1e9,
    }


@torch.no_grad()
def _error(module: Linear, exact: torch.Tensor, batch: int, dtype: torch.dtype) -> float:
    """The difference from the decoded product: its norm by that of the outputs."""
    generator = torch.Generator(exact.device).manual_seed(batch)
    x = torch.randn(batch, exact.shape[1], generator=generator, device=exact.device).to(dtype)
    wanted = x.float() @ exact.T
    return float((module(x).float() - wanted).norm() / wanted.norm())


@torch.no_grad()
def _seconds(modules: list[Linear], shape: Shape, device: str, dtype: torch.dtype) -> float:
    """Of one call with one token: the best of a few rounds, replayed as a graph where the device has such."""
    x = torch.randn(1, shape[1], device=device).to(dtype)
    on_cuda = device.startswith("cuda")
    calls = CALLS if on_cuda else len(modules)

    def all_of_them() -> None:
        for call in range(calls):
            modules[call % len(modules)](x)

    all_of_them()  # compiles
    again: Callable[[], object] = all_of_them
    if on_cuda:
        wait(torch.device(device))
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            all_of_them()
        again = graph.replay
    found = []
    for _ in range(REPEATS):
        wait(torch.device(device))
        began = time.perf_counter()
        again()
        wait(torch.device(device))
        found.append((time.perf_counter() - began) / calls)
    return min(found)
