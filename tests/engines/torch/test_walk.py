"""The walk of Transformers' models against their own plain forward pass, in float32 and in bfloat16."""

import weakref

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from small_models import CONFIGS
from torch_models import filled, opened
from transformers_models import SMALL, save
from walked_models import Numbers, logits_of, walk_of

from pytest_quantbench.engines.protocol import Rounded
from pytest_quantbench.engines.torch import device
from pytest_quantbench.engines.torch.walk import Walk
from pytest_quantbench.errors import ModelError, QuantbenchError
from pytest_quantbench.quantizers import Fixed, PerToken

pytestmark = pytest.mark.model
CPU = torch.device("cpu")
QUICK = ("llama-llama3", "gemma2", "gemma3_text-tied", "mixtral", "gpt2", "phi3-longrope")
WHOLE = [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in SMALL]


class Stored:
    """An opened model as a walk reads it."""

    def __init__(self, found):
        self.found, self.config, self.names = found, found.config, found.names

    def dense(self, name):
        return self.found.tensor(name)

    def inputs(self, name):
        return None


def texts(vocabulary):
    rng = np.random.default_rng(0)
    return [rng.integers(3, vocabulary, shape) for shape in ((2, 30), (3, 17), (1, 1))]


def losses(logits, tokens):
    logits = torch.as_tensor(logits).double()
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), torch.as_tensor(tokens).flatten(), reduction="none")


@pytest.mark.parametrize("architecture", WHOLE)
def test_losses_are_those_of_the_plain_forward_pass(architecture, tmp_path):
    """Of Transformers' own attention, masks, experts and products; and branches may be of any kind."""
    tokens = [[5, 9, 31, 7, 200, 77, 8, 4, 6, 3]]
    expected = save(tmp_path, SMALL[architecture], tokens)
    walk = Walk(Stored(opened(tmp_path)), device=CPU)
    walk.run([np.array(tokens)], "")
    following = np.roll(tokens, -1)
    difference = losses(walk.head(0, slice(None)), following) - losses(expected[None], following)
    assert difference.abs().max() < 1e-5
    assert walk.proof.branching == "any"


@pytest.mark.parametrize("architecture", ["llama-llama3", "gemma2"])
def test_in_bfloat16_logits_are_of_float32(architecture, tmp_path):
    """Near those of float32, and far finer than numbers of 8 bits; the other type's track is exact."""
    save(tmp_path, SMALL[architecture], [[1]])
    plain, weights = filled(tmp_path), Stored(opened(tmp_path))
    walk = Walk(weights, Rounded(weights), device=CPU, activations="bfloat16")
    batches = texts(320)
    walk.run(batches, "")
    for number, batch in enumerate(batches):
        with torch.inference_mode():
            expected = losses(plain(input_ids=torch.tensor(batch)).logits, batch)
        rounded, exact = (losses(walk.head(number, slice(None), track), batch) for track in (0, 1))
        assert (exact - expected).abs().max() < 1e-5
        assert 1e-5 < (rounded - expected).abs().max() < 0.5
    logits = walk.head(0, slice(None))
    assert logits.dtype == np.float32
    assert (torch.as_tensor(logits).bfloat16().float().numpy() != logits).mean() > 0.5
    assert walk.weights_sha256(0) == walk.weights_sha256(1)


def test_rounded_tracks_of_float32_have_hidden_states_of_bfloat16():
    weights = Numbers("torch")
    walk = walk_of("torch", Rounded(weights))
    walk.run(texts(2048), "")
    state = walk._states[0][0]
    assert state.dtype == torch.float32
    assert torch.equal(state.bfloat16().float(), state)


def test_both_engines_hash_the_same_weights_alike():
    same = {engine: Numbers(engine) for engine in ("mlx", "torch")}
    assert set(same["mlx"].names) == set(same["torch"].names)
    hashes = set()
    for engine, weights in same.items():
        walk = walk_of(engine, weights)
        walk.run(texts(2048)[:1], "")
        hashes.add(walk.weights_sha256())
    assert len(hashes) == 1


def test_both_engines_give_one_loss():
    batches = texts(2048)
    found = []
    for engine in ("mlx", "torch"):
        walk = walk_of(engine, Numbers(engine))
        walk.run(batches, "")
        found.append(torch.cat([losses(*each) for each in zip(logits_of(walk, batches), batches, strict=True)]))
    assert (found[0] - found[1]).abs().max() < 1e-5


def test_a_layer_leaves_memory_when_it_is_done():
    weights = Numbers("torch")
    walk = walk_of("torch", weights, Rounded(weights), Numbers("torch", seed=1))
    walk.run(texts(2048)[:1], "")
    assert all(held.is_meta for name, held in walk._model.named_parameters() if ".layers." in name)


def test_a_tied_head_follows_the_embeddings():
    weights = Numbers("torch", "qwen2")
    assert CONFIGS["qwen2"]["tie_word_embeddings"]
    assert "lm_head.weight" not in weights.names
    walk = walk_of("torch", weights)
    walk.run(texts(2048)[:1], "")
    norm, head = (weights.parameters[f"model.{name}.weight"] for name in ("norm", "embed_tokens"))
    state = walk._states[0][0].numpy()
    normed = state / np.sqrt((state**2).mean(-1, keepdims=True) + 1e-5) * norm
    np.testing.assert_allclose(walk.head(0, slice(None)), normed @ head.T, atol=2e-4)


