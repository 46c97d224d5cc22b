import math

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_models import shared

from pytest_quantbench import quantizers
from pytest_quantbench.catalog import TINY_DIRECTORY
from pytest_quantbench.checkpoint import Checkpoint
from pytest_quantbench.compress import compress
from pytest_quantbench.errors import CorpusError, WeightError
from pytest_quantbench.hub import Text
from pytest_quantbench.measures import perplexity
from pytest_quantbench.recipes import recipe

TEXT = Text(name="held out", content=(TINY_DIRECTORY / "heldout.txt").read_text())


def artifact_of(directory, tmp_path, recipe_id="bf16"):
    return compress(Checkpoint(directory), recipe(recipe_id, quantizers.names()), 0, tmp_path / "cache")


def measure(directory, tmp_path, recipe_id="bf16", text=TEXT, tokens=512, host=True):
    return perplexity.measure(artifact_of(directory, tmp_path, recipe_id), directory, text, tokens, host=host)


def test_uniform_logits_give_the_vocabulary_as_perplexity(small_model, tmp_path):
    directory = small_model()
    weights = mx.load(str(directory / "model.safetensors"))
    weights["lm_head.weight"] = mx.zeros_like(weights["lm_head.weight"])
    mx.save_safetensors(str(directory / "changed.safetensors"), weights)
    (directory / "changed.safetensors").rename(directory / "model.safetensors")
    samples = measure(directory, tmp_path)
    np.testing.assert_allclose(samples.nll_nats, math.log(2048), rtol=1e-6)


def transformers_nll(directory, text, tokens, context):
    """The same protocol in Transformers and PyTorch, window by window, written without looking at ours.

    In float64, so that what is left is our float32 error alone: two float32 computations differ by up to twice that.
    """
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    model = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval().double()
    ids = tokenizer.encode(text, add_special_tokens=False)[:tokens]
    nll = []
    for start in range(0, tokens, context):
        window = torch.tensor([[tokenizer.bos_token_id, *ids[start : start + context]]])
        with torch.no_grad():
            logits = model(window[:, :-1]).logits
        nll += torch.nn.functional.cross_entropy(logits[0], window[0, 1:], reduction="none").tolist()
    return np.array(nll)


@pytest.mark.parametrize("host", [True, False])
def test_tiny_agrees_with_transformers(tmp_path, host):
    ours = measure(TINY_DIRECTORY, tmp_path, tokens=600, host=host).nll_nats
    assert np.abs(ours - transformers_nll(TINY_DIRECTORY, TEXT.content, 600, 512)).max() < 1e-4


def test_stories260k_agrees_with_transformers(tmp_path):
    directory = shared("stories260k")
    text = Text(name="wikitext2", content=shared("wikitext2", "wiki.test.raw").read_text())
    ours = measure(directory, tmp_path, text=text, tokens=1100).nll_nats
    assert np.abs(ours - transformers_nll(directory, text.content, 1100, 512)).max() < 1e-4


def test_stories260k_is_as_good_on_its_own_kind_of_text_as_it_is_known_to_be(tmp_path):
    story = (
        "Once upon a time, there was a little girl named Lily. She loved to play outside in the park. One day, she "
        'saw a big, red ball. She wanted to play with it, but it was too high. Her mom said, "Lily, let\'s go."'
    )
    samples = measure(shared("stories260k"), tmp_path, text=Text(name="story", content=story * 4), tokens=80)
    assert 0.4 < float(np.mean(samples.nll_nats)) < 2.0  # 1.32 nats on TinyStories; this is easier


def test_the_protocol_says_what_was_done(tmp_path):
    samples = measure(TINY_DIRECTORY, tmp_path, tokens=600)
    assert samples.protocol == (
        "from the first token on, windows of 512 that do not overlap, every window starts with BOS, float32"
    )
    assert len(samples.nll_nats) == 600
    assert samples.corpus_sha256 == TEXT.sha256
    assert 3 * 600 < samples.scored_bytes < 6 * 600


