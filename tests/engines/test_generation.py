"""Greedy answers of both engines in batches, against one plain forward pass per token.

Batches and processors change sums by float noise, which may flip tokens that are nearly equally likely: where two are
within NEAR_TIE, the slow loop follows the answer.
"""

from functools import cache

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten, tree_unflatten
from small_models import CONFIGS, HEADS

from pytest_quantbench.catalog.models import TINY_DIRECTORY
from pytest_quantbench.checkpoints.checkpoint import Checkpoint
from pytest_quantbench.checkpoints.tokenizer import load_tokenizer
from pytest_quantbench.engines import answers as batching
from pytest_quantbench.engines.mlx import resident
from pytest_quantbench.engines.mlx.host_products import on_host
from pytest_quantbench.engines.mlx.skeleton import skeleton
from pytest_quantbench.errors import WeightError

NEAR_TIE = 1e-4  # of a logit; float noise is about 1e-5 here
TOKENIZER = load_tokenizer(TINY_DIRECTORY)
LENGTHS = [9, 14, 3, 20, 1, 12, 16, 10]
# By Transformers' names; with windows, soft caps, experts, learned positions, positions that depend on the length, and
# an attention of its own.
OF_TORCH = ["llama-biases", "gemma2", "gemma3_text-tied", "qwen3_moe", "gpt2", "qwen2-dynamic", "stablelm"]
QUICK = ["mlx llama", "mlx host gemma3_text", "torch gemma3_text-tied", "torch stablelm"]
ALL = [f"mlx {name}" for name in CONFIGS] + [f"mlx host {name}" for name in CONFIGS] + [f"torch {n}" for n in OF_TORCH]
CASES = [pytest.param(case, marks=() if case in QUICK else pytest.mark.slow) for case in ALL]


def of_mlx(architecture, host=False):
    mx.random.seed(0)
    model = skeleton(CONFIGS[architecture], HEADS)
    model.set_dtype(mx.float32)
    mx.eval(model.parameters())
    if host:
        twins = [(path, on_host(leaf)) for path, leaf in model.named_modules() if on_host(leaf) is not None]
        model.update_modules(tree_unflatten(twins))
    held = resident.Resident(model=model, activations="float32", dense_layers=0, host=host)
    return held, lambda tokens: np.array(model(mx.array([tokens]))[0, -1].astype(mx.float32))


def of_torch(architecture, directory):
    """As the engine loads it for answers, and Transformers' own model with its plain attention."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    from transformers_models import SMALL, save

    from pytest_quantbench.engines.torch.engine import TorchEngine

    save(directory, SMALL[architecture], [[1, 2, 3]])
    engine = TorchEngine(device="cpu")
    plain = transformers.AutoModelForCausalLM.from_pretrained(
        directory, attn_implementation="eager", dtype=torch.float32
    )

    def logits(tokens):
        with torch.no_grad():
            return plain(torch.tensor([tokens])).logits[0, -1].numpy()

    return engine.load(Opened(engine.open(Checkpoint(directory, None))), "answers"), logits


class Opened:
    """A checkpoint's weights as they are."""

    def __init__(self, architecture):
        self.config, self.names, self.dense = architecture.config, architecture.names, architecture.tensor

    def encoding(self, name):
        return None

    def inputs(self, name):
        return None


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """By case: what answers, and the logits after a text by one plain forward pass."""

    @cache
    def model(case):
        engine, *host, architecture = case.split()
        if engine == "torch":
            return of_torch(architecture, tmp_path_factory.mktemp(architecture))
        return of_mlx(architecture, bool(host))

    return model


def random_prompts(lengths=(1, 2, 3, 5, 9, 17, 30, 43)):
    rng = np.random.default_rng(0)
    return [[int(token) for token in rng.integers(3, 320, length)] for length in lengths]


def slow(logits_of, prompt, answer):
    """The likeliest token after one whole forward pass, again and again along an answer.

    Where the two likeliest are nearly equal, which of them wins is up to the processor, and the answer's is taken.
    """
    tokens = []
    for given in answer:
        logits = logits_of([*prompt, *tokens])
        near = np.flatnonzero(logits >= logits.max() - NEAR_TIE)
        tokens.append(given if given in near else int(logits.argmax()))
    return tuple(tokens)


def never_ending(held, prompts, new_tokens):
    return held.generate(TOKENIZER, prompts, stops=[()] * len(prompts), new_tokens=new_tokens, what="", end_tokens=())


