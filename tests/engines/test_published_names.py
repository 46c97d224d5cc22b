"""Names of published tensors: prefixes exchanged, other senses left out, what is missing or too much named."""

import pytest

from pytest_quantbench.engines.published_names import (
    is_of_other_senses,
    refuse_unlike,
    renamed,
    with_head,
    with_head_as_stored,
)
from pytest_quantbench.errors import ModelError


def test_the_longest_prefix_is_exchanged():
    prefixes = {"model.": "x.", "model.language_model.": "model."}
    assert renamed("model.language_model.layers.0", prefixes) == "model.layers.0"
    assert renamed("model.layers.0", prefixes) == "x.layers.0"
    assert renamed("lm_head.weight", prefixes) == "lm_head.weight"


@pytest.mark.parametrize("name", ["vision_tower.x", "model.visual.y", "model.multi_modal_projector.z", "audio.w"])
def test_what_sees_and_hears_is_known_by_its_name(name):
    assert is_of_other_senses(name)
    assert not is_of_other_senses("model.layers.0.vision")


def test_what_is_missing_is_named_before_what_is_too_much():
    refuse_unlike([], [])
    with pytest.raises(ModelError, match=r"it lacks a \(and 2 more\)"):
        refuse_unlike(["b", "a"], ["c"])
    with pytest.raises(ModelError, match=r"it has c, which the architecture does not: config.json"):
        refuse_unlike([], ["c"])


@pytest.mark.parametrize(
    ("said", "names", "equal", "tied"),
    [
        ({}, ["embed_tokens.weight"], True, True),
        ({}, ["embed_tokens.weight", "lm_head.weight"], True, True),
        ({}, ["embed_tokens.weight", "lm_head.weight"], False, False),
        ({"tie_word_embeddings": False}, ["embed_tokens.weight", "lm_head.weight"], True, False),
        ({"tie_word_embeddings": True}, ["embed_tokens.weight", "lm_head.weight"], True, True),
    ],
)
def test_a_config_is_completed_by_what_is_stored(said, names, equal, tied):
    assert with_head_as_stored(said, names, lambda one, other: equal)["tie_word_embeddings"] is tied


def test_what_the_text_model_says_is_written_where_it_is_read():
    config = with_head({"text_config": {}, "tie_word_embeddings": False}, own=False)
    assert config["text_config"] == {"tie_word_embeddings": False}
    with pytest.raises(ModelError, match="neither true nor false"):
        with_head({"tie_word_embeddings": "yes"}, own=True)
