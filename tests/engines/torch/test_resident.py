"""Whole models in memory: what is loaded how, what it is said to read, and what of it runs as it is stored."""

from collections import Counter
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import numpy as np
from transformers_models import SMALL, save

from pytest_quantbench.catalog.models import TINY_DIRECTORY
from pytest_quantbench.catalog.recipes import recipe
from pytest_quantbench.checkpoints.checkpoint import Checkpoint
from pytest_quantbench.compress.pipeline import compress
from pytest_quantbench.engines.torch import device, generate, resident, static_cache
from pytest_quantbench.engines.torch.decode_step import OneToken
from pytest_quantbench.engines.torch.embeddings import Embedding, Stack
from pytest_quantbench.engines.torch.engine import TorchEngine
from pytest_quantbench.engines.torch.filling_whole import BY_EXPERT, Filling
from pytest_quantbench.engines.torch.kernels.dense import DECODED
from pytest_quantbench.engines.torch.layers import Linear
from pytest_quantbench.errors import ModelError, QuantbenchError
from pytest_quantbench.quantizers.layer import Affine

ENGINE = TorchEngine(device="cpu")
MATRICES = 3 * 7 + 1  # of a small Llama: its layers' and the head
TOKENS = torch.tensor([[5, 17, 230, 7, 91, 44, 3, 150, 12]])
USES = ("timed", "answers", "rounded answers")


@pytest.fixture(scope="module")
def artifact(tmp_path_factory):
    """A small model at a recipe."""

    def make(name, recipe_id):
        directory = tmp_path_factory.mktemp(name)
        save(directory, SMALL[name], [[1, 2, 3]])
        for file in TINY_DIRECTORY.glob("tokenizer*"):
            (directory / file.name).write_bytes(file.read_bytes())
        opened = ENGINE.open(Checkpoint(directory, None))
        return compress(opened, recipe(recipe_id), 0, tmp_path_factory.mktemp("cache"))

    return make


def logits_of(loaded, tokens=TOKENS):
    """Of one whole forward pass."""
    positions = torch.arange(tokens.shape[1])[None]
    cache = static_cache.StaticCache(loaded.layers, 1, tokens.shape[1], positions)
    with torch.no_grad():
        return static_cache.forward(loaded.model, cache, tokens, positions, keep=0)[0].float()


@pytest.mark.parametrize("recipe_id", ["bf16", "int4-rtn", "int8-dynamic"])
@pytest.mark.parametrize("name", ["llama-biases", "qwen3_moe"])
def test_answers_are_of_the_walk_s_numbers(name, recipe_id, artifact):
    """Rules for the inputs of experts among them."""
    made = artifact(name, recipe_id)
    exact, rounded = (ENGINE.load(made, use) for use in ("answers", "rounded answers"))
    assert exact.activations == "float32"
    assert rounded.activations == "bfloat16"
    expected = ENGINE.walk([made])
    expected.run([TOKENS.numpy()], "")
    found = logits_of(exact)
    losses = expected.logits(0, slice(None)).nll(TOKENS[0].numpy())
    own = torch.nn.functional.cross_entropy(found, TOKENS[0], reduction="none")
    np.testing.assert_allclose(own.numpy(), losses, atol=2e-3 if recipe_id == "int8-dynamic" else 1e-4)
    assert 0 < (logits_of(rounded) - found).abs().max() < 0.5


@pytest.mark.parametrize(("activations", "other"), [("float32", "bfloat16"), ("bfloat16", "float32")])
def test_answers_are_written_in_the_type_that_walks_compute_in(activations, other, artifact):
    made, engine = artifact("llama-biases", "int4-rtn"), TorchEngine(device="cpu", activations=activations)
    assert [engine.load(made, use).activations for use in USES] == ["float32", activations, other]
    assert engine.answers_bytes(10) == (40 if activations == "float32" else 20)


