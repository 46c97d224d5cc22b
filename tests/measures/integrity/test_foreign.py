"""Candidates' weights: what is wrong whoever made them, and what a maker may have meant."""

import json
import re

import mlx.core as mx
import numpy as np
import pytest
from builders import open_model
from mlx_models import as_mlx

from pytest_quantbench.bench.subject import Subject
from pytest_quantbench.catalog.candidates import Candidate
from pytest_quantbench.catalog.models import TINY_DIRECTORY
from pytest_quantbench.catalog.recipes import recipe_of_candidate
from pytest_quantbench.catalog.settings import Settings
from pytest_quantbench.checkpoints.formats import open_candidate
from pytest_quantbench.checkpoints.tokenizer import load_tokenizer
from pytest_quantbench.compress.external import External
from pytest_quantbench.compress.identity import facts
from pytest_quantbench.measures.integrity import foreign
from pytest_quantbench.measures.integrity.inspection import Inspected
from pytest_quantbench.record import folder as results
from pytest_quantbench.record.schema import read
from pytest_quantbench.report import terminal

LAYER = "model.layers.{}.".format
INPUTS = {"input_layernorm": "self_attn.[qkv]_proj", "post_attention_layernorm": "mlp.(gate|up)_proj"}


def tiny_weights():
    held = mx.load(str(TINY_DIRECTORY / "model.safetensors"))
    return {name: np.array(array.astype(mx.float32)) for name, array in held.items()}


def directory_of(weights, directory):
    """Weights as a model directory, with Tiny's config and tokenizer."""
    directory.mkdir()
    arrays = {name: mx.array(array).astype(mx.bfloat16) for name, array in weights.items()}
    mx.save_safetensors(str(directory / "model.safetensors"), arrays)
    for file in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (directory / file).write_bytes((TINY_DIRECTORY / file).read_bytes())
    return directory


@pytest.fixture
def inspected(tmp_path):
    """What is found of a candidate that is Tiny, changed and then rounded to 4 bits by MLX."""

    def look(change=None, bits=4):
        weights = tiny_weights()
        original = TINY_DIRECTORY
        if change is not None:
            change(weights)
            original = directory_of(weights, tmp_path / "changed")
        quantized = as_mlx(original, tmp_path / f"q{bits}", bits=bits)
        reference, candidate = open_model(TINY_DIRECTORY), Candidate(name="q", source=str(quantized))
        made = External(open_candidate(quantized), reference, recipe_of_candidate(candidate, bits), reference.config)
        made.candidate_facts = facts(made, candidate, reference, load_tokenizer(TINY_DIRECTORY))
        return Inspected(made, reference).finish()

    return look


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_of_an_honest_candidate_nothing_is_said(inspected, bits):
    found = inspected(bits=bits)
    assert (found.problems, found.notes) == ((), ())
    assert found.tensors == 38


def fold(weights):
    """AWQ's way: columns of what follows a norm times s, the norm divided by it; and down's columns with up's rows."""
    rng = np.random.default_rng(0)
    for name in list(weights):
        for norm, matrices in INPUTS.items():
            if norm in name:
                s = np.exp(rng.normal(0, 0.5, len(weights[name]))).astype(np.float32)
                weights[name] = weights[name] / s
                layer = name.partition(norm)[0]
                for other in weights:
                    if re.match(re.escape(layer) + matrices, other):
                        weights[other] = weights[other] * s
        if "mlp.down_proj" in name:
            s = np.exp(rng.normal(0, 0.5, weights[name].shape[1])).astype(np.float32)
            weights[name] = weights[name] * s
            up = name.replace("down", "up")
            weights[up] = weights[up] / s[:, None]


def test_folded_factors_are_told_and_are_no_fault(inspected):
    found = inspected(fold)
    assert found.problems == ()
    folded, norms = found.notes
    assert re.match(r"24 tensors \(model\.layers\.0\.self_attn\.\w_proj\.weight, …\) have columns or rows of", folded)
    low, high = map(float, re.search(r"([\d.]+) to ([\d.]+) times the usual", folded).groups())
    assert low < 0.4
    assert high > 2.5
    assert re.match(r"8 tensors \(.*layernorm.*\), not quantized, differ from the reference's: folded factors", norms)


def permute(weights):
    for name, weight in weights.items():
        if "q_proj" in name or "k_proj" in name:
            weights[name] = weight.reshape(-1, 2, 32, weight.shape[1]).swapaxes(1, 2).reshape(weight.shape)


def swap(weights):
    for name in list(weights):
        if name.startswith(LAYER(0)):
            other = name.replace(LAYER(0), LAYER(1))
            weights[name], weights[other] = weights[other], weights[name]


def zero(weights):
    weights[LAYER(1) + "mlp.up_proj.weight"] *= 0


def resize_rows(weights):
    weights[LAYER(1) + "mlp.up_proj.weight"][5:8] *= 3


def lose_norm(weights):
    weights[LAYER(2) + "input_layernorm.weight"][:] = 1


def test_permuted_queries_are_found_where_the_check_before_the_walk_has_not_looked(inspected, monkeypatch):
    monkeypatch.setattr("pytest_quantbench.compress.same_weights._refuse_permuted", lambda found, moved: None)
    found = inspected(permute)
    assert len(found.problems) == 8
    assert all(re.search(r"[qk]_proj\.weight has lost \d+ of .*it is permuted: row", each) for each in found.problems)


