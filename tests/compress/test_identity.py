"""A candidate beside its reference, as a whole: what is found, what is listed, and whose config it runs with."""

import json

import mlx.core as mx
import pytest
from builders import open_model
from mlx_models import as_mlx

from pytest_quantbench.catalog.candidates import Candidate
from pytest_quantbench.catalog.models import TINY_DIRECTORY
from pytest_quantbench.catalog.recipes import recipe_of_candidate
from pytest_quantbench.checkpoints.formats import open_candidate
from pytest_quantbench.checkpoints.formats.protocol import Claims
from pytest_quantbench.checkpoints.tokenizer import load_tokenizer
from pytest_quantbench.compress.external import External
from pytest_quantbench.compress.identity import check, config_for, facts
from pytest_quantbench.errors import ModelError


@pytest.fixture(scope="module")
def tiny():
    return open_model(TINY_DIRECTORY), load_tokenizer(TINY_DIRECTORY)


def checked(directory, tiny):
    reference, tokenizer = tiny
    holding = open_candidate(directory)
    made = External(
        holding, reference, recipe_of_candidate(Candidate(name="c", source=str(directory)), 4.5), reference.config
    )
    return check(reference, tokenizer, holding.claims(), made.float32, directory)


def test_an_honest_candidate_is_the_references_and_differs_in_nothing(tmp_path, tiny):
    found = checked(as_mlx(TINY_DIRECTORY, tmp_path / "q4", bits=4), tiny)
    assert found.differences == ()
    assert found.tokens == 2048
    assert 0.99 < found.least_cosine < found.median_cosine < 1


def test_what_its_files_say_otherwise_is_listed(tmp_path, tiny):
    directory = as_mlx(TINY_DIRECTORY, tmp_path / "q2", bits=2)
    config = json.loads((directory / "config.json").read_text())
    config["rope_parameters"]["rope_theta"] = 50000.0
    (directory / "config.json").write_text(json.dumps(config))
    (directory / "generation_config.json").write_text('{"temperature": 0.7}')
    (directory / "chat_template.jinja").write_text("{{ messages }}")
    found = checked(directory, tiny)
    assert [each.what for each in found.differences] == [
        "base of positions",
        "chat template",
        "generation: temperature",
    ]
    assert 0.8 < found.least_cosine < 0.95


def test_a_broken_tokenizer_is_listed_and_not_used(tmp_path, tiny):
    directory = as_mlx(TINY_DIRECTORY, tmp_path / "q4", bits=4)
    (directory / "tokenizer.json").write_text("{")
    found = checked(directory, tiny)
    assert found.tokens is None
    assert [each.what for each in found.differences] == ["tokenizer"]
    assert "cannot be opened" in found.differences[0].candidate


@pytest.mark.parametrize("rows", [2048, 2040])
def test_a_vocabulary_that_was_cut_behind_its_tokens_is_judged(small_model, rows):
    """As conversion to GGUF does it with Gemma 3's 262,208 rows for 262,144 tokens. One that lacks tokens is not."""
    original, cut = (small_model("llama", vocab_size=2112, **more) for more in ({}, {"max_position_embeddings": 128}))
    held = mx.load(str(original / "model.safetensors"))
    shorter = {name: array[:rows] if array.shape[0] == 2112 else array for name, array in held.items()}
    mx.save_safetensors(str(cut / "model.safetensors"), shorter)
    reference, tokenizer = open_model(original), load_tokenizer(original)
    candidate = Candidate(name="c", source=str(cut))
    made = External(open_candidate(cut), reference, recipe_of_candidate(candidate, 16), reference.config)
    if rows < 2048:
        with pytest.raises(ModelError, match=r"vocabulary 2040 against 2112, and no embedding of token 2040 .* 7 more"):
            facts(made, candidate, reference, tokenizer)
        return
    found = facts(made, candidate, reference, tokenizer).identity
    assert [each.what for each in found.differences if "context" not in each.what] == ["rows of embeddings"]
    assert found.least_cosine > 0.9999
    walk = reference.engine.walk([made])
    walk.run([mx.array([[1, 2, 3]])], "")
    assert walk.vocabulary == 2112
    assert len(reference.engine.load(made, "timed").timed([1, 2, 3], 4).tokens) == 4


def test_a_model_of_other_weights_is_refused(tmp_path, tiny):
    """The same shapes and tokenizer, and weights that were never trained."""
    mx.random.seed(0)
    held = mx.load(str(TINY_DIRECTORY / "model.safetensors"))
    other = tmp_path / "other"
    other.mkdir()
    random = {name: mx.random.normal(array.shape).astype(array.dtype) for name, array in held.items()}
    mx.save_safetensors(str(other / "model.safetensors"), random)
    for file in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (other / file).write_bytes((TINY_DIRECTORY / file).read_bytes())
    with pytest.raises(ModelError, match="weights are not the reference's"):
        checked(as_mlx(other, tmp_path / "q4", bits=4), tiny)


LLAMA = json.loads((TINY_DIRECTORY / "config.json").read_text())


def test_its_own_config_has_its_positions_and_no_sizes_of_its_own():
    claims = Claims(
        config={
            "hidden_size": 999,
            "num_hidden_layers": 7,
            "vocab_size": 5,
            "layer_norm_eps": 1e-6,
            "max_position_embeddings": 4096,
            "sliding_window": 128,
            "rope_theta": 5e5,
            "rope_scaling": {"type": "linear", "factor": 2.0},
        }
    )
    own = config_for(LLAMA, claims)
    changed = {key for key in own.keys() | LLAMA.keys() if own.get(key) != LLAMA.get(key)}
    assert changed == {"rms_norm_eps", "max_position_embeddings", "sliding_window", "rope_parameters"}
    assert (own["rms_norm_eps"], own["max_position_embeddings"], own["sliding_window"]) == (1e-6, 4096, 128)
    assert own["rope_parameters"] == {"rope_theta": 5e5, "rope_type": "linear", "factor": 2.0}


@pytest.mark.parametrize("claims", [Claims(), Claims(config={}), Claims(config=LLAMA)])
def test_what_is_not_said_stays_the_references(claims):
    assert config_for(LLAMA, claims) == LLAMA


def test_positions_of_a_model_in_a_model_are_put_in_there():
    text = {"model_type": "gemma3_text", "hidden_size": 64, "rope_theta": 1e6, "rope_local_base_freq": 1e4}
    own = config_for({"model_type": "gemma3", "text_config": text}, Claims(config={"rope_theta": 2e6}))
    assert own["model_type"] == "gemma3"
    assert own["text_config"]["rope_parameters"]["full_attention"]["rope_theta"] == 2e6
    assert own["text_config"]["rope_parameters"]["sliding_attention"]["rope_theta"] == 1e4
    assert "rope_theta" not in own["text_config"]


def test_with_its_own_config_the_model_opens_and_is_another(tmp_path):
    """The engine reads what was put in."""
    own = config_for(LLAMA, Claims(config={"rope_theta": 500.0}))
    (tmp_path / "config.json").write_text(json.dumps(own))
    for file in ("model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / file).write_bytes((TINY_DIRECTORY / file).read_bytes())
    assert open_model(tmp_path).model.layers[0].self_attn.rope.base == 500.0
