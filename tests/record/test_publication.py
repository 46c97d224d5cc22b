"""What a publication says of model and recipe: from configs of several kinds, and from recipes of every level."""

import json
from types import SimpleNamespace

import pytest

from pytest_quantbench import quantizers
from pytest_quantbench.catalog.candidates import Candidate
from pytest_quantbench.catalog.models import TINY_DIRECTORY
from pytest_quantbench.catalog.recipes import LEVELS, recipe, recipe_of_candidate
from pytest_quantbench.errors import QuantbenchError
from pytest_quantbench.quantizers.rtn import Rtn
from pytest_quantbench.record.publication import facts, recipe_parameters
from pytest_quantbench.record.publication_schema import ModelFacts

MANIFEST = SimpleNamespace(bf16_bytes=2_468)


def test_tinys_sizes_are_those_of_its_config():
    config = json.loads((TINY_DIRECTORY / "config.json").read_text())
    assert facts(config, MANIFEST) == ModelFacts(
        parameters=1234,
        architecture=config["architectures"][0],
        layers=config["num_hidden_layers"],
        hidden_size=config["hidden_size"],
        vocabulary=config["vocab_size"],
        context_tokens=config["max_position_embeddings"],
    )


def test_the_text_part_of_a_model_of_several_kinds_counts():
    text = {"num_hidden_layers": 34, "hidden_size": 2560, "vocab_size": 262_208, "max_position_embeddings": 131_072}
    config = {"architectures": ["OddForConditionalGeneration"], "hidden_size": 1, "text_config": text, "vocab_size": 9}
    found = facts(config, MANIFEST)
    assert (found.architecture, found.layers, found.hidden_size) == ("OddForConditionalGeneration", 34, 2560)
    assert (found.vocabulary, found.context_tokens) == (262_208, 131_072)
    partly = facts(config | {"text_config": {"num_hidden_layers": 2}}, MANIFEST)
    assert (partly.layers, partly.vocabulary, partly.context_tokens) == (2, 9, None)


def test_other_names_of_the_same_are_known_and_what_is_no_number_is_null():
    older = {"model_type": "gpt2", "n_layer": 12, "n_embd": 768, "n_positions": 1024, "vocab_size": 50_257}
    found = facts(older, MANIFEST)
    assert (found.architecture, found.layers, found.hidden_size, found.context_tokens) == ("gpt2", 12, 768, 1024)
    odd = {"architectures": [], "n_layer": True, "hidden_size": "wide", "vocab_size": None, "text_config": 3}
    assert facts(odd, MANIFEST) == ModelFacts(parameters=1234, architecture="")


def test_a_recipe_tells_the_parameters_of_each_quantizer():
    found = recipe_parameters(recipe("int3-rtn"))
    assert (found["rtn.bits"], found["outer.rtn.bits"]) == ("3", "4")
    assert found["rtn.group_size"] == str(Rtn(bits=3).group_size)
    assert found["outer.rtn.group_size"] == "64"
    mixed = recipe_parameters(recipe("int4-q4_k_m"))
    assert (mixed["kquant.bits"], mixed["lm_head.kquant.bits"], mixed["v_proj/down_proj.kquant.bits"]) == (
        "4",
        "6",
        "6",
    )


@pytest.mark.parametrize("level", [level for level in LEVELS if level != "bf16"])
@pytest.mark.parametrize("method", ["", "gptq", "awq", "hqq", "kquant"])
def test_no_field_of_any_recipe_is_left_out(level, method):
    try:
        one = quantizers.recipe_of(f"{level}{method and '-'}{method}")
    except QuantbenchError:
        pytest.skip("the method does not have this width")
    found = recipe_parameters(one)
    for place, part in (("", one.inner), ("outer.", one.outer)):
        for name in quantizers.field_names(quantizers.get(part.quantizer)):
            assert found[f"{place}{part.quantizer}.{name}"]
    assert all(isinstance(value, str) for value in found.values())


def test_the_reference_and_a_candidate_have_none():
    assert recipe_parameters(recipe("bf16")) == {}
    candidate = Candidate(name="theirs", source="theirs.gguf")
    assert recipe_parameters(recipe_of_candidate(candidate, 4.5)) == {}