@pytest.mark.parametrize("stack", ["gate_up_proj", "down_proj"])
def test_every_expert_has_a_rule_of_its_own(stack):
    """The rule of one expert sets its inputs to 0: as if its matrix were 0."""
    ruled, silent = Numbers("torch", "mixtral"), Numbers("torch", "mixtral")
    nothing, almost_exact = Fixed(step=1e9, zero=0, bits=8), PerToken(bits=16)
    ruled.inputs = lambda name: (almost_exact, nothing, almost_exact, almost_exact) if stack in name else None
    for name in silent.names:
        if stack in name:
            silent.parameters[name][1] = 0
    found = []
    for weights in (ruled, silent, Numbers("torch", "mixtral")):
        walk = walk_of("torch", weights)
        walk.run(texts(2048)[:1], "")
        found.append(walk.head(0, slice(None)))
    np.testing.assert_allclose(found[0], found[1], atol=0.02)
    assert np.abs(found[0] - found[2]).max() > 0.1


def test_rules_of_experts_that_nobody_tells_apart_are_refused():
    weights = Numbers("torch")
    weights.inputs = lambda name: (PerToken(bits=8),) if "up_proj" in name else None
    with pytest.raises(ModelError, match="rules for the inputs of experts"):
        walk_of("torch", weights).run(texts(2048)[:1], "")


def test_a_parameter_that_the_model_does_not_have_is_named():
    weights = Numbers("torch")
    weights.names.append("model.layers.0.mlp.third_proj.weight")
    with pytest.raises(ModelError, match=r"no parameter model.layers.0.mlp.third_proj"):
        walk_of("torch", weights)


def test_equal_arguments_of_batches_are_held_once():
    walk = walk_of("torch", Numbers("torch"))
    walk.begin([np.zeros((1, 20), np.int64) for _ in range(5)])
    positions = {id(call.kwargs["position_embeddings"][0]) for layer in walk._calls[0] for call in layer}
    assert len(positions) == 1


def test_too_little_memory_is_told_before_anything_is_read(monkeypatch):
    """The largest layer, the embeddings and the head of 2,048 words, and a norm, in four bytes each."""
    weights = Numbers("torch")
    largest = sum(value.size for name, value in weights.parameters.items() if ".layers.0." in name)
    needed = 4 * (largest + 2 * 2048 * 64 + 64)
    monkeypatch.setattr(device, "free_bytes", lambda _: needed)
    walk_of("torch", weights)
    monkeypatch.setattr(device, "free_bytes", lambda _: needed - 1)
    with pytest.raises(QuantbenchError, match=r"One decoder layer .* takes 0.00 GB, and cpu has 0.00 GB left.*half"):
        walk_of("torch", weights)
    assert weights.asked == []


@pytest.mark.parametrize(
    ("fails", "step", "what"),
    [
        ("_entering", "begin", "Embedding the texts of a walk"),
        ("_called", "advance", "Decoder layer 0 of a walk"),
        ("_called", "observe", "Decoder layer 0 with what is observed"),
        ("_normed_and_multiplied", "head", "The head of a walk with its logits"),
    ],
)
def test_memory_that_ends_meanwhile_is_no_traceback(monkeypatch, fails, step, what):
    def full(*given):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    walk, given = walk_of("torch", Numbers("torch")), texts(2048)[:1]
    if step != "begin":
        walk.begin(given)
    if step == "head":
        walk.run(given, "")
    monkeypatch.setattr(walk, fails, full)
    arguments = {"begin": (given,), "advance": (0,), "observe": (0, None), "head": (0, slice(None))}[step]
    with pytest.raises(QuantbenchError, match=rf"{what} takes more memory than cpu has.*CUDA out of memory.*bfloat16"):
        getattr(walk, step)(*arguments)


def test_sums_are_float32_while_a_walk_computes():
    """Of products that CUDA would else add up in bfloat16; what else a process computes is left as it was."""
    seen, walk = set(), walk_of("torch", Numbers("torch"), activations="bfloat16")
    matmul = torch.backends.cuda.matmul
    for module in (*walk._layers, walk._model.lm_head, walk._model.model.embed_tokens):
        module.register_forward_pre_hook(lambda *_: seen.add(matmul.allow_bf16_reduced_precision_reduction))
    before = matmul.allow_bf16_reduced_precision_reduction
    given = texts(2048)[:1]
    walk.run(given, "")
    walk.head(0, slice(None))
    assert seen == {False}
    assert matmul.allow_bf16_reduced_precision_reduction is before is True


def test_one_head_is_in_memory_while_the_next_is_read():
    """Of two recipes, in both types: when weights outside of the layers are asked for, nothing holds earlier ones."""
    held = []

    class Watched(Numbers):
        def dense(self, name):
            if name == "lm_head.weight":
                held.append(sum(each() is not None for each in heads))
                heads.append(weakref.ref(made := torch.tensor(self.parameters[name])))
                return made
            return super().dense(name)

    heads = []
    walk = walk_of("torch", Watched("torch"), Watched("torch", seed=1), activations="bfloat16")
    given = texts(2048)[:1]
    walk.run(given, "")
    for track in (0, 1, 0):
        walk.head(0, slice(None), track)
        exact = walk._exact_head._exact
        heads.append(weakref.ref(exact))
        del exact
    assert held == [0] * len(held)
    assert len(held) > 3
