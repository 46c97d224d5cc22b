"""The check of a device, proven on the CPU with small shapes; what hangs, fails or is missing loses nothing."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from builders import make_throughput
from gates import run_python

from pytest_quantbench.quantizers.protocol import Statistics
from tools import device_check
from tools.device import levels, random_weights, report

ROOT = Path(__file__).parent.parent.parent
GIVEN = device_check.Given(device="cpu", small=True)
# Such a machine has neither these nor this package's metadata: importing them fails there.
ABSENT = """
import sys
class Without:
    def __init__(self, finder):
        self.finder = finder
    def find_spec(self, name, path=None, target=None):
        absent = name.split(".")[0] in {"msgspec", "gguf", "mlx", "mlx_lm", "lm_eval", "pytest", "_pytest", "datasets"}
        return None if absent else self.finder.find_spec(name, path, target)
    def __getattr__(self, name):
        return getattr(self.finder, name)
sys.meta_path[:] = [Without(each) for each in sys.meta_path]
"""


@pytest.mark.slow
def test_the_whole_check_runs_on_a_cpu_without_what_a_cuda_machine_lacks(tmp_path, monkeypatch):
    (tmp_path / "sitecustomize.py").write_text(ABSENT)
    monkeypatch.setattr(device_check, "ROOT", f"{tmp_path}{os.pathsep}{ROOT}")
    monkeypatch.setattr(device_check, "FOLDER", ROOT)
    found = {name: device_check.run_apart(name, GIVEN) for name in device_check.PARTS}
    assert {name: part["ended"] for name, part in found.items()} == dict.fromkeys(found, "well"), found
    assert device_check.is_right(found)
    assert [row["level"] for row in found["levels"]["rows"]] == list(random_weights.LEVELS[:5])
    interpreted = [row for row in found["kernels"]["rows"] if "interpreted" in row["kernel"]]
    assert len(interpreted) == 4
    assert all("Triton" in row["kernel"] for row in interpreted)
    assert len(found["kernels"]["rows"]) == len(interpreted) + 5 * (1 + len(random_weights.FORMS)) - 8
    text = report.text({"about": device_check.about(), "shape": "small", "parts": found})
    assert all(title.split(",")[0].split("{")[0] in text for title in report.TITLES.values())


def speaking(text):
    """A part that writes this."""
    return lambda name, given: [sys.executable, "-c", text]


@pytest.mark.parametrize(
    ("end", "how"),
    [("import time; time.sleep(60)", "beyond its 1 seconds"), ("raise SystemExit(3)", "with exit code 3")],
)
def test_a_part_that_hangs_or_fails_keeps_its_rows_and_says_how_it_ended(monkeypatch, end, how):
    monkeypatch.setattr(device_check, "command_of", speaking(f"print('{{\"right\": true}}', flush=True); {end}"))
    parts = {"walk": device_check.Part(seconds=1, rows=lambda given: iter(()))}
    monkeypatch.setattr(device_check, "PARTS", parts)
    found = device_check.run_apart("walk", GIVEN)
    assert (found["ended"], found["rows"]) == (how, [{"right": True}])
    assert not device_check.is_right({"walk": found})


def test_a_wrong_figure_is_no_success():
    part = {"ended": "well", "rows": [{"right": True}, {"right": False}]}
    assert not device_check.is_right({"kernels": part})
    assert device_check.is_right({"kernels": part | {"rows": [{"right": True}, {}]}})


def test_missing_wheels_are_named(monkeypatch):
    assert device_check.missing("cpu") == []
    monkeypatch.setattr(device_check, "NEEDED", {"package_of_nobody": "wheel-of-nobody"})
    monkeypatch.setattr(device_check, "COMPILERS", {"cuda": "compiler_of_nobody"})
    assert device_check.missing("cpu") == ["wheel-of-nobody"]
    assert device_check.missing("cuda:1") == ["wheel-of-nobody", "compiler_of_nobody"]


def test_all_parts_together_stay_within_the_scripts_limit():
    assert sum(part.seconds for part in device_check.PARTS.values()) < 480
    assert "timeout 480" in (ROOT / "tools" / "device_check.sh").read_text()


@pytest.mark.parametrize("form", random_weights.FORMS.values(), ids=lambda form: f"{form.codec.name}{form.codec.bits}")
def test_random_codes_are_of_the_methods_own_format(form):
    """Named, typed and shaped as what the method makes of a matrix, but for what a small one has smaller."""
    shape, rng = (128, 256), np.random.default_rng(0)
    drawn = random_weights.encoded(form, rng, shape)
    weight = rng.standard_normal(shape, np.float32)
    inputs = rng.standard_normal((300, 256), np.float32)
    fitted = Statistics(hessian=inputs.T @ inputs / 300, tokens=300, sample=inputs, peaks=inputs[:16])
    made = form.codec.encode(weight, None if form.codec.calibration == "none" else fitted, 0)
    assert set(made) <= set(drawn.arrays)
    assert {name: made[name].dtype for name in made} == {name: drawn.arrays[name].dtype for name in made}
    assert drawn.dense().shape == shape
    assert 0.2 < drawn.dense().std() / random_weights.DEVIATION < 2
    (layer,) = drawn.layers()
    assert layer.grid is not None


def test_every_parameter_is_drawn_anew_from_its_seed():
    config = random_weights.SHAPES["small"]
    one, same = (random_weights.RandomWeights(config, "int4", "cpu") for _ in range(2))
    name, other = "model.layers.0.mlp.up_proj.weight", "model.layers.1.mlp.up_proj.weight"
    np.testing.assert_array_equal(one.encoding(name).arrays["weight"], same.encoding(name).arrays["weight"])
    assert (one.encoding(name).arrays["weight"] != one.encoding(other).arrays["weight"]).any()
    assert one.encoding("model.norm.weight") is None
    assert one.dense("model.norm.weight").tolist() == [1.0] * 256
    published = random_weights.RandomWeights(config, "bf16", None)
    assert published.dense(name).dtype.name == "bfloat16"
    assert published.encoding(name) is None


def test_sizes_are_those_that_the_shapes_are_named_by():
    counts = {
        name: sum(int(np.prod(shape)) for shape in random_weights.parameters(config).values())
        for name, config in random_weights.SHAPES.items()
    }
    assert counts["8B"] == 8_030_261_248  # Llama 3.1's
    assert counts["100M"] == pytest.approx(100e6, rel=0.05)


class Timed:
    """An engine whose models take so many seconds for a token, by their level."""

    def __init__(self, seconds):
        self.seconds, self.clock = seconds, []

    def load(self, weights, use):
        return Timed.Model(self, weights.level)

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
            self.bytes_per_token = {"bf16": 100_000_000, "int4": 28_000_000}[level]
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
    plan = levels.Plan(config=random_weights.SHAPES["small"], levels=("bf16", "int4"), runs=2, new_tokens=8)
    found = levels.run(engine, plan, None)
    assert engine.clock == ["bf16", "int4"] + ["bf16", "int4", "int4", "bf16"] * 5
    reference, recipe = found["levels"]
    assert (reference["runs"], recipe["runs"]) == (10, 10)
    assert recipe["ratio"] == pytest.approx(seconds["bf16"] / seconds["int4"], rel=0.02)
    assert reference["share_of_bandwidth"] == pytest.approx(0.010 / seconds["bf16"], rel=0.02)
    shown = levels.table(found["levels"])
    assert f"| {told} |" in shown
    assert "| the reference |" in shown
    json.dumps(found)


def test_goals_are_told_with_what_was_reached():
    rows = [
        {"level": "bf16", "share_of_bandwidth": 0.71},
        {"level": "int4", "ratio": 2.4},
        {"level": "int8", "ratio": 9},
    ]
    assert report._goals(rows) == [
        "- bf16: share of bandwidth 0.71, goal 0.7: reached",
        "- int4: ratio 2.40, goal 2.5: missed",
    ]


def test_without_a_known_bandwidth_there_are_no_figures():
    with pytest.raises(AssertionError):
        levels.told({"bf16": make_throughput([[1.0]])}, ["bf16"])


def test_the_script_says_what_it_takes():
    found = run_python("import sys; sys.argv = ['x', '--help']; from tools import device_check as d; d.main()", ROOT)
    assert "--small" in found.stdout
