"""A walk whose cache is held in few bits, against decoding token by token with a cache that is rounded slowly."""

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from slow_cache import LOOKING, slow_losses
from torch_models import opened
from transformers_models import DEEPSEEK, SMALL, save

from pytest_quantbench.catalog.recipes import CACHES
from pytest_quantbench.engines.batches import Batch
from pytest_quantbench.engines.torch.walk import Walk
from pytest_quantbench.engines.weights import Cached
from pytest_quantbench.errors import ModelError
from pytest_quantbench.quantizers import kv
from pytest_quantbench.quantizers.kv.protocol import FULL, CacheForm, Stage

pytestmark = pytest.mark.model
CPU = torch.device("cpu")
ALL = SMALL | {
    "mistral-window": ("mistral", SMALL["llama-defaults"][1] | {"sliding_window": 6}),
    "deepseek": DEEPSEEK,
}


class Weights:
    """A saved model as a walk reads it."""

    def __init__(self, found):
        self.found, self.config, self.names = found, found.config, found.names

    def dense(self, name):
        return self.found.tensor(name)

    def inputs(self, name):
        return None


class Method:
    """A method that holds heads of any size in one form."""

    name, version = "tried", 1

    def __init__(self, form):
        self._form = form

    def form(self, channels):
        return self._form


class Steps:
    """Numbers in whole steps from the mean of each channel over so many tokens (1: from zero). No scale is rounded, so
    that a last bit in a key seldom becomes a step.
    """

    looks = False

    def __init__(self, step, token_group=1):
        self.step, self.token_group = np.float32(step), token_group

    def rounded(self, numbers, queries=None, keys=None):
        found = np.empty_like(numbers)
        for first in range(0, numbers.shape[1], self.token_group):
            part = slice(first, first + self.token_group)
            mean = numbers[:, part].mean(1, keepdims=True) if self.token_group > 1 else np.float32(0)
            found[:, part] = mean + np.rint((numbers[:, part] - mean) / self.step) * self.step
        return found

    def stored_bits(self, tokens, channels):
        return 16.0 * tokens * channels


class Leaning(Steps):
    """Steps that are finer by how much queries and keys of the tokens lean to one side: it looks at both."""

    looks = True

    def rounded(self, numbers, queries=None, keys=None):
        of_head = queries.reshape(len(keys), -1, *queries.shape[1:]).mean(1)  # (heads, tokens, channels)
        return super().rounded(numbers) + np.float32(0.1) * np.tanh(of_head + keys).mean(2, keepdims=True)


def steps(step, token_group=1, **how):
    return Stage(rounding=Steps(step, token_group), **how)


LEANING = Stage(rounding=Leaning(0.5), age=2, chunk=3)
FORMS = {
    "at once": CacheForm(keys=(steps(0.5),), values=(steps(1.0),)),
    "rotated, behind sinks": CacheForm(keys=(steps(0.5),), values=(steps(1.0),), rotates=True, sinks=2),
    "by age": CacheForm(keys=(FULL, steps(0.3, age=2), steps(0.8, age=9)), values=(steps(0.3), steps(1.0, age=5))),
    "by chunk": CacheForm(keys=(steps(0.5, 4, age=3, chunk=8),), values=(steps(1.0, age=6),), sinks=1),
}


LOOKS = Method(CacheForm(keys=(LEANING,), values=(LEANING, steps(1.0, age=7)), rotates=True))


def walked(directory, method, batches):
    walk = Walk(Cached(Weights(opened(directory)), method), device=CPU)
    walk.run(batches, "")
    return walk


def losses(logits, tokens):
    """(length, vocabulary) and (length,) → (length − 1,)."""
    chosen = torch.as_tensor(logits).double().log_softmax(-1)[:-1]
    return -chosen[torch.arange(len(tokens) - 1), torch.as_tensor(tokens[1:])].numpy()


def looks(method):
    form = method.form(16)
    return any(stage.rounding and stage.rounding.looks for stage in (*form.keys, *form.values))


def plain(directory, attention="eager"):
    return transformers.AutoModelForCausalLM.from_pretrained(directory, attn_implementation=attention).eval()


