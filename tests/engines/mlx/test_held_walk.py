"""A walk with a held key-value cache is decoding token by token with such a cache."""

import mlx.core as mx
import numpy as np
import pytest
from kv_methods import METHODS
from mlx_decoding import decoded, log_probabilities
from small_models import CONFIGS, InMemory
from unusual_models import UNUSUAL, unusual

from pytest_quantbench.catalog.recipes import CACHES
from pytest_quantbench.engines.batches import Batch
from pytest_quantbench.engines.mlx.kv_cache import windows
from pytest_quantbench.engines.mlx.walk import Walk
from pytest_quantbench.engines.protocol import Cached
from pytest_quantbench.errors import ModelError
from pytest_quantbench.quantizers import kv

FAST = ("at once, rotated, with sinks", "old keys", "progressive", "looking")


def losses_of(walk, number, track=0):
    return log_probabilities(np.array(walk.head(number, slice(None), track)))


def text(rows, length, seed=1):
    return np.random.default_rng(seed).integers(0, 2048, (rows, length))


@pytest.mark.parametrize(
    ("architecture", "method"),
    [
        pytest.param(name, method, marks=() if name == "llama" and method in FAST else pytest.mark.slow)
        for name in CONFIGS
        for method in METHODS
    ],
)
def test_a_walk_is_decoding_token_by_token(architecture, method):
    weights, tokens = InMemory(architecture), text(2, 23)
    walk = Walk(Cached(weights, METHODS[method]), weights, host=True)
    walk.run([Batch(tokens=tokens)], "")
    assert np.abs(losses_of(walk, 0) - losses_of(walk, 0, 1)).max() > 1e-3
    for found, row in zip(losses_of(walk, 0), tokens, strict=True):
        assert np.abs(found - log_probabilities(decoded(weights.model, row, METHODS[method]))).max() < 1e-5


@pytest.mark.parametrize("length", [1, pytest.param(2, marks=pytest.mark.slow), 8])
def test_a_text_whose_tokens_are_all_young_is_walked_with_the_others(length):
    weights, tokens = InMemory("llama"), text(1, length)
    walk = Walk(Cached(weights, METHODS["old keys"]), host=True)
    walk.run([tokens], "")
    expected = log_probabilities(decoded(weights.model, tokens[0], METHODS["old keys"]))
    assert np.abs(losses_of(walk, 0)[0] - expected).max() < 1e-5


@pytest.mark.parametrize("method", ["at once", "progressive"])
def test_mlx_attention_sees_the_same(method):
    weights, tokens = InMemory("llama"), text(2, 23)
    walks = [Walk(Cached(weights, METHODS[method]), host=host) for host in (True, False)]
    for walk in walks:
        walk.run([Batch(tokens=tokens)], "")
    assert np.abs(losses_of(walks[0], 0) - losses_of(walks[1], 0)).max() < 1e-5


