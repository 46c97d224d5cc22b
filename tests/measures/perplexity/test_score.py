import math

import mlx.core as mx
import numpy as np
import pytest
from builders import capacity, engine, measured_losses, open_model
from hypothesis import given
from hypothesis import strategies as st
from small_models import shared
from text_like_logits import log_probabilities

from pytest_quantbench.catalog.models import TINY_DIRECTORY
from pytest_quantbench.catalog.recipes import recipe
from pytest_quantbench.checkpoints.tokenizer import load_tokenizer
from pytest_quantbench.compress.pipeline import compress
from pytest_quantbench.engines.mlx.walk import Walk
from pytest_quantbench.errors import CorpusError, ModelError, WeightError
from pytest_quantbench.fetch.texts import Text
from pytest_quantbench.judge import rules
from pytest_quantbench.measures.perplexity import score
from pytest_quantbench.measures.perplexity.reading import Reading, Script, Tokens
from pytest_quantbench.measures.perplexity.windows import check_length, windows
from pytest_quantbench.measures.samples import PerplexitySamples
from pytest_quantbench.record import perplexity_summary
from pytest_quantbench.record.raw import raw_perplexity

TEXT = Text(name="held out", content=(TINY_DIRECTORY / "heldout.txt").read_text())


def artifact_of(directory, tmp_path, recipe_id="bf16"):
    return compress(open_model(directory), recipe(recipe_id), 0, tmp_path / "cache")


def measure(directory, tmp_path, recipe_id="bf16", text=TEXT, host=True, reference=None, **reading):
    how = Reading(**({"tokens": 512, "sampling": "head"} | reading))
    artifact = artifact_of(directory, tmp_path, recipe_id)
    tokens = Tokens(text, load_tokenizer(directory), capacity(artifact.config))
    return measured_losses(engine(host=host), artifact, tokens, how, reference=reference)


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


@pytest.mark.slow
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


def test_without_bos_a_windows_first_token_is_not_scored():
    found = windows(7, 3, 3, scores_first=False)
    assert [(window.begin, window.end, window.first) for window in found] == [(0, 3, 1), (3, 6, 4)]
    found = windows(7, 3, 3, scores_first=True)
    assert [(window.begin, window.end, window.first) for window in found] == [(0, 3, 0), (3, 6, 3), (6, 7, 6)]


def test_sliding_windows_give_every_token_the_context_before_it():
    found = windows(10, 4, 2, scores_first=False)
    assert [(window.begin, window.end, window.first) for window in found] == [
        (0, 4, 1),
        (2, 6, 4),
        (4, 8, 6),
        (6, 10, 8),
    ]


