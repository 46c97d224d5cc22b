"""Several texts that go on together, by captured steps and module by module, each as it goes on alone."""

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from engines.torch.decoding import loaded, made

from pytest_quantbench.engines.torch import decode_step
from pytest_quantbench.errors import ModelError

PROMPTS = [[5, 9, 100, 7, 3, 1, 44], [17, 2, 11, 90, 6, 8, 21], [30, 31, 32, 33, 34, 35, 36]]


@pytest.mark.parametrize("recipe_id", [pytest.param("bf16", marks=pytest.mark.slow), "int4-rtn"])
def test_rows_of_a_captured_step_are_single_runs(recipe_id, tmp_path):
    resident = loaded(made("llama-default", tmp_path / "llama")[0], tmp_path, recipe_id)
    found = resident.timed_batch(PROMPTS, 6)
    assert found.step == "captured"
    assert found.tokens == tuple(resident.timed(prompt, 6).tokens for prompt in PROMPTS)
    assert resident.timed_batch(PROMPTS[:1], 6).tokens == found.tokens[:1]


def test_a_prompt_that_is_read_piece_by_piece_is_the_same(tmp_path, monkeypatch):
    resident = loaded(made("llama-default", tmp_path / "llama")[0], tmp_path)
    whole = resident.timed_batch([each * 3 for each in PROMPTS], 4).tokens
    monkeypatch.setattr(decode_step, "piece", lambda tokens: 4)
    assert resident.timed_batch([each * 3 for each in PROMPTS], 4).tokens == whole


def test_the_scores_of_a_piece_are_bounded():
    for tokens in (1, 512, 2048, 4096, 8192, 16_384, 10**6):
        size = decode_step.piece(tokens)
        assert 1 <= size <= tokens
        assert size * tokens <= decode_step.MOST_AT_ONCE**2 or size == decode_step.LEAST_AT_ONCE


def test_a_model_that_reads_one_text_at_a_time_says_so(tmp_path):
    resident = loaded(made("qwen2-dynamic", tmp_path / "dynamic")[0], tmp_path)
    with pytest.raises(ModelError, match="reads one text at a time"):
        resident.timed_batch(PROMPTS, 2)
    assert resident.timed_batch(PROMPTS[:1], 3).step == "module by module"
    assert [len(each.tokens) for each in resident.timed_requests(PROMPTS, 3)] == [3, 3, 3]


def test_memory_is_told_by_what_is_held(tmp_path):
    resident = loaded(made("llama-default", tmp_path / "llama")[0], tmp_path)
    config = resident.model.config
    heads, width = config.num_key_value_heads, config.hidden_size // config.num_attention_heads
    assert resident.cache_bytes_per_token == 2 * 4 * heads * width * config.num_hidden_layers
    small, large = resident.batch_bytes(1, 100), resident.batch_bytes(8, 100)
    assert large - small >= 7 * 100 * resident.cache_bytes_per_token
