"""A model's architecture, tried in small before its first walk: what is right is walked, what is not is named."""

import json
import sys
from pathlib import Path
from types import ModuleType

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten
from small_models import CONFIGS, HEADS, slow_answer
from unusual_models import BASE, UNUSUAL, Random, unusual

from pytest_quantbench.engines.batches import Batch
from pytest_quantbench.engines.mlx.skeleton import decoder_layers, skeleton
from pytest_quantbench.engines.mlx.small_twin import kinds
from pytest_quantbench.engines.mlx.walk import Walk
from pytest_quantbench.engines.mlx.walk_trial import prove
from pytest_quantbench.engines.narrow_config import smaller
from pytest_quantbench.engines.walk_proof import Anatomy, Proof, branching_of
from pytest_quantbench.errors import ModelError
from pytest_quantbench.measures.requests import Request, answers, planned


def ids(rng, length):
    return tuple(int(token) for token in rng.integers(0, 512, length))


@pytest.mark.parametrize("name", UNUSUAL)
def test_unusual_architectures_walk_as_they_run(name):
    _, weights = unusual(name)
    rng = np.random.default_rng(0)
    batches = [mx.array(rng.integers(0, 512, shape)) for shape in ((2, 30), (1, 17), (1, 1))]
    expected = [np.array(weights.model(batch)) for batch in batches]
    walk = Walk(weights, host=True)
    walk.run(batches, "")
    for number, logits in enumerate(expected):
        np.testing.assert_allclose(np.array(walk.head(number, slice(None))), logits, atol=2e-4)
        np.testing.assert_allclose(np.array(walk.head(number, slice(0, 1))), logits[:, :1], atol=2e-4)


@pytest.mark.parametrize("name", UNUSUAL)
def test_choices_of_unusual_architectures_are_those_of_plain_forward_passes(name):
    branching, weights = unusual(name)
    rng = np.random.default_rng(1)
    preamble = ids(rng, 20)
    contexts = [preamble + ids(rng, n) for n in (3, 4, 4, 9)] + [ids(rng, n) for n in (11, 30)]
    requests = [Request(context=context, continuation=ids(rng, n)) for context in contexts for n in (1, 2, 3)]
    walk = Walk(weights, host=True)
    assert walk.proof.branching == branching
    plan = planned(requests, walk.proof.for_choices())
    walk.run(plan.batches, "")
    for request, answer in zip(requests, answers(plan, walk), strict=True):
        total, greedy = slow_answer(weights.model, request)
        assert answer.loglikelihood == pytest.approx(total, abs=1e-4)
        assert answer.greedy == greedy


@pytest.mark.parametrize("name", ["lfm2", "gemma2"])
def test_branches_that_an_architecture_does_not_take_are_refused_before_any_work(name):
    _, weights = unusual(name)
    requests = [Request(context=(1,) * n, continuation=(2, 3)) for n in (5, 6)]
    with pytest.raises(ModelError, match=f"'{name}' cannot be asked for choices"):
        Walk(weights, host=True).run(planned(requests).batches, "")


def test_layers_that_are_taken_apart_are_named():
    config = BASE | {"model_type": "iquestloopcoder", "loop_num": 2, "loop_window_size": 8}
    with pytest.raises(ModelError, match="'iquestloopcoder' cannot be walked: it takes its decoder layers apart"):
        Walk(Random(config), host=True)


