"""The main job on PyTorch: the verdicts of Tiny at every level, and of what others made, are those that MLX gives."""

import mlx.core as mx
import mlx_lm
import numpy as np
import pytest

pytest.importorskip("torch")

from pytest_quantbench.bench.subject import Subject
from pytest_quantbench.catalog.models import TINY_DIRECTORY
from pytest_quantbench.catalog.settings import Settings
from pytest_quantbench.cli.main import main

pytestmark = pytest.mark.slow
LEVELS = ("int8", "int4", "int3", "int2")
CHECKS = ("size", "perplexity", "accuracy")


@pytest.fixture(scope="module")
def subjects(tmp_path_factory):
    """Tiny under each engine, with a cache of its own."""
    cache = tmp_path_factory.mktemp("cache")
    return {name: Subject("Tiny", Settings(engine=name, cache=cache)) for name in ("mlx", "torch")}


@pytest.mark.parametrize("level", LEVELS)
def test_the_verdicts_of_tiny_are_the_same(subjects, level):
    """By the same samples for what needs no data. A fit to calibration data goes another way where the last bit of a
    Hessian differs: what is lost is alike, and not the same.
    """
    found = {name: {check: subject.cell(level).judge(check) for check in CHECKS} for name, subject in subjects.items()}
    for check in CHECKS:
        mine, theirs = found["torch"][check], found["mlx"][check]
        assert (mine.outcome, mine.limit) == (theirs.outcome, theirs.limit)
        if check != "size":  # which is exact; of the others the intervals overlap
            assert max(mine.low, theirs.low) <= min(mine.high, theirs.high)
    _ = [subject.cell(level).samples("weights") for subject in subjects.values()]
    weights = [subject.cell(level).figures("weights") for subject in subjects.values()]
    assert weights[0]["median_snr_db"] == pytest.approx(weights[1]["median_snr_db"], abs=0.1)


def test_the_losses_of_the_reference_are_the_same(subjects):
    losses = {name: subject.reference.samples("perplexity").nll_nats for name, subject in subjects.items()}
    shared = min(map(len, losses.values()))
    assert np.abs(losses["torch"][:shared] - losses["mlx"][:shared]).max() < 1e-4


def test_neither_takes_what_the_other_has_made(subjects):
    keys = {name: subject.cell("int4").artifact.manifest.key for name, subject in subjects.items()}
    assert keys["mlx"] != keys["torch"]
    machines = {name: subject.cell("int4").record().machine for name, subject in subjects.items()}
    assert {name: (each.engine, each.activations) for name, each in machines.items()} == {
        "mlx": ("mlx", "float32"),
        "torch": ("torch", "float32"),
    }
    assert {"torch", "triton", "numba", "transformers"} <= machines["torch"].versions.keys()
    assert not subjects["torch"].reused


def test_bfloat16_activations_are_measured_with_their_noise_floor(subjects):
    given = subjects["torch"].inputs.settings
    rounded = Subject("Tiny", Settings(engine="torch", activations="bfloat16", cache=given.cache))
    assert rounded.cell("int4-rtn").judge("perplexity").outcome == "pass"
    exact = subjects["torch"].reference.samples("perplexity").nll_nats
    losses = rounded.reference.samples("perplexity").nll_nats
    shared = min(len(exact), len(losses))
    assert 0 < np.abs(losses[:shared] - exact[:shared]).mean() < 0.02
    floor = rounded.reference.record().noise_floor
    assert 0 < floor.kl_nats < 1e-3
    assert rounded.reference.record().machine.activations == "bfloat16"


def test_a_directory_that_mlx_wrote_is_judged(tmp_path, capsys):
    mlx_lm.convert(str(TINY_DIRECTORY), mlx_path=str(tmp_path / "q4"), quantize=True, q_bits=4, q_group_size=64)
    mx.clear_cache()
    told = ["judge", str(tmp_path / "q4"), "--reference", "Tiny", "--engine", "torch", "-m", "t2"]
    assert main([*told, "--results", str(tmp_path / "results")]) == 0
    assert "run by PyTorch" in capsys.readouterr().out


@pytest.mark.parametrize(("form", "recipe"), [("gguf", "int4-q4_k_m"), ("hf", "int4-rtn")])
def test_what_it_compressed_is_handed_on(tmp_path, capsys, form, recipe):
    """In the form of others, with the same weights as under MLX."""
    out = {}
    for engine in ("torch", "mlx"):
        made = tmp_path / engine
        given = ["convert", "Tiny", "--recipe", recipe, "--to", form, "--engine", engine, "--calibration", "none"]
        assert main([*given, "--output", str(made)]) == 0
        out[engine] = capsys.readouterr().out.replace(str(made), "")
    assert out["torch"] == out["mlx"]


def test_mlx_s_own_form_needs_its_names(tmp_path, capsys):
    given = ["convert", "Tiny", "--recipe", "int4-rtn", "--to", "mlx", "--engine", "torch"]
    assert main([*given, "--output", str(tmp_path / "out")]) == 2
    assert "Choose --engine mlx, or --to gguf or hf." in capsys.readouterr().err