def test_without_bos_a_windows_first_token_is_not_scored(tmp_path):
    inputs, targets = perplexity._batches([[5, 6, 7], [8, 9]], None)
    assert [batch.tolist() for batch in inputs] == [[[5, 6]], [[8]]]
    assert [batch.tolist() for batch in targets] == [[[6, 7]], [[9]]]
    inputs, targets = perplexity._batches([[5, 6, 7]], 0)
    assert (inputs[0].tolist(), targets[0].tolist()) == ([[0, 5, 6]], [[5, 6, 7]])


@given(st.integers(2, 5000), st.integers(2, 700))
def test_every_token_is_in_exactly_one_window(tokens, context):
    windows = perplexity.cut(range(2 * max(tokens, context)), tokens, context, "t")
    flat = [token for window in windows for token in window]
    assert flat == list(range(len(flat)))
    assert tokens - len(flat) == (1 if tokens % context == 1 else 0)
    assert all(1 < len(window) <= context for window in windows)


@pytest.mark.parametrize(("length", "tokens"), [(1000, 512), (0, None), (3, None), (600, None), (1500, 1600)])
def test_a_text_shorter_than_two_windows_is_refused_with_the_numbers(length, tokens):
    with pytest.raises(CorpusError, match=f"has {length} tokens"):
        perplexity.cut(range(length), tokens, 512, "short")


def test_a_stretch_at_a_time_gives_the_same_as_all_at_once(tmp_path, monkeypatch):
    whole = measure(TINY_DIRECTORY, tmp_path).nll_nats
    monkeypatch.setattr(perplexity, "LOGITS_AT_ONCE", 2048 * 100)
    np.testing.assert_allclose(measure(TINY_DIRECTORY, tmp_path).nll_nats, whole, atol=1e-5)


def test_logits_that_are_no_numbers_are_an_error(small_model, tmp_path):
    directory = small_model()
    weights = mx.load(str(directory / "model.safetensors"))
    weights["model.norm.weight"] = mx.full((64,), 3e38, mx.bfloat16)
    weights["lm_head.weight"] = mx.full((2048, 64), 3e38, mx.bfloat16)
    mx.save_safetensors(str(directory / "changed.safetensors"), weights)
    (directory / "changed.safetensors").rename(directory / "model.safetensors")
    with pytest.raises(WeightError, match="no numbers"):
        measure(directory, tmp_path)


def test_tokens_that_are_added_give_what_all_at_once_would(tmp_path):
    """Losses, distributions and divergences, across a window that goes on."""
    plain, rounded = artifact_of(TINY_DIRECTORY, tmp_path), artifact_of(TINY_DIRECTORY, tmp_path, "int4-rtn")

    def run(artifact, tokens, **rest):
        return perplexity.measure(artifact, TINY_DIRECTORY, TEXT, tokens, host=True, **rest)

    first, whole = run(plain, 300), run(plain, 700)
    grown = run(plain, 700, before=first)
    np.testing.assert_allclose(grown.nll_nats, whole.nll_nats, atol=1e-5)
    np.testing.assert_allclose(grown.distributions.rest, whole.distributions.rest, atol=1e-5)
    assert (grown.text_tokens, grown.scored_bytes) == (whole.text_tokens, whole.scored_bytes)
    other = run(rounded, 700, before=run(rounded, 300, reference=first), reference=grown)
    at_once = run(rounded, 700, reference=whole)
    np.testing.assert_allclose(other.fidelity.kl_nats, at_once.fidelity.kl_nats, atol=1e-5)
    assert other.fidelity.kl_nats.mean() > 0.001
    assert other.distributions is None


def test_a_model_has_no_divergence_from_itself(tmp_path):
    reference = measure(TINY_DIRECTORY, tmp_path)
    again = perplexity.measure(
        artifact_of(TINY_DIRECTORY, tmp_path), TINY_DIRECTORY, TEXT, 512, host=True, reference=reference
    )
    assert again.fidelity.kl_nats.max() < 1e-5
    assert again.fidelity.same_top.all()
