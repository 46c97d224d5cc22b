import json

import pytest

from pytest_quantbench.catalog import TINY_DIRECTORY
from pytest_quantbench.tokens import end_tokens, load_tokenizer


@pytest.mark.parametrize(
    ("config", "generation", "expected"),
    [
        (None, None, {1}),
        ({"eos_token_id": 5}, None, {1, 5}),
        ({"eos_token_id": 1}, {"eos_token_id": [7, 8]}, {1, 7, 8}),
        ({"eos_token_id": None}, {"temperature": 0.7}, {1}),
    ],
)
def test_what_ends_an_answer_is_in_the_models_files(config, generation, expected, tmp_path):
    for name, content in (("config", config), ("generation_config", generation)):
        if content is not None:
            (tmp_path / f"{name}.json").write_text(json.dumps(content))
    assert end_tokens(tmp_path, load_tokenizer(TINY_DIRECTORY)) == expected


def test_a_tokenizer_without_an_end_has_none(tmp_path):
    tokenizer = load_tokenizer(TINY_DIRECTORY)
    tokenizer.eos_token = None
    assert end_tokens(tmp_path, tokenizer) == frozenset()