@pytest.mark.parametrize("case", CASES)
def test_tokens_are_those_of_plain_forward_passes(case, models):
    """Prompts on both sides of Gemma's window of 8; answers leave the batch one after another."""
    held, logits_of = models(case)
    for prompt, count, answer in zip(
        random_prompts(), LENGTHS, never_ending(held, random_prompts(), LENGTHS), strict=True
    ):
        assert answer.tokens == slow(logits_of, prompt, answer.tokens)
        assert len(answer.tokens) == count
        assert answer.text == TOKENIZER.decode(answer.tokens, skip_special_tokens=True)
        assert answer.ended == "length"


@pytest.mark.parametrize(
    "case", ["mlx llama", pytest.param("mlx gemma3_text", marks=pytest.mark.slow), "torch gemma3_text-tied"]
)
@pytest.mark.parametrize(("rows", "keys", "prefill"), [(1, 2**15, 512), (3, 2**15, 7), (32, 150, 16), (32, 1, 512)])
def test_answers_do_not_depend_on_batches_or_order(case, rows, keys, prefill, models, monkeypatch):
    held, prompts = models(case)[0], random_prompts()
    expected = never_ending(held, prompts, 12)
    monkeypatch.setattr(batching, "ROWS_AT_ONCE", rows)
    monkeypatch.setattr(batching, "KEYS_AT_ONCE", keys)
    monkeypatch.setattr(batching, "PREFILL_TOKENS", prefill)
    order = np.random.default_rng(1).permutation(len(prompts))
    again = never_ending(held, [prompts[place] for place in order], 12)
    assert again == [expected[place] for place in order]


@pytest.mark.parametrize("case", ["mlx llama", "torch llama-biases"])
def test_an_answer_that_ends_leaves_the_others_as_they_are(case, models):
    """Its row is taken by the last one, and then by one that waited."""
    held, prompts = models(case)[0], random_prompts()
    expected = [answer.tokens for answer in never_ending(held, prompts, 10)]
    ends = {tokens[place % 3] for place, tokens in enumerate(expected)}
    ended = held.generate(TOKENIZER, prompts, stops=[()] * 8, new_tokens=10, what="", end_tokens=ends)
    for answer, tokens in zip(ended, expected, strict=True):
        before = next((place for place, token in enumerate(tokens) if token in ends), None)
        assert answer.tokens == tokens[:before]
        assert answer.ended == ("length" if before is None else "eos")


@pytest.mark.parametrize("case", ["mlx llama", "torch llama-biases"])
def test_tokens_are_drawn_by_their_probabilities(case, models):
    held = models(case)[0]
    probabilities = np.array([0.5, 0.3, 0.15, 0.05])
    rows = np.tile(np.log(probabilities), (500, 1)).astype(np.float32)
    draw, same = held.sampler(7), held.sampler(7)
    own = mx.array(rows) if case.startswith("mlx") else pytest.importorskip("torch").from_numpy(rows)
    drawn = np.concatenate([np.array(draw(own).tolist()) for _ in range(20)])
    found = np.bincount(drawn, minlength=4)
    chi2 = ((found - 10_000 * probabilities) ** 2 / (10_000 * probabilities)).sum()
    assert chi2 < 16.27  # 0.1 % of chi-square with 3 degrees of freedom
    assert not np.array_equal(drawn[:500], drawn[500:1000])
    assert np.array_equal(drawn[:500], np.array(same(own).tolist()))


@pytest.mark.parametrize("case", ["mlx llama", "torch llama-biases"])
def test_what_is_drawn_is_what_is_said(case, models):
    held, prompts = models(case)[0], random_prompts()
    first, again, other = (
        held.generate(
            TOKENIZER,
            prompts,
            stops=[()] * 8,
            new_tokens=6,
            what="",
            end_tokens=(),
            sampler=held.sampler(seed),
        )
        for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


def test_logits_that_are_no_numbers_are_an_error(tmp_path):
    held, _ = of_mlx("llama")
    name, weight = next((n, w) for n, w in tree_flatten(held.model.parameters()) if n.endswith("lm_head.weight"))
    held.model.update(tree_unflatten([(name, weight * float("nan"))]))
    other, _ = of_torch("llama-biases", tmp_path / "llama")
    other.model.lm_head.weight.fill_(float("nan"))
    for each in (held, other):
        with pytest.raises(WeightError, match="no numbers"):
            never_ending(each, random_prompts(), 3)
