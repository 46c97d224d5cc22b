"""What a decode step of MLX reads: counted by hand from the shapes of small models."""

import time

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from builders import open_model

from pytest_quantbench import engines
from pytest_quantbench.catalog.recipes import recipe
from pytest_quantbench.compress.pipeline import compress
from pytest_quantbench.engines import bandwidth
from pytest_quantbench.engines.mlx import bytes_read, resident


class Model(nn.Module):
    """A table of 10 tokens, a matrix beside it, and a head where it has one."""

    def __init__(self, head, experts=0):
        super().__init__()
        self.embed_tokens, self.proj = nn.Embedding(10, 8), nn.Linear(8, 6, bias=True)
        if head:
            self.lm_head = nn.Linear(8, 10, bias=False)
        if experts:
            from mlx_lm.models.switch_layers import SwitchLinear

            self.up = SwitchLinear(8, 6, experts, bias=False)


@pytest.mark.parametrize(
    ("head", "experts", "config", "values"),
    [
        (True, 0, {}, 8 + 8 * 6 + 6 + 8 * 10),  # one row of the table
        (False, 0, {}, 8 * 10 + 8 * 6 + 6),  # all of it: it is the head
        (True, 4, {"num_experts_per_tok": 1}, 8 + 8 * 6 + 6 + 8 * 10 + 8 * 6),
        (True, 4, {"text_config": {"top_k_experts": 3}}, 8 + 8 * 6 + 6 + 8 * 10 + 3 * 8 * 6),
        (True, 4, {}, 8 + 8 * 6 + 6 + 8 * 10 + 4 * 8 * 6),
    ],
)
def test_one_token_reads_every_matrix_once(head, experts, config, values):
    model = Model(head, experts)
    assert bytes_read.bytes_per_token(model, config) == 4 * values
    model.set_dtype(mx.bfloat16)
    assert bytes_read.bytes_per_token(model, config) == 2 * values


def test_a_table_of_positions_is_no_head():
    """As GPT-2 has one, whose rows no other matrix has."""
    model = Model(head=False)
    model.wpe = nn.Embedding(7, 8)
    tied = 8 * 10 + 8 * 6 + 6
    assert bytes_read.bytes_per_token(model, {"vocab_size": 10}) == 4 * (tied + 8)
    assert bytes_read.bytes_per_token(model, {"text_config": {"vocab_size": 10}}) == 4 * (tied + 8)


def test_fewer_bits_read_fewer_bytes_through_other_kernels(small_model, tmp_path):
    opened = open_model(small_model())
    found = {
        name: resident.load(compress(opened, recipe(name), 0, tmp_path / "cache"))
        for name in ("bf16", "int8-rtn", "int4-rtn", "int3-rtn")
    }
    read = [loaded.bytes_per_token for loaded in found.values()]
    assert read == sorted(read, reverse=True)
    assert 0.8 * 32 / 4.5 < read[0] / read[2] < 32 / 4.5  # of float32; norms stay as they are
    assert set(found["bf16"].kernels) == {f"matmul, {found['bf16'].activations}"}
    assert "quantized_matmul, affine, 4 bits" in found["int4-rtn"].kernels
    assert sum(found["int4-rtn"].kernels.values()) == sum(found["bf16"].kernels.values())
    assert found["int4-rtn"].step == "module by module"


def test_a_read_rate_is_that_of_memory(monkeypatch):
    clock = iter(np.arange(100) * 0.01)
    monkeypatch.setattr(time, "perf_counter", lambda: float(next(clock)))
    calls = []
    assert bandwidth.rate(lambda: calls.append(1), 10**6) == pytest.approx(4 * 10**6 / 0.05)
    assert len(calls) == 1 + 4  # the first is not counted, and every look at the clock takes a hundredth
    monkeypatch.undo()
    assert 1e8 < engines.get("mlx").read_bytes_per_second(10**8) < 1e14
    assert [bandwidth.size(held, 2**28, 2**40) for held in (5, 10**7 + 1, 10**12)] == [2**20, 10**7, 2**28]
    assert bandwidth.size(10**12, 2**31, 10**8) == 5 * 10**7  # beside a model that leaves no more
    assert bandwidth.size(10**12, 2**31, 0) == 8
    assert bandwidth.experts_read({"num_experts_per_tok": 9}, 4) == 4