@pytest.mark.parametrize(
    ("change", "count", "said"),
    [
        (swap, 14, r"layers\.[01]\.\S+_proj\.weight has lost (\d+) of \1 rows"),
        (zero, 1, r"layers\.1\.mlp\.up_proj\.weight comes back as zeros\."),
        (
            resize_rows,
            1,
            r"layers\.1\.mlp\.up_proj\.weight has 3 of 768 rows of another size \(5, 6, 7: [23]\.\d\d times",
        ),
        (lose_norm, 1, r"layers\.2\.input_layernorm\.weight comes back with all of its values 1\."),
    ],
    ids=lambda each: getattr(each, "__name__", ""),
)
def test_what_nobody_means_is_a_fault(inspected, change, count, said):
    found = inspected(change)
    assert len(found.problems) == count
    assert [each for each in found.problems if not re.search(said, each)] == []


def test_a_fine_tune_is_told_and_no_fault(inspected):
    rng = np.random.default_rng(0)

    def tune(weights):
        for name, weight in weights.items():
            weights[name] = weight + (0.15 * weight.std() * rng.normal(size=weight.shape)).astype(np.float32)

    found = inspected(tune, bits=8)
    assert found.problems == ()
    (further,) = [note for note in found.notes if "further from the reference than rounding" in note]
    assert further.startswith("29 tensors (model.embed_tokens.weight, …)")


def test_a_matrix_of_another_size_as_a_whole_is_told(inspected):
    def double(weights):
        weights[LAYER(0) + "mlp.up_proj.weight"] *= 2

    found = inspected(double)
    assert found.problems == ()
    (note,) = found.notes
    assert re.match(r"1 tensors \(.*up_proj\.weight\) come back (2\.0\d|1\.9\d) to \1 times as large", note)


WEIGHT = np.random.default_rng(0).normal(size=(256, 512)).astype(np.float32)


def test_groups_with_wrong_signs_are_a_fault_whatever_the_factors():
    factors = np.exp(np.random.default_rng(1).normal(0, 0.5, 512))
    wrong = (WEIGHT * factors).astype(np.float32)
    wrong[17, 64:128] *= -1
    (problem,) = foreign.matrix("w", WEIGHT, wrong + 0.05 * WEIGHT[::-1], 4.5).problems
    assert "1 of 2,048 groups of 64 weights" in problem
    assert "(row 17, columns from 64)" in problem


@pytest.mark.parametrize(
    ("decoded", "said"),
    [
        (np.full_like(WEIGHT, np.nan), "w comes back with NaN or infinite values."),
        (WEIGHT[:, :64], "w has shape (256, 512) and comes back as (256, 64)."),
        (np.zeros_like(WEIGHT), "w comes back as zeros."),
    ],
)
def test_what_cannot_be_compared_is_a_fault(decoded, said):
    assert foreign.matrix("w", WEIGHT, decoded, 4.5).problems == (said,)


def test_zeros_that_were_zeros_are_none():
    assert foreign.matrix("w", np.zeros((64, 64)), np.zeros((64, 64)), 4.5).problems == ()
    assert foreign.kept("b", np.zeros(64), np.zeros(64)).problems == ()
    assert foreign.kept("n", np.ones(64), np.ones(64)).problems == ()


@pytest.mark.parametrize(
    ("decoded", "problem", "differs"),
    [
        (lambda norm: norm.astype(np.float16).astype(np.float32), "", False),
        (lambda norm: norm * 1.5, "", True),
        (np.zeros_like, "n comes back with all of its values 0.", False),
        (lambda norm: np.full_like(norm, np.inf), "n comes back with NaN or infinite values.", False),
        (lambda norm: norm[:3], "n has shape (64,) and comes back as (3,).", False),
    ],
)
def test_norms_may_be_of_another_type_or_folded_and_not_gone(decoded, problem, differs):
    norm = 1 + 0.1 * np.random.default_rng(0).normal(size=64).astype(np.float32)
    found = foreign.kept("n", norm, decoded(norm))
    assert found.problems == ((problem,) if problem else ())
    assert found.kept_differs == differs


def test_the_record_has_notes_beside_what_is_wrong(tmp_path):
    weights = tiny_weights()
    fold(weights)
    zero(weights)
    quantized = as_mlx(directory_of(weights, tmp_path / "changed"), tmp_path / "q4", bits=4)
    candidate = Candidate(name="q4", source=str(quantized))
    settings = Settings(cache=tmp_path / "cache", limit=10, tokens=128, fixed=True)
    cell = Subject("Tiny", settings).cell(recipe_of_candidate(candidate, 4.5))
    cell.judge("size")
    assert [each.rpartition(" comes")[0] for each in cell.problems] == [LAYER(1) + "mlp.up_proj.weight"]
    saved = read(results.save(cell.record(), cell.raw(), tmp_path / "results"))
    assert (saved.integrity, len(saved.integrity_notes)) == (cell.problems, 2)
    lines = terminal.integrity_lines([saved])
    assert lines[0] == f"integrity: Tiny-q4: {cell.problems[0]}"
    assert lines[1].startswith("integrity: Tiny-q4 differs from its reference: 23 tensors")
    errors = {tensor.name: tensor.cosine for tensor in cell.samples("weights").tensors}
    assert min(errors.values()) == 0.0
    assert sum(cosine < 0.3 for cosine in errors.values()) == 1  # folded ones are clear of what benches/ asks
    assert json.loads((quantized / "config.json").read_text())["quantization"]