QUICK = {("at once", "gemma2"), ("by age", "mistral-window"), *((form, "llama-llama3") for form in FORMS)}
EVERY = [
    pytest.param(form, name, marks=() if (form, name) in QUICK else pytest.mark.slow) for form in FORMS for name in ALL
]


@pytest.mark.parametrize(("form", "architecture"), EVERY)
def test_losses_are_those_of_decoding_token_by_token(form, architecture, tmp_path):
    """A last bit of a key may be a whole step in another: of three texts there is one where it is not."""
    save(tmp_path, ALL[architecture], [[1]])
    texts = [np.random.default_rng(seed).integers(3, 320, 40) for seed in range(3)]
    method = Method(FORMS[form])
    if architecture == "deepseek" and form.startswith("by "):
        with pytest.raises(ModelError, match="makes keys and values of what it has stored together"):
            walked(tmp_path, method, [texts[0][None]])
        return
    assert any(differences(tmp_path, method, tokens).max() < 1e-5 for tokens in texts)


@pytest.mark.parametrize("architecture", ["llama-llama3", pytest.param("gemma2", marks=pytest.mark.slow)])
def test_a_rounding_may_look_at_the_queries_of_its_tokens(architecture, tmp_path):
    save(tmp_path, ALL[architecture], [[1]])
    tokens = np.random.default_rng(0).integers(3, 320, 40)
    found = walked(tmp_path, LOOKS, [tokens[None]]).head(0, slice(None))[0]
    assert np.abs(losses(found, tokens) - slow_losses(plain(tmp_path, LOOKING), LOOKS, tokens)).max() < 1e-5


SHORTER = {  # windows, by method
    "kivi": {"group": 8, "window": 16},
    "channel": {"group": 8},
    "pmkvq": {"four": 12, "two": 30, "window": 8},
    "mixkvq": {"group": 8, "window": 16},
    "cocktailkv": {"chunk": 4, "block": 24},
}
SHORT = ("kv8", "kv2", "kv4-rot", "pmkvq")
RECIPES = [
    pytest.param(recipe, name, marks=() if name == "llama-llama3" and recipe in SHORT else pytest.mark.slow)
    for recipe in CACHES
    for name in ALL
    if name.partition("-")[2] in ("", "default", "llama3", "window", "longrope", "untied", "partial")
]


def differences(directory, method, tokens, attention="eager"):
    found = walked(directory, method, [tokens[None]]).head(0, slice(None))[0]
    return np.abs(losses(found, tokens) - slow_losses(plain(directory, attention), method, tokens))


@pytest.mark.parametrize(("recipe", "architecture"), RECIPES)
def test_every_recipe_is_walked_as_it_is_decoded(recipe, architecture, tmp_path):
    """In windows so short that a few dozen tokens are in every stage. Scales and zeros have 16 bits, and where float32
    and float64 differ in a last bit one of them may be another, or a code: of some texts there is one without.
    """
    save(tmp_path, ALL[architecture], [[1]])
    part = CACHES[recipe]
    method = kv.make(replace(part, parameters={**part.parameters, **SHORTER.get(part.quantizer, {})}))
    form, length = method.form(16), 60 if part.quantizer in SHORTER else 20
    assert all((form.entered(each, np.array([length - 2])) > 0).all() for each in ("keys", "values"))
    texts = [np.random.default_rng(seed).integers(3, 320, length) for seed in range(8)]
    if architecture == "deepseek" and (looks(method) or recipe.startswith("kivi")):
        with pytest.raises(ModelError, match="makes keys and values of what it has stored together"):
            walked(tmp_path, method, [texts[0][None]])
        return
    attention = LOOKING if looks(method) else "eager"
    assert any(np.quantile(differences(tmp_path, method, tokens, attention), 0.9) < 1e-4 for tokens in texts)


def family():
    """A preamble, contexts of unlike lengths that go on from it, choices that go on from those; and rows alone."""
    rng = np.random.default_rng(1)

    def drawn(rows, length):
        return rng.integers(3, 320, (rows, length))

    return [
        Batch(tokens=drawn(2, 11), lengths=(11, 9)),
        Batch(tokens=drawn(3, 6), lengths=(6, 3, 5), parent=0, rows=(1, 0, 1)),
        Batch(tokens=drawn(4, 4), lengths=(1, 4, 2, 4), parent=1, rows=(0, 1, 2, 2)),
        Batch(tokens=drawn(3, 20), lengths=(20, 7, 13)),
        Batch(tokens=drawn(1, 5)),
    ]