CATALOGUE = {
    "qwen2.5-7b": {"model_type": "qwen2", "hidden_size": 3584, "num_hidden_layers": 28, "intermediate_size": 18944}
    | {"num_attention_heads": 28, "num_key_value_heads": 4, "vocab_size": 152064, "rope_theta": 1e6}
    | {"rms_norm_eps": 1e-6, "max_position_embeddings": 32768, "tie_word_embeddings": False, "sliding_window": 131072}
    | {"use_sliding_window": False, "max_window_layers": 28},
    "qwen2.5-0.5b": {"model_type": "qwen2", "hidden_size": 896, "num_hidden_layers": 24, "intermediate_size": 4864}
    | {"num_attention_heads": 14, "num_key_value_heads": 2, "vocab_size": 151936, "rope_theta": 1e6}
    | {"rms_norm_eps": 1e-6, "max_position_embeddings": 32768, "tie_word_embeddings": True},
    "llama-3.2-1b": {"model_type": "llama", "hidden_size": 2048, "num_hidden_layers": 16, "intermediate_size": 8192}
    | {"num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 64, "vocab_size": 128256, "rope_theta": 5e5}
    | {"rms_norm_eps": 1e-5, "max_position_embeddings": 131072, "tie_word_embeddings": True, "attention_bias": False}
    | {
        "rope_scaling": {"factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0, "rope_type": "llama3"}
        | {"original_max_position_embeddings": 8192}
    },
    "mistral-7b": {"model_type": "mistral", "hidden_size": 4096, "num_hidden_layers": 32, "intermediate_size": 14336}
    | {"num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 32768, "rope_theta": 1e6}
    | {"rms_norm_eps": 1e-5, "max_position_embeddings": 32768, "tie_word_embeddings": False, "sliding_window": None},
    "qwen3-8b": {"model_type": "qwen3", "hidden_size": 4096, "num_hidden_layers": 36, "intermediate_size": 12288}
    | {"num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936, "rope_theta": 1e6}
    | {"rms_norm_eps": 1e-6, "max_position_embeddings": 40960, "tie_word_embeddings": False},
    "phi-4": {"model_type": "phi3", "hidden_size": 5120, "num_hidden_layers": 40, "intermediate_size": 17920}
    | {"num_attention_heads": 40, "num_key_value_heads": 10, "vocab_size": 100352, "rope_theta": 250000}
    | {"rms_norm_eps": 1e-5, "max_position_embeddings": 16384, "original_max_position_embeddings": 16384}
    | {"rope_scaling": None, "sliding_window": None, "tie_word_embeddings": False},
    "phi-3.5-mini": {"model_type": "phi3", "hidden_size": 3072, "num_hidden_layers": 32, "intermediate_size": 8192}
    | {"num_attention_heads": 32, "num_key_value_heads": 32, "vocab_size": 32064, "rope_theta": 10000.0}
    | {"rms_norm_eps": 1e-5, "max_position_embeddings": 131072, "original_max_position_embeddings": 4096}
    | {"rope_scaling": {"long_factor": [1.5] * 48, "short_factor": [1.1] * 48, "type": "longrope"}},
    "gemma-3-1b": {"model_type": "gemma3_text", "hidden_size": 1152, "num_hidden_layers": 26, "head_dim": 256}
    | {"intermediate_size": 6912, "num_attention_heads": 4, "num_key_value_heads": 1, "vocab_size": 262144}
    | {"rms_norm_eps": 1e-6, "rope_theta": 1e6, "rope_local_base_freq": 10000, "sliding_window": 512}
    | {"sliding_window_pattern": 6, "query_pre_attn_scalar": 256, "max_position_embeddings": 32768},
    "gemma-3-4b": {"model_type": "gemma3", "vocab_size": 262208, "image_token_index": 262144}
    | {
        "text_config": {"model_type": "gemma3_text", "hidden_size": 2560, "intermediate_size": 10240}
        | {"num_hidden_layers": 34, "sliding_window": 1024, "rope_scaling": {"factor": 8.0, "rope_type": "linear"}}
    },
}


@pytest.mark.parametrize("head", [("model.norm.weight", "language_model.model.norm.weight"), HEADS])
@pytest.mark.parametrize("name", CATALOGUE)
def test_what_the_catalogue_has_is_proven_and_never_refused(name, head):
    """With their published configs, tied or with a head of their own."""
    proof = prove(CATALOGUE[name], head, True, Walk)
    assert (proof.refused, proof.branching, proof.anatomy.loops) == (None, "any", 1)


def test_a_small_config_has_every_kind_of_layer_in_their_order():
    config = CATALOGUE["gemma-3-4b"]
    whole = kinds(skeleton(config, HEADS))
    small = skeleton(next(iter(smaller(config, whole, 128))), HEADS)
    found = kinds(small)
    assert found == whole[: len(found)]
    assert set(found) == set(whole)
    assert 6 <= len(found) <= 8  # five of a window, one of none
    assert sum(array.size for _, array in tree_flatten(small.parameters())) < 5_000_000
    assert small.args.text_config["sliding_window"] == 8


def test_batches_say_what_they_ask_of_a_model():
    def batch(*lengths, parent=None):
        rows = tuple(0 for _ in lengths) if parent is not None else ()
        return Batch(tokens=mx.zeros((len(lengths), max(lengths)), mx.int32), lengths=lengths, parent=parent, rows=rows)

    assert branching_of([batch(3, 3)]) is None
    assert branching_of([batch(3, 4)]) == "none"
    assert branching_of([batch(3, 3), batch(1, 2, parent=0)]) == "even"
    assert branching_of([batch(3, 4), batch(1, 2, parent=0)]) == "any"
    Proof(architecture="x", branching="even").refuse([batch(3, 3), batch(1, 2, parent=0)])
    with pytest.raises(ModelError, match="'x' cannot be asked for choices"):
        Proof(architecture="x", branching="even").refuse([batch(3, 4), batch(1, 2, parent=0)])
    with pytest.raises(ModelError, match="because"):
        Proof(architecture="x", branching=None, unbranched="because").for_choices()


def test_a_walk_is_tried_once_in_a_process():
    config = CONFIGS["llama"]
    walked = []

    class Counted(Walk):
        def __init__(self, *tracks, **rest):
            walked.append(tracks)
            super().__init__(*tracks, **rest)

    proofs = [prove(config, ["lm_head.weight", "tried once"], False, Counted) for _ in range(3)]
    assert walked
    assert proofs[0] is proofs[1] is proofs[2]
    count = len(walked)
    prove(config, ["lm_head.weight", "tried once"], False, Counted)
    assert len(walked) == count


# Architectures that go wrong, made up here: Llama with one thing changed.


class _Block(nn.Module):
    def __init__(self, args, index):
        super().__init__()
        from mlx_lm.models.llama import TransformerBlock

        self.block = TransformerBlock(args)

    def __call__(self, x, mask=None, cache=None):
        return self.block(x, mask, cache)


def forward_plain(model, h, mask, cache):
    for layer, each in zip(model.layers, cache, strict=True):
        h = layer(h, mask, cache=each)
    return h


def forward_backwards(model, h, mask, cache):
    for layer, each in zip(reversed(model.layers), cache, strict=True):
        h = layer(h, mask, cache=each)
    return h


def forward_ahead(model, h, mask, cache):
    return forward_plain(model, h, None, cache)


def forward_scaled(model, h, mask, cache):
    for layer, each in zip(model.layers, cache, strict=True):
        h = layer(h, mask, cache=each) * 0.5
    return h


def forward_twice(model, h, mask, cache):
    for _ in range(2):
        h = forward_plain(model, h, mask, cache[: len(model.layers)])
        h = model.norm(h)
    return h


def forward_by_name(model, h, mask, cache):
    for layer, each in zip(model.layers, cache, strict=True):
        h = layer(cache=each, mask=mask, x=h)
    return h


def forward_by_class(model, h, mask, cache):
    for layer, each in zip(model.layers, cache, strict=True):
        h = layer(h, mask if isinstance(layer, _Block) else None, cache=each)
    return h


def forward_skipping(model, h, mask, cache):
    for layer, each in zip(model.layers[1:], cache[1:], strict=True):
        h = layer(h, mask, cache=each)
    return h


def architecture(monkeypatch, name, forward):
    """A module that mlx-lm seems to have; returns a config."""
    from mlx_lm.models import llama
    from mlx_lm.models.base import create_attention_mask

    class Inner(nn.Module):
        def __init__(self, args):
            super().__init__()
            self.embed_tokens = nn.Embedding(args.vocab_size, args.hidden_size)
            self.layers = [_Block(args, index) for index in range(args.num_hidden_layers)]
            self.norm = nn.RMSNorm(args.hidden_size)

        def __call__(self, tokens, cache=None):
            h = self.embed_tokens(tokens)
            cache = cache or [None] * len(self.layers)
            return self.norm(forward(self, h, create_attention_mask(h, cache[0]), cache))

    class Model(nn.Module):
        def __init__(self, args):
            super().__init__()
            self.args = args
            self.model = Inner(args)

        def __call__(self, tokens, cache=None):
            return self.model.embed_tokens.as_linear(self.model(tokens, cache))

        @property
        def layers(self):
            return self.model.layers

    module = ModuleType(f"mlx_lm.models.{name}")
    vars(module).update(Model=Model, ModelArgs=llama.ModelArgs)
    module.__file__ = llama.__file__  # which keys of a config are read is looked up in a module's source
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return BASE | {"model_type": name}


@pytest.mark.parametrize(
    ("forward", "said"),
    [
        (forward_backwards, "does not call its 4 decoder layers one after the other"),
        (forward_skipping, "does not call its 4 decoder layers one after the other"),
        (forward_ahead, "depend on tokens that come later"),
        (forward_scaled, "layer by layer its losses are not those of mlx-lm's forward pass"),
    ],
)
def test_an_architecture_whose_walk_is_not_its_forward_pass_is_refused(monkeypatch, forward, said):
    config = architecture(monkeypatch, forward.__name__, forward)
    with pytest.raises(ModelError, match=f"'{forward.__name__}' cannot be walked: .*{said}"):
        Walk(Random(config), host=True)


@pytest.mark.parametrize("forward", [forward_plain, forward_by_name, forward_by_class])
def test_an_architecture_that_does_it_in_its_own_way_is_walked(monkeypatch, forward):
    config = architecture(monkeypatch, forward.__name__, forward)
    weights, tokens = Random(config), mx.array(np.arange(40)[None])
    walk = Walk(weights, host=True)
    assert walk.proof.branching == "any"
    walk.run([tokens], "")
    np.testing.assert_allclose(np.array(walk.head(0, slice(None))), np.array(weights.model(tokens)), atol=1e-4)


def test_a_model_that_loops_over_its_layers_is_walked_in_loops(monkeypatch):
    config = architecture(monkeypatch, "forward_twice", forward_twice)
    weights, tokens = Random(config), mx.array(np.arange(40)[None])
    walk = Walk(weights, host=True)
    assert walk.proof.anatomy == Anatomy(loops=2, outputs=0, place=0)
    assert len(walk) == 2 * len(decoder_layers(weights.model)[1])
    walk.run([tokens], "")
    np.testing.assert_allclose(np.array(walk.head(0, slice(None))), np.array(weights.model(tokens)), atol=1e-4)


def test_what_the_page_says_is_there_for_every_architecture():
    import mlx_lm.models

    page = Path(__file__).parents[3] / "docs" / "architectures.md"
    listed = {line.split("|")[1].strip() for line in page.read_text().splitlines() if line.startswith("| ")}
    text = json.dumps(sorted(listed))
    modules = [path for path in Path(mlx_lm.models.__path__[0]).glob("*.py") if "class Model(" in path.read_text()]
    missing = [path.stem for path in modules if path.stem not in listed]
    if f"mlx-lm {mlx_lm.__version__}" not in page.read_text():
        pytest.skip("the page is of another version of mlx-lm")
    assert not missing, text


@pytest.mark.parametrize("words", [2, 5, 32, 64])
def test_a_small_vocabulary_is_tried_with_its_own_words(words):
    config = BASE | {"model_type": "llama", "vocab_size": words}
    names = [name for name, _ in tree_flatten(skeleton(config, HEADS).parameters())]
    proof = prove(config, names, False, Walk)
    assert (proof.refused, proof.branching) == (None, "any")
