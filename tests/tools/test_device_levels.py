"""T1 of all levels on a device: timed in turn, judged as T1 is, every row as soon as it is known."""

import json
from pathlib import Path

import numpy as np
import pytest
from builders import make_throughput
from gates import run_python

from pytest_quantbench.errors import QuantbenchError
from pytest_quantbench.measures.throughput_runs import reference_first
from tools import device_check
from tools.device import levels, random_weights, report

ROOT = Path(__file__).parent.parent.parent


class Timed:
    """An engine whose models take so many seconds for a token, by their level; None: it cannot load one."""

    backend, threads = "cuda", None

    def __init__(self, seconds):
        self.seconds, self.clock, self.loaded = seconds, [], []

    def load(self, weights, use):
        self.loaded.append(weights.level)
        if self.seconds[weights.level] is None:
            raise QuantbenchError("A kernel cannot be compiled | here.")
        return Timed.Model(self, weights.level)

    def release(self):
        self.loaded.append("released")

    def products_per_second(self, side, repeats):
        return 100.0

    def read_bytes_per_second(self, held):
        return 10e9

    def peak_bytes(self):
        return 10**9

    class Model:
        activations, dense_layers, step, kernels = "float32", 0, "captured", {"a kernel": 3}

        def __init__(self, engine, level):
            self.engine, self.level = engine, level
            self.bytes_per_token = {"bf16": 100_000_000}.get(level, 28_000_000)
            self.rng = np.random.default_rng(self.bytes_per_token)

        def timed(self, prompt, new_tokens):
            self.engine.clock.append(self.level)
            seconds = self.engine.seconds[self.level] * self.rng.normal(1, 0.01, new_tokens).cumsum()
            return type("Timed", (), {"tokens": (0,) * new_tokens, "seconds": tuple(seconds)})


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        ({"bf16": 0.012, "int4": 0.004}, "pass (≥ 1.5 ×)"),
        ({"bf16": 0.012, "int4": 0.012}, "fail (≥ 1.5 ×)"),
        ({"bf16": 0.12, "int4": 0.11}, "bound by overhead, not by reading weights (≥ 1.5 ×)"),
    ],
)
def test_levels_are_timed_in_turn_and_judged_as_t1_is(seconds, told):
    engine = Timed(seconds)
    found = list(levels.rows(engine, plan_of("bf16", "int4"), None))
    turns = [each for first in reference_first(0, 10) for each in (("int4", "bf16"), ("bf16", "int4"))[first]]
    assert engine.clock == ["bf16"] * 2 + ["bf16"] * 10 + ["int4"] * 2 + turns  # two runs to warm up
    assert turns[:4] in (["bf16", "int4", "int4", "bf16"], ["int4", "bf16", "bf16", "int4"])
    reference, recipe = found
    assert (reference["runs"], recipe["runs"]) == (10, 10)
    assert recipe["ratio"] == pytest.approx(seconds["bf16"] / seconds["int4"], rel=0.02)
    assert reference["share_of_bandwidth"] == pytest.approx(0.010 / seconds["bf16"], rel=0.02)
    shown = levels.table(found)
    assert f"| {told} |" in shown
    assert "| the reference |" in shown
    json.dumps(found)


def plan_of(*names, **more):
    """Of a small model, two runs of every prompt."""
    return levels.Plan(config=random_weights.SHAPES["small"], levels=names, runs=2, new_tokens=8, **more)


def test_every_row_is_there_before_the_next_level_is_loaded():
    engine = Timed({"bf16": 0.012, "int4": 0.004, "int3": 0.004})
    found = levels.rows(engine, plan_of("bf16", "int4", "int3"), None)
    assert next(found)["level"] == "bf16"
    assert engine.loaded == ["bf16"]
    assert next(found)["level"] == "int4"
    assert engine.loaded == ["bf16", "int4"]
    assert next(found)["level"] == "int3"
    assert engine.loaded == ["bf16", "int4", "released", "int3"]


def test_a_level_that_cannot_be_run_is_a_row_and_the_others_go_on():
    engine = Timed({"bf16": 0.012, "int4": None, "int3": 0.004})
    found = list(levels.rows(engine, plan_of("bf16", "int4", "int3"), None))
    assert [row["level"] for row in found] == ["bf16", "int4", "int3"]
    assert (found[1]["error"], found[1]["right"]) == ("QuantbenchError: A kernel cannot be compiled | here.", False)
    assert found[2]["ratio"] == pytest.approx(3, rel=0.02)
    text = report.TABLES["levels"](found)
    assert "| int4 | | | QuantbenchError: A kernel cannot be compiled / here. |" in text
    assert "int4: ratio" not in text
    assert not device_check.is_right({"levels": {"ended": "well", "rows": found}})


def test_levels_for_which_no_time_is_left_are_told(monkeypatch):
    clock = iter([0.0, 30.0, 100.0, 120.0])  # bf16 takes 30 seconds, int4 takes 70
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    engine = Timed({"bf16": 0.012, "int4": 0.004, "int3": 0.004, "int2": 0.004})
    _, timed, *rest = levels.rows(engine, plan_of("bf16", "int4", "int3", "int2", seconds=160.0), None)
    assert timed["level"] == "int4"
    assert rest == [
        {"level": "int3", "error": "left out: 100 of 160 seconds were spent"},
        {"level": "int2", "error": "left out: 120 of 160 seconds were spent"},
    ]
    assert engine.loaded == ["bf16", "int4", "released"]


def test_without_scipy_there_is_a_ratio_and_no_verdict(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    _, row = levels.rows(Timed({"bf16": 0.012, "int4": 0.004}), plan_of("bf16", "int4"), None)
    assert row["ratio"] == pytest.approx(3, rel=0.02)
    assert (row["low"], row["not_judged"]) == (None, levels.NO_SCIPY)
    assert "| 3.0" in levels.table([row])
    assert f"{levels.NO_SCIPY} (≥ 1.5 ×)" in levels.table([row])


def test_an_engine_whose_speed_is_not_judged_is_not_timed():
    """And neither are its weights drawn, nor PyTorch imported."""
    found = run_python(
        "import sys; sys.argv = ['x', '--engine', 'mlx']; from tools.device import levels; "
        "assert 'torch' not in sys.modules; levels.main(); assert 'torch' not in sys.modules",
        ROOT,
    )
    assert "nobody deploys" in found.stdout
    assert found.returncode == 0


def test_without_a_known_bandwidth_there_are_no_figures():
    with pytest.raises(AssertionError):
        levels._figures("bf16", make_throughput([[1.0]]), None)