def alone(batches, number, row):
    """The whole text that ends with a row, and how many of its tokens are the row's own."""
    batch = batches[number]
    own = batch.tokens[row, : batch.lengths[row]] if batch.lengths else batch.tokens[row]
    before = [] if batch.parent is None else alone(batches, batch.parent, batch.rows[row])[0]
    return np.array([*before, *own]), len(own)


@pytest.mark.parametrize("architecture", ["llama-llama3", pytest.param("mistral-window", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "form", ["by age", "looks", *(pytest.param(n, marks=pytest.mark.slow) for n in FORMS if n != "by age")]
)
def test_branches_and_padded_rows_see_what_the_same_text_sees_alone(form, architecture, tmp_path):
    save(tmp_path, ALL[architecture], [[1]])
    batches = family()
    wholes = [
        (number, row, *alone(batches, number, row)) for number, b in enumerate(batches) for row in range(len(b.tokens))
    ]
    method = Method(FORMS[form]) if form in FORMS else LOOKS
    together = walked(tmp_path, method, batches)
    apart = walked(tmp_path, method, [text[None] for _, _, text, _ in wholes])
    for place, (number, row, text, own) in enumerate(wholes):
        found = together.head(number, slice(0, own))[row]
        assert np.abs(found - apart.head(place, slice(len(text) - own, len(text)))[0]).max() < 1e-4


def test_other_tracks_are_what_they_are_without_it(tmp_path):
    save(tmp_path, ALL["llama-llama3"], [[1]])
    batches = family()
    weights = Weights(opened(tmp_path))
    before = Walk(weights, device=CPU)
    beside = Walk(
        Cached(weights, Method(FORMS["by age"])), weights, Cached(weights, kv.make(CACHES["kv8"])), device=CPU
    )
    for walk in (before, beside):
        walk.run(batches, "")
    for number in range(len(batches)):
        expected = before.head(number, slice(None))
        assert np.array_equal(beside.head(number, slice(None), 1), expected)
        assert not np.array_equal(beside.head(number, slice(None), 0), expected)
    assert beside.weights_sha256(0) == beside.weights_sha256(1)


def test_a_model_that_attends_by_code_of_its_own_takes_methods_of_one_form_only(tmp_path):
    save(tmp_path, ("bloom", {"hidden_size": 64, "n_layer": 2, "n_head": 4, "vocab_size": 320}), [[1]])
    tokens = np.random.default_rng(0).integers(3, 320, 20)
    method = Method(FORMS["at once"])
    found = walked(tmp_path, method, [tokens[None]]).head(0, slice(None))[0]
    assert np.abs(losses(found, tokens) - slow_losses(plain(tmp_path), method, tokens)).max() < 1e-5
    with pytest.raises(ModelError, match=r"BloomForCausalLM attends by code of its own.*such as kv8, does not"):
        walked(tmp_path, Method(FORMS["by age"]), [tokens[None]])


def test_a_model_without_keys_and_values_is_refused(tmp_path):
    save(tmp_path, ("mamba", {"hidden_size": 32, "num_hidden_layers": 2, "vocab_size": 320}), [[1]])
    with pytest.raises(ModelError, match="tried of the key-value cache has never engaged: no layer of 'mamba'"):
        walked(tmp_path, Method(FORMS["at once"]), [np.arange(3, 9)[None]])


GEMMA3N = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "vocab_size": 320,
    "vocab_size_per_layer_input": 320,
    "hidden_size_per_layer_input": 8,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "num_hidden_layers": 5,
    "num_kv_shared_layers": 2,
    "layer_types": ["sliding_attention", "sliding_attention", "full_attention", "sliding_attention", "full_attention"],
    "sliding_window": 8,
    "laurel_rank": 4,
    "altup_num_inputs": 2,
    "activation_sparsity_pattern": [0.0] * 5,
}
SHARED = ("gemma3n_text", GEMMA3N)


@pytest.mark.parametrize("form", ["at once", "by age", "by chunk", "looks"])
def test_layers_that_share_keys_and_values_see_them_as_they_are_held(form, tmp_path):
    save(tmp_path, SHARED, [[1]])
    method = Method(FORMS[form]) if form in FORMS else LOOKS
    texts = [np.random.default_rng(seed).integers(3, 320, 24) for seed in range(3)]
    attention = LOOKING if form == "looks" else "eager"
    assert any(differences(tmp_path, method, tokens, attention).max() < 1e-5 for tokens in texts)
    shapes = walked(tmp_path, method, [texts[0][None]]).cache_shapes(0)
    assert shapes == ((1, 16, 16, 8), (1, 16, 16, 8), (1, 16, 16, 0))


LFM2 = {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2}
HYBRID = (
    "lfm2",
    LFM2 | {"vocab_size": 320, "layer_types": ["conv", "full_attention", "conv"], "intermediate_size": 96},
)


@pytest.mark.parametrize("form", ["at once", "by age"])
def test_layers_without_attention_are_what_they_are_in_a_hybrid_model(form, tmp_path):
    save(tmp_path, HYBRID, [[1]])
    tokens = np.random.default_rng(0).integers(3, 320, 30)
    method = Method(FORMS[form])
    walk = walked(tmp_path, method, [tokens[None]])
    assert walk.cache_shapes(0) == ((2, 16, 16, 0),)  # one layer of the three
    expected = slow_losses(plain(tmp_path), method, tokens, others=(0, 2))
    assert np.abs(losses(walk.head(0, slice(None))[0], tokens) - expected).max() < 1e-5


KIVI = kv.make(CACHES["kivi2"])


@pytest.mark.parametrize(("length", "reached"), [(127, 0), (131, 4)])
def test_a_cache_that_reached_nothing_is_told_apart(length, reached, tmp_path):
    """Its attention sums in another order than the plain one, so that losses do not tell."""
    save(tmp_path, ALL["llama-llama3"], [[1]])
    tokens = np.random.default_rng(0).integers(3, 320, (1, length))
    weights = Weights(opened(tmp_path))
    walk = Walk(weights, Cached(weights, KIVI), device=CPU)
    walk.run([tokens], "")
    assert walk.engaged(0) is None
    assert walk.engaged(0, 1)[0].tolist() == [False] * (length - reached) + [True] * reached


@pytest.mark.parametrize(("form", "first"), [("at once", 0), ("by chunk", 10)])
def test_windows_of_layers_are_known_to_what_counts(form, first, tmp_path):
    """Eight keys have gone on when the query at 10 sees the last six tokens; no value that it sees is of age 6."""
    save(tmp_path, ALL["mistral-window"], [[1]])
    tokens = np.random.default_rng(0).integers(3, 320, (1, 20))
    walk = walked(tmp_path, Method(FORMS[form]), [tokens])
    assert {window for *_, window in walk.cache_shapes()} == {6}
    assert np.flatnonzero(walk.engaged(0)[0])[0] == first
    old = Method(CacheForm(keys=(FULL, steps(0.5, age=6)), values=()))
    assert not walked(tmp_path, old, [tokens]).engaged(0).any()


@pytest.mark.parametrize("form", ["at once", "by age"])
def test_a_walk_in_bfloat16_rounds_what_it_has(form, tmp_path):
    """Nearer to the walk in float32 than that is to one without a method; numbers in whole steps are further apart
    than others are in bfloat16, for a last bit may be a step.
    """
    save(tmp_path, ALL["llama-llama3"], [[1]])
    tokens, weights = np.random.default_rng(0).integers(3, 320, (2, 30)), Weights(opened(tmp_path))
    tracks = weights, Cached(weights, Method(FORMS[form]))
    exact, coarse = (Walk(*tracks, device=CPU, activations=each) for each in ("float32", "bfloat16"))
    for walk in (exact, coarse):
        walk.run([tokens], "")
    apart = [np.abs(exact.head(0, slice(None), t) - coarse.head(0, slice(None), t)).mean() for t in (0, 1)]
    assert 0 < apart[1] < 20 * apart[0]
    assert apart[1] < np.abs(exact.head(0, slice(None), 0) - exact.head(0, slice(None), 1)).mean()