@given(st.integers(2, 5000), st.integers(2, 700), st.integers(1, 700), st.booleans())
def test_every_token_is_scored_exactly_once(tokens, context, stride, scores_first):
    stride = min(stride, context)
    found = windows(tokens, context, stride, scores_first)
    scored = [token for window in found for token in range(window.first, window.end)]
    expected = range(tokens) if scores_first else [t for t in range(tokens) if t and (stride < context or t % context)]
    assert scored == list(expected)
    for window in found[1:]:
        assert window.end - window.begin <= context
        assert window.first - window.begin >= min(context - stride, window.first) or stride == context
    whole = PerplexitySamples(
        nll_nats=np.zeros(len(scored), np.float32),
        text_tokens=tokens,
        available_tokens=tokens,
        window_tokens=context if stride == context else tokens,
        unscored_tokens=0 if scores_first else 1,
        scored_bytes=1,
        protocol="",
        protocol_sha256="",
        corpus_revision=None,
        corpus="",
        corpus_sha256="",
        weights_sha256="",
        seconds=0.0,
    )
    assert len(whole.as_of(tokens).nll_nats) == len(scored)
    fewer = windows(tokens // 2 + 1, context, stride, scores_first)
    assert len(whole.as_of(tokens // 2 + 1).nll_nats) == sum(window.end - window.first for window in fewer)


def test_a_stride_is_many_short_forwards(tmp_path):
    """Every token's loss is that of a plain forward pass over its window."""
    samples = measure(TINY_DIRECTORY, tmp_path, tokens=200, context=64, stride=16)
    tokenizer = load_tokenizer(TINY_DIRECTORY)
    ids = tokenizer.encode(TEXT.content, add_special_tokens=False)[:200]
    artifact = artifact_of(TINY_DIRECTORY, tmp_path)
    place = 0
    for window in windows(200, 64, 16, scores_first=True):
        walk = Walk(artifact, host=True)
        walk.run([mx.array([[tokenizer.bos_token_id, *ids[window.begin : window.end - 1]]])], "")
        logits = np.array(walk.head(0, slice(None)))[0].astype(np.float64)
        logits -= logits.max(-1, keepdims=True)
        logits -= np.log(np.exp(logits).sum(-1, keepdims=True))
        for token in range(window.first, window.end):
            assert samples.nll_nats[place] == pytest.approx(-logits[token - window.begin, ids[token]], abs=1e-4)
            place += 1
    assert place == len(samples.nll_nats) == 200
    assert "windows of 64 each 16 after the one before" in samples.protocol
    assert samples.nll_nats.mean() < measure(TINY_DIRECTORY, tmp_path, tokens=200, context=64).nll_nats.mean()


@pytest.mark.parametrize(("length", "tokens"), [(1000, 512), (0, None), (3, None), (600, None), (1500, 1600)])
def test_a_text_shorter_than_two_windows_is_refused_with_the_numbers(length, tokens):
    with pytest.raises(CorpusError, match=f"has {length} tokens"):
        check_length(length, length if tokens is None else tokens, 512, "short")


def test_a_stretch_at_a_time_gives_the_same_as_all_at_once(tmp_path, monkeypatch):
    whole = measure(TINY_DIRECTORY, tmp_path).nll_nats
    monkeypatch.setattr(score, "LOGITS_AT_ONCE", 2048 * 100)
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


@pytest.mark.parametrize(
    "how",
    [
        {"sampling": "head"},
        {"sampling": "head", "context": 100},
        {"sampling": "head", "context": 128, "stride": 50},
        {},
        {"context": 100, "stride": 100},
    ],
)
def test_tokens_that_are_added_give_what_all_at_once_would(tmp_path, how):
    """Losses, distributions and divergences, across a window that goes on."""
    plain, rounded = artifact_of(TINY_DIRECTORY, tmp_path), artifact_of(TINY_DIRECTORY, tmp_path, "int4-rtn")

    def run(artifact, tokens, **rest):
        read = Tokens(TEXT, load_tokenizer(TINY_DIRECTORY), capacity(artifact.config))
        return measured_losses(engine(host=True), artifact, read, Reading(tokens=tokens, **how), **rest)

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


@pytest.mark.parametrize("parts", [(), ("stories260k",)])
@pytest.mark.parametrize("recipe_id", ["int8", "int3-rtn"])
def test_the_divergence_is_that_of_the_full_distributions(tmp_path, parts, recipe_id):
    """Log-probabilities of every token, in float64, at every scored position."""
    directory = shared(*parts) if parts else TINY_DIRECTORY
    artifacts = [artifact_of(directory, tmp_path, name) for name in ("bf16", recipe_id)]
    tokens = Tokens(TEXT, load_tokenizer(directory), capacity(artifacts[0].config))
    script = Script(tokens, Reading(tokens=300, sampling="head"))
    walk = Walk(*artifacts, host=True)
    walk.run(script.batches(), "")
    reference = score.score(script, walk)
    found = score.score(script, walk, track=1, reference=reference).fidelity
    rows = [
        np.concatenate([np.array(walk.head(i, slice(None), t))[0] for i in range(len(script.open))]) for t in (0, 1)
    ]
    first, second = (log_probabilities(each) for each in rows)
    truth = (np.exp(first) * (first - second)).sum(-1)
    np.testing.assert_allclose(found.kl_nats, truth, rtol=1e-4, atol=1e-8)
    assert not found.error_nats.any()


def test_windows_are_counted_where_it_is_known_how_many_tokens_each_scores():
    """Tiny takes 512 tokens, whatever was asked for; a text may have fewer windows than shall be drawn."""
    limits = capacity({"max_position_embeddings": 512})
    for content, wanted, count in ((TEXT.content, 8 * 512, 8), (TEXT.content[:9000], 2126, 5)):
        tokens = Tokens(Text(name="held out", content=content), load_tokenizer(TINY_DIRECTORY), limits)
        how = Reading(tokens=512, context=8192, stride=8192, fewest_windows=8)
        script = Script(tokens, how)
        assert (script.context, script.stride, script.wanted, len(script.whole)) == (512, 512, wanted, count)
        assert script.protocol.startswith("all of the text in windows of 512, the last 512 tokens of each scored")


def test_a_model_has_no_divergence_from_itself(tmp_path):
    reference = measure(TINY_DIRECTORY, tmp_path)
    again = measure(TINY_DIRECTORY, tmp_path, reference=reference)
    assert again.fidelity.kl_nats.max() < 1e-5
    assert again.fidelity.same_top.all()


def test_a_vocabulary_larger_than_the_tokenizers_is_counted_whole(small_model, tmp_path):
    """Models pad theirs: what no text gives still takes its share of the probability."""
    directory = small_model(vocab_size=4096)
    weights = mx.load(str(directory / "model.safetensors"))
    weights["lm_head.weight"] = mx.zeros_like(weights["lm_head.weight"])
    mx.save_safetensors(str(directory / "changed.safetensors"), weights)
    (directory / "changed.safetensors").rename(directory / "model.safetensors")
    np.testing.assert_allclose(measure(directory, tmp_path).nll_nats, math.log(4096), rtol=1e-6)


def test_a_vocabulary_smaller_than_the_tokenizers_is_refused(small_model, tmp_path):
    with pytest.raises(ModelError, match="the model knows 500: they do not belong together"):
        measure(small_model(vocab_size=500), tmp_path)


def test_drawn_windows_give_what_a_plain_forward_over_each_does(tmp_path):
    """In Transformers, window by window at the places that the samples name."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    samples = measure(TINY_DIRECTORY, tmp_path, tokens=512, sampling="windows", seed=3)
    assert samples.protocol == (
        "all of the text in windows of 256, the last 64 tokens of each scored, drawn at random (seed 3), every window "
        "starts with BOS, float32"
    )
    tokenizer = transformers.AutoTokenizer.from_pretrained(TINY_DIRECTORY)
    model = transformers.AutoModelForCausalLM.from_pretrained(TINY_DIRECTORY, dtype=torch.float32).eval().double()
    ids = tokenizer.encode(TEXT.content, add_special_tokens=False)
    drawn, nll = samples.drawn, []
    assert list(drawn.counts) == [64] * 8
    assert drawn.population == -(-len(ids) // 64)
    for begin in drawn.begins:
        window = torch.tensor([[tokenizer.bos_token_id, *ids[max(0, begin - 192) : begin + 64]]])
        with torch.no_grad():
            logits = model(window[:, :-1]).logits[0, -64:]
        nll += torch.nn.functional.cross_entropy(logits, window[0, -64:], reduction="none").tolist()
    assert np.abs(samples.nll_nats - np.array(nll)).max() < 1e-4
    assert samples.scored_bytes == sum(len(tokenizer.decode(ids[b : b + 64]).encode()) for b in drawn.begins)


def test_all_of_a_text_is_read_once_and_leaves_no_interval(tmp_path):
    text = Text(name="short", content=TEXT.content[:2000])
    samples = measure(TINY_DIRECTORY, tmp_path, text=text, tokens=None, sampling="windows")
    assert samples.drawn.whole
    assert sorted(samples.drawn.scored()) == list(range(samples.available_tokens))
    assert samples.text_tokens == len(samples.nll_nats) == samples.available_tokens
    rounded = measure(TINY_DIRECTORY, tmp_path, "int3-rtn", text=text, tokens=None, sampling="windows")
    figures = perplexity_summary.perplexity(rounded, samples)
    assert figures.delta_interval.low == figures.delta_interval.high == pytest.approx(figures.delta)
    verdict = rules.judge_perplexity(rounded, samples, figures.delta + 1e-6)
    assert (verdict.outcome, verdict.confidence) == ("pass", 1)
    assert rules.judge_perplexity(rounded, samples, figures.delta - 1e-6).outcome == "fail"
    assert "which are all of short" in verdict.sentence


def test_losses_can_be_found_again_in_the_text(tmp_path):
    """The raw samples say which tokens they are: a larger sample holds the smaller one's, at the same places."""
    small, large = (measure(TINY_DIRECTORY, tmp_path, tokens=n, sampling="windows") for n in (256, 512))
    at = dict(zip(large.drawn.scored(), large.nll_nats, strict=True))
    np.testing.assert_allclose(small.nll_nats, [at[place] for place in small.drawn.scored()], atol=1e-5)
    raw = raw_perplexity(small)
    np.testing.assert_array_equal(raw["perplexity/window_begins"], small.drawn.begins)
    assert raw["perplexity/window_counts"].sum() == len(raw["perplexity/nll_nats"])
    np.testing.assert_array_equal(large.as_of(256).nll_nats, large.nll_nats[:256])
    assert len(large.as_of(200).drawn.counts) == 4


@pytest.mark.parametrize(
    ("tokens", "stride", "told"),
    [
        (64, None, "--tokens 64 is less than two windows that score 64 tokens each"),
        (300, 200, "Give --tokens 400 or more, a smaller --stride, or --sampling head"),
        (10**6, None, "and 1000000 tokens were asked for"),
    ],
)
def test_a_sample_of_less_than_two_windows_is_refused_with_the_way_out(tmp_path, tokens, stride, told):
    with pytest.raises(CorpusError, match=told):
        measure(TINY_DIRECTORY, tmp_path, tokens=tokens, stride=stride, sampling="windows")