@pytest.mark.parametrize(("recipe_id", "bits"), [("bf16", 32), ("int8-rtn", 8.5), ("int4-rtn", 4.5), ("int3-rtn", 3.5)])
def test_what_a_token_reads_is_what_is_stored(recipe_id, bits, artifact):
    """Of a head and embeddings of their own, the embeddings' one row."""
    loaded = ENGINE.load(artifact("llama-default", recipe_id), "timed")
    hidden, inner, layers, vocabulary = 64, 96, 3, 320
    of_layers = layers * (hidden * hidden * 2 + hidden * hidden // 2 * 2 + 3 * hidden * inner)
    expected = (of_layers + vocabulary * hidden) * bits / 8
    norms = (2 * layers + 1) * hidden * 4
    row = hidden * bits / 8
    assert expected <= loaded.bytes_per_token - norms - row <= 1.2 * expected + 2048
    assert loaded.dense_layers == 0
    assert sum(loaded.kernels.values()) == MATRICES
    assert DECODED not in loaded.kernels


def test_nothing_quantized_is_decoded_when_it_is_timed(artifact):
    model = ENGINE.load(artifact("llama-default", "int4-rtn"), "timed").model
    kinds = Counter(type(module) for module in model.modules())
    assert kinds[Linear] == MATRICES
    assert kinds[Embedding] == 1
    assert not kinds[torch.nn.Linear]
    assert not kinds[torch.nn.Embedding]


def test_tied_weights_are_head_and_embeddings(artifact):
    """They are stored once, and read once by the head and one row of them by the embeddings."""
    loaded = ENGINE.load(artifact("gemma3_text-tied", "int4-rtn"), "timed")
    assert sum(loaded.kernels.values()) == MATRICES
    exact = ENGINE.load(artifact("gemma3_text-tied", "int4-rtn"), "answers")
    torch.testing.assert_close(logits_of(loaded), logits_of(exact), atol=1e-3, rtol=1e-3)
    assert loaded.bytes_per_token < exact.bytes_per_token / 4


def test_a_tied_matrix_is_decoded_and_held_once(artifact):
    """Of one that is held as plain numbers: in the embeddings and in the head."""
    made = artifact("gemma3_text-tied", "bf16")
    asked = Counter()

    class Counted:
        config, names, encoding, inputs = made.config, made.names, made.encoding, made.inputs

        def dense(self, name):
            asked[name] += 1
            return made.dense(name)

    model = ENGINE.load(Counted(), "timed").model
    assert set(asked.values()) == {1}
    table, head = model.get_input_embeddings().rows.weight, model.get_output_embeddings().whole.weight
    assert table.data_ptr() == head.data_ptr()


def test_what_a_method_does_not_describe_is_said_to_be_decoded(artifact):
    """Of 3 bits in k-quants no layer is described: none of it runs as it is stored, but the head in 4 bits."""
    loaded = ENGINE.load(artifact("llama-default", "int3-kquant"), "timed")
    assert loaded.dense_layers == loaded.kernels[DECODED] == MATRICES - 1
    assert not any(name.startswith(("linear", "rows")) for name in loaded.kernels)


def test_experts_stay_as_they_are_stored(artifact):
    made = artifact("mixtral", "int4-rtn")
    timed, exact = (ENGINE.load(made, use) for use in ("timed", "answers"))
    stacks = [module for module in timed.model.modules() if isinstance(module, Stack)]
    assert len(stacks) == timed.kernels[BY_EXPERT] == 6
    torch.testing.assert_close(logits_of(timed), logits_of(exact), atol=1e-3, rtol=1e-3)
    decoder, prompt = timed.decoder(40), TOKENS[0].tolist()
    token = decoder.begin(prompt)
    assert decoder.step == "captured"
    decoder.next()
    following = torch.tensor([[*prompt, token]])
    torch.testing.assert_close(decoder.logits, logits_of(exact, following)[-1], atol=1e-3, rtol=1e-3)
    without = timed.bytes_per_token - sum(stack.bytes_per_expert * 2 for stack in stacks)  # two of four
    assert without < exact.bytes_per_token / 4


def test_what_is_read_of_an_expert_is_also_what_decoding_it_leaves():
    """Codes of 4 bits and two numbers of each group of 32; then 8 + 4 + 4 bytes of every weight, and its type's."""
    rng = np.random.default_rng(0)
    codes, ones = rng.integers(0, 2**32, (3 * 8, 64 // 8), np.uint32), np.ones((3 * 8, 2), np.float16)
    grid = Affine(codes=codes, scales=ones, biases=ones, bits=4, in_features=64)
    for dtype, beside in ((torch.float32, 16), (torch.bfloat16, 18)):
        stack = Stack(grid, 3, torch.device("cpu"), dtype)
        assert stack.bytes_per_expert == 8 * 64 * beside + 8 * (32 + 2 * 2 * 2)


def test_experts_with_rules_are_decoded_and_said_to_be(artifact):
    timed = ENGINE.load(artifact("qwen3_moe", "int8-dynamic"), "timed")
    exact = ENGINE.load(artifact("qwen3_moe", "int8-dynamic"), "answers")
    assert timed.dense_layers == timed.kernels[DECODED] == 3 * (4 + 2)  # no part of it has a grid
    decoder = timed.decoder(40)
    decoder.begin(TOKENS[0, :-1].tolist())
    decoder._token.fill_(int(TOKENS[0, -1]))
    decoder.next()
    assert decoder.step == "module by module"
    torch.testing.assert_close(decoder.logits, logits_of(exact)[-1], atol=0.05, rtol=0.02)  # roundings jump


@pytest.mark.parametrize(
    ("use", "recipe_id", "bits", "way_out"),
    [
        ("timed", "bf16", 16, r"Of [\d,]+ weights there is room for 16.0 bits each\.$"),
        ("timed", "int4-rtn", 4.5, r"room for 4.5 bits each\.$"),
        ("answers", "int4-rtn", 32, r"room for [\d,]+ weights of float32\.$"),
        ("rounded answers", "int4-rtn", 16, r"room for [\d,]+ weights of bfloat16\.$"),
    ],
)
def test_too_little_memory_is_told_before_a_model_is_loaded(use, recipe_id, bits, way_out, artifact, monkeypatch):
    """With the numbers, and what there is room for; norms are not quantized."""
    made, asked = artifact("llama-default", recipe_id), []

    class Watched:
        config, names, encoding, inputs = made.config, made.names, made.encoding, made.inputs

        def dense(self, name):
            asked.append(name)
            return made.dense(name)

    values = sum(held.numel() for held in ENGINE.load(made, "answers").model.state_dict().values())
    needed = values * bits // 8
    monkeypatch.setattr(device, "free_bytes", lambda _: 1.05 * needed)
    monkeypatch.setattr(resident, "free_bytes", lambda _: needed)
    ENGINE.load(Watched(), use)
    asked.clear()
    monkeypatch.setattr(device, "free_bytes", lambda _: 0.95 * needed)
    with pytest.raises(QuantbenchError, match=rf"The whole model, .* GB, and cpu has 0.00 GB left. .*{way_out}"):
        ENGINE.load(Watched(), use)
    assert asked == []


def test_another_device_is_named_where_one_is_too_small(monkeypatch):
    monkeypatch.setattr(resident, "free_bytes", lambda _: 9_000_000_000)
    filled = SimpleNamespace(values=8_000_000_000, native=True, dtype=torch.bfloat16, device=torch.device("cuda"))
    said = resident._way_out(filled)
    assert said.startswith("Of 8,000,000,000 weights there is room for 9.0 bits each; the CPU (--engine torch:cpu)")
    filled.native = False
    assert resident._way_out(filled).startswith("There is room for 4,500,000,000 weights of bfloat16; the CPU")


@pytest.mark.parametrize(
    ("module", "fails", "what"),
    [
        (Filling, "fill", "The whole model, as its weights are stored,"),
        (resident, "Decoder", "Keys and values of 128 tokens beside the weights"),
        (generate, "timed", "One generation that is timed"),
        (generate, "generate", "Generating several answers at a time"),
    ],
)
def test_memory_that_ends_meanwhile_is_no_traceback(module, fails, what, artifact, monkeypatch):
    made = artifact("llama-default", "bf16")

    def full(*given, **how):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    def use():
        loaded = ENGINE.load(made, "timed")
        return loaded.generate(None, [[1, 2]]) if fails == "generate" else loaded.timed([1, 2, 3], 6)

    monkeypatch.setattr(module, fails, full)
    with pytest.raises(QuantbenchError, match=rf"{what} takes more memory than cpu has.*CUDA out of memory"):
        use()


@pytest.mark.parametrize("use", USES)
def test_a_missing_weight_is_an_error(use, artifact):
    made = artifact("llama-default", "bf16")

    class Incomplete:
        config = made.config
        names = tuple(name for name in made.names if name != "model.layers.1.mlp.up_proj.weight")
        encoding, dense, inputs = made.encoding, made.dense, made.inputs

    with pytest.raises(ModelError, match=r"lack model.layers.1.mlp.up_proj.weight"):
        ENGINE.load(Incomplete(), use)


def test_what_remembers_something_else_than_keys_is_refused(artifact):
    model = ENGINE.load(artifact("llama-default", "bf16"), "answers").model
    model.config.layer_types = ["full_attention", "linear_attention", "full_attention"]
    with pytest.raises(ModelError, match="layers of the kind linear_attention"):
        static_cache.use(model)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["llama-default", "gemma2", "qwen3_moe"])
def test_pytorch_s_compiler_takes_a_step_in_one_piece(name, artifact):
    """As it is done on CUDA; here without making code of it."""
    loaded = ENGINE.load(artifact(name, "bf16"), "timed")
    token, position = torch.tensor([[5]]), torch.tensor([[0]])
    cache = static_cache.StaticCache(loaded.layers, 1, 64, position)
    with torch.no_grad():
        static_cache.forward(loaded.model, cache, token, position)
        step = OneToken(loaded.model, cache)
        compiled = torch.compile(step, fullgraph=True, dynamic=False, backend="eager")
        for place in range(4):
            token.fill_(place + 3)
            position.fill_(place)
            torch.testing.assert_close(compiled(token, position)[0], step(token, position)[0])