@pytest.mark.parametrize("architecture", ["llama", pytest.param("gemma3_text", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "method", [pytest.param(n, marks=() if n in ("progressive", "looking") else pytest.mark.slow) for n in METHODS]
)
def test_branches_and_padded_rows_are_the_same_text_alone(architecture, method):
    weights, cached = InMemory(architecture), Cached(InMemory(architecture), METHODS[method])
    tokens, more, last = text(2, 17), text(3, 9, 2), text(2, 6, 3)
    family = [
        Batch(tokens=tokens, lengths=(17, 11)),
        Batch(tokens=more, lengths=(9, 5, 7), parent=0, rows=(1, 0, 1)),
        Batch(tokens=last, lengths=(6, 3), parent=1, rows=(1, 2)),
        Batch(tokens=text(1, 30, 4)),
    ]
    walk = Walk(cached, weights, host=True)
    walk.run(family, "")
    wholes = [[tokens[0], tokens[1, :11]]]
    wholes.append(
        [np.concatenate([wholes[0][row], more[i, :n]]) for i, (row, n) in enumerate(((1, 9), (0, 5), (1, 7)))]
    )
    wholes.append([np.concatenate([wholes[1][row], last[i, :n]]) for i, (row, n) in enumerate(((1, 6), (2, 3)))])
    wholes.append([family[3].tokens[0]])
    alone = Walk(cached, host=True)
    every = [(number, row, whole) for number, rows in enumerate(wholes) for row, whole in enumerate(rows)]
    alone.run([Batch(tokens=whole[None]) for _, _, whole in every], "")
    for place, (number, row, _) in enumerate(every):
        length = (family[number].lengths or (30,))[row]
        found, expected = losses_of(walk, number)[row, :length], losses_of(alone, place)[0, -length:]
        assert np.abs(found - expected).max() < 1e-5


def test_a_track_with_a_cache_leaves_the_others_as_they_are():
    weights = InMemory("llama")
    batches = [text(2, 23), text(1, 5, 2)]
    walk, alone = Walk(weights, Cached(weights, METHODS["old keys"]), host=True), Walk(weights, host=True)
    walk.run(batches, "")
    alone.run(batches, "")
    assert all(mx.array_equal(walk.head(i, slice(None)), alone.head(i, slice(None))) for i in range(2))
    assert walk.weights_sha256(0) == walk.weights_sha256(1)


SPELLED_OUT = ("gemma2",)  # attention that is no function of MLX's
WITH_KEYS = [name for name in UNUSUAL if name != "mamba"]


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", WITH_KEYS)
def test_unusual_architectures_are_decoding_token_by_token(name, method):
    _, weights = unusual(name)
    tokens = text(1, 23)[0] % 512
    walk = Walk(Cached(weights, METHODS[method]), host=True)
    if name in SPELLED_OUT and not method.startswith("at once"):
        with pytest.raises(ModelError, match=f"'{name}' in a way of its own.*method formed.*--engine torch"):
            walk.run([tokens[None]], "")
        return
    walk.run([tokens[None]], "")
    expected = log_probabilities(decoded(weights.model, tokens, METHODS[method]))
    assert np.abs(losses_of(walk, 0)[0] - expected).max() < 2e-5


def test_a_method_that_never_engages_is_an_error():
    _, weights = unusual("mamba")
    walk = Walk(weights, Cached(weights, METHODS["at once"]), host=True)
    walk.run([text(1, 9) % 512], "")
    assert np.isfinite(losses_of(walk, 0)).all()
    with pytest.raises(ModelError, match="formed of the key-value cache has never engaged: no layer of 'mamba'"):
        walk.logits(0, slice(0, 1), 1)


@pytest.mark.parametrize(("length", "reached"), [(127, 0), (130, 3)])
def test_what_a_cache_reached_is_known_of_every_place(length, reached):
    weights = InMemory("llama", **WIDE)
    walk = Walk(weights, Cached(weights, kv.make(CACHES["kivi2"])), host=True)
    walk.run([text(1, length)], "")
    assert walk.engaged(0) is None
    assert walk.engaged(0, 1)[0].tolist() == [False] * (length - reached) + [True] * reached


def test_layers_that_keep_a_window_say_so():
    weights = InMemory("gemma3_text")
    walk = Walk(Cached(weights, METHODS["at once"]), host=True)
    walk.run([text(1, 9)], "")
    kept = windows(weights.model, len(walk))
    assert [window for *_, window in walk.cache_shapes()] == kept
    assert any(kept)


LONG = {"kv8": 60, "cocktailkv": 270}  # so many tokens until some are rounded
WIDE = {"hidden_size": 128, "num_attention_heads": 2, "num_key_value_heads": 1}  # heads of 64


@pytest.mark.parametrize(
    "recipe", [pytest.param(each, marks=() if each == "kv8" else pytest.mark.slow) for each in CACHES]
)
def test_every_recipe_is_decoding_token_by_token(recipe):
    """Where a number stands in the middle between two codes, a last bit decides: that text differs from there on, by
    what one code is worth, and few texts do.
    """
    weights, method = InMemory("llama", **WIDE), kv.make(CACHES[recipe])
    texts = [text(1, length, length)[0] for length in (LONG.get(recipe, 150), 9, 21, 33, 45)]
    walk = Walk(Cached(weights, method), weights, host=True)
    walk.run([each[None] for each in texts], "")
    assert np.abs(losses_of(walk, 0) - losses_of(walk, 0, 1)).max() > 1e-4
    apart = [
        np.abs(losses_of(walk, number)[0] - log_probabilities(decoded(weights.model, each, method))).max()
        for number, each in enumerate(texts)
    ]
    assert max(apart) < 0.05
    assert sum(each < 1e-4 for each in apart) >= 2


@pytest.mark.parametrize(("recipe", "bits"), [("kv8", 8), ("kv4", 4)])
def test_the_affine_cache_is_mlx_lms_own(recipe, bits):
    """mlx-lm's cache of a model in float32 has scales and biases in float32, where ours has them in 16 bits: rounded
    as they are, the two differ by its kernel's noise.
    """
    from mlx_lm.models.cache import QuantizedKVCache

    class InSixteenBits(QuantizedKVCache):
        def update_and_fetch(self, keys, values):
            found = super().update_and_fetch(keys, values)
            return tuple((codes, *(each.astype(mx.bfloat16).astype(mx.float32) for each in of)) for codes, *of in found)

    weights, tokens = InMemory("llama", **WIDE), text(1, 40)
    walk = Walk(Cached(weights, kv.make(CACHES[recipe])), weights, host=True)
    walk.run([tokens], "")
    found, plain = (losses_of(walk, 0, track)[0] for track in (0, 1))
    apart = []
    for kind in (InSixteenBits, QuantizedKVCache):
        cache = [kind(group_size=64, bits=bits) for _ in weights.model.layers]
        theirs = log_probabilities(np.array(weights.model(mx.array(tokens), cache=cache))[0])
        apart.append(np.abs(found - theirs))
    away = np.abs(found - plain).mean()
    assert np.median(apart[0]) < 1e-6
    assert apart[0].mean() < away / 100
    assert apart[1].mean() < 1.5 * away  # scales in 32 bits are of another cache, which is as far from a full one


def test_a_model_that_asks_more_of_its_cache_is_named(monkeypatch):
    weights = InMemory("llama")
    attention = type(weights.model.layers[0].self_attn)
    plain = attention.__call__

    def asking(self, x, mask=None, cache=None):
        return plain(self, x, mask, cache if cache is None else cache.chunked)

    walk = Walk(weights, Cached(weights, METHODS["at once"]), host=True)
    monkeypatch.setattr(attention, "__call__", asking)
    walk.run([text(1, 5)], "")
    assert np.isfinite(losses_of(walk, 0)).all()
    with pytest.raises(ModelError, match=r"code of 'llama' ends in AttributeError .*'chunked'.* method formed"):
        walk.logits(0, slice(0, 1), 1)
