"""`quantbench engines` on Tiny: MLX against an engine in numpy that does nothing wrong, and against some that do."""

import json

import pytest

pytest.importorskip("mlx.core")

from pytest_quantbench import engines
from pytest_quantbench.cli.main import main
from pytest_quantbench.stats.distances import Distances
from pytest_quantbench.workbench.agreement_table import table, verdict
from pytest_quantbench.workbench.engine_agreement import Agreement, Compared

FEW = ["--tokens", "128", "--task", "tiny_facts", "--limit", "4"]
NUMPY = ["--engine", "mlx", "--engine", "numpy_engine:NumpyEngine"]


def test_two_engines_agree_on_the_model_and_on_a_recipe(capsys, tmp_path):
    output = tmp_path / "found.json"
    assert main(["engines", "Tiny", *NUMPY, *FEW, "--recipe", "int4-rtn", "--output", str(output)]) == 0
    printed = capsys.readouterr().out
    assert all(len(line) <= 80 for line in printed.splitlines())
    assert "They agree: no token and no choice is more than 0.0001 nats per token apart." in printed
    found = json.loads(output.read_text())
    assert [engine["engine"] for engine in found["engines"]] == ["mlx", "numpy"]
    assert found["agree"]
    assert [each["recipe"] for each in found["recipes"]] == ["bf16", "int4-rtn"]
    bf16, int4 = found["recipes"]
    assert bf16["choices"]["count"] == int4["choices"]["count"] == 16
    assert 0 < bf16["losses"]["largest"] < 1e-4
    assert bf16["kl_nats"][1] < 1e-8
    assert bf16["mean_loss_nats"][0] == pytest.approx(bf16["mean_loss_nats"][1], abs=1e-5)
    assert int4["mean_loss_nats"][0] > bf16["mean_loss_nats"][0]  # other weights, and both engines had them
    assert bf16["differing_weights"] == int4["differing_weights"] == []


def test_two_engines_agree_on_a_cache_but_where_a_last_bit_decides(tmp_path):
    output = tmp_path / "found.json"
    asked = ["engines", "Tiny", *NUMPY, *FEW, "--recipe", "kv4", "--recipe", "kv4-rot", "--output", str(output)]
    assert main([*asked, "--limit-nats", "0.01"]) == 0
    plain, *held = json.loads(output.read_text())["recipes"]
    assert [each["recipe"] for each in held] == ["kv4", "kv4-rot"]
    for each in held:
        assert each["losses"]["mean"] < 1e-4 < abs(each["mean_loss_nats"][0] - plain["mean_loss_nats"][0])
        assert each["rounds_inputs"]


def test_an_engine_without_caches_in_few_bits_is_refused_in_a_sentence(capsys):
    without = ["--engine", "mlx", "--engine", "bad_engines:WalksOnly"]
    assert main(["engines", "Tiny", *without, *FEW, "--recipe", "kv8"]) == 2
    assert "The engine 'numpy' cannot hold the key-value cache in few bits." in capsys.readouterr().err


@pytest.mark.parametrize("name", ["Unscaled", "RoundedLogits"])
def test_an_engine_that_computes_something_else_is_told(capsys, name):
    wrong = ["--engine", "mlx", "--engine", f"bad_engines:{name}"]
    assert main(["engines", "Tiny", *wrong, "--tokens", "128", "--task", "none"]) == 1
    printed = capsys.readouterr().out
    assert "They do not agree within 0.0001 nats per token: bf16 is up to" in printed


def test_a_wide_limit_lets_small_differences_pass(capsys):
    wrong = ["--engine", "mlx", "--engine", "bad_engines:RoundedLogits"]
    assert main(["engines", "Tiny", *wrong, "--tokens", "128", "--task", "none", "--limit-nats", "0.5"]) == 0
    assert "no token and no choice is more than 0.5 nats" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["--engine", "mlx"], "Two engines are compared, and 1 named with --engine"),
        (["--engine", "mlx", "--engine", "mlx"], "--engine mlx twice is one engine"),
        (["--engine", "mlx", "--engine", "nothing"], "Unknown engine 'nothing'"),
        (
            ["--engine", "mlx", "--engine", "pytest_quantbench.engines.mlx.engine:MlxEngine"],
            "are one engine on one dev",
        ),
        (["--engine", "mlx", "--engine", "mlx", "--activations", "bfloat16", "--limit-nats", "1"], "bfloat16"),
        ([*NUMPY, "--activations", "bfloat16"], "Say how far apart the engines may be: --limit-nats 0.1"),
        ([*NUMPY, "--recipe", "int9"], "int9"),
    ],
)
def test_what_cannot_be_compared_is_told_in_a_sentence(capsys, given, told):
    assert main(["engines", "Tiny", *given]) == 2
    assert told in capsys.readouterr().err


def test_a_device_that_is_named_is_no_other_engine(capsys):
    pytest.importorskip("torch")
    assert main(["engines", "Tiny", "--engine", "torch:cpu", "--engine", "torch:cpu"]) == 2
    assert "--engine torch:cpu twice is one engine on one device" in capsys.readouterr().err
    if engines.get("torch").backend == "cpu":
        assert main(["engines", "Tiny", "--engine", "torch", "--engine", "torch:cpu"]) == 2
        assert "torch and torch:cpu are one engine on one device" in capsys.readouterr().err


@pytest.mark.parametrize("given", [["--limit-nats", "0"], ["--tokens", "-1"], ["--limit", "0"]])
def test_options_that_are_no_numbers_are_refused(capsys, given):
    with pytest.raises(SystemExit) as raised:
        main(["engines", "Tiny", *given])
    assert raised.value.code == 2
    assert given[0] in capsys.readouterr().err


def far(**changes):
    near = Distances(count=10, mean=1e-6, rare=1e-6, largest=1e-6)
    fields = {
        "recipe": "int4",
        "rounds_inputs": False,
        "weights_sha256": ("a", "a"),
        "differing_weights": (),
        "mean_loss_nats": (1.0, 1.0),
    }
    fields |= {"losses": near, "choices": near, "kl_nats": (0.0, 0.0), "other_likeliest": 0, "widest_tie_nats": None}
    return Compared(agreements=(Agreement(**(fields | changes)),), noise_floor=None)


def test_a_single_choice_or_a_single_weight_is_enough_to_disagree():
    wide = Distances(count=10, mean=1e-6, rare=1e-6, largest=0.25)
    assert verdict(far(), 1e-4).startswith("They agree")
    assert "int4 is up to 0.25 nats per token apart" in verdict(far(choices=wide), 1e-4)
    assert "put on a grid" not in verdict(far(choices=wide), 1e-4)
    assert "int4: what layers are called with, or a cache holds, is put on a grid" in verdict(
        far(choices=wide, rounds_inputs=True), 1e-4
    )
    told = verdict(far(differing_weights=("model.norm.weight",)), 1e-4)
    assert "int4 does not run the same weights on both (model.norm.weight)" in told


def test_a_long_name_has_a_line_of_its_own():
    engine = engines.get("mlx")
    lines = list(table("Tiny", (engine, engine), far(recipe="int4-a-name-that-is-long"), 1e-4))
    assert "int4-a-name-that-is-long" in lines
    assert all(len(line) <= 80 for line in lines)
