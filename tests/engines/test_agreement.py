"""MLX and PyTorch on small models of every architecture that both know: the same losses, to 1e-4 nats per token.

Of the weights as they are, and of artifacts that one engine made, which the other has through their published names.
"""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("mlx.core")
pytest.importorskip("torch")

from transformers_models import SMALL, save

from pytest_quantbench import engines
from pytest_quantbench.catalog.models import TINY_DIRECTORY
from pytest_quantbench.catalog.recipes import REFERENCE, recipe
from pytest_quantbench.checkpoints.checkpoint import Checkpoint, tokenizer_files
from pytest_quantbench.cli.main import main
from pytest_quantbench.compress.pipeline import compress
from pytest_quantbench.engines.batches import behind_each_other
from pytest_quantbench.engines.walk_proof import BRANCHING
from pytest_quantbench.workbench.engine_models import Given, branching_batches
from pytest_quantbench.workbench.published_values import ForAnotherEngine, PublishedValues

LIMIT_NATS = 1e-4
WIDER = {"granite": 2e-4}  # its random embeddings are multiplied by 3: either is up to 2e-5 off float64 on a text
FAST = (
    "llama-llama3",
    "llama-biases",
    "gemma2",
    "gemma3_text-tied",
    "phi3-longrope",
    "mixtral",
)
WINDOWED = {
    "mistral-window": ("mistral", SMALL["mistral-default"][1] | {"sliding_window": 8}),
    "qwen2-tied-biased": ("qwen2", SMALL["qwen2-default"][1] | {"tie_word_embeddings": True}),
}
EVERY = {**SMALL, **WINDOWED}


def opened_by_both(directory):
    checkpoint = Checkpoint(directory)
    return [engines.get(name).open(checkpoint) for name in ("mlx", "torch")]


def read(opened):
    """Texts as T2's and T3's are: as long as both take, and branches as far as both take them."""
    capacities = [each.engine.capacity(each.config) for each in opened]
    longest = min(capacity.longest_input(24) for capacity in capacities)
    random = np.random.default_rng(0)
    texts = [random.integers(3, 300, shape) for shape in ((1, longest), (2, min(longest, 7)))]
    kinds = [each.engine.prove(Given(each)).branching for each in opened]
    least = BRANCHING[max(BRANCHING.index(kind or "none") for kind in kinds)]
    branches = branching_batches(least) if longest >= 15 else []
    return texts, [replace(batch, tokens=batch.tokens % 317) for batch in branches]  # a vocabulary has 320


def losses(engine, weights, texts, branches):
    """Of some tokens at every place, padding left out."""
    batches = behind_each_other(texts, branches)
    walk = engine.walk([weights])
    walk.run(batches, "")
    found = []
    for number, batch in enumerate(batches):
        lengths = batch.lengths or (batch.tokens.shape[1],) * len(batch.tokens)
        rows = np.repeat(np.arange(len(lengths)), lengths)
        places = np.concatenate([np.arange(length) for length in lengths])
        logits = walk.logits_at(number, rows, places)
        found += [logits.nll((rows + places * 7 + shift) % 317) for shift in (0, 101, 202)]
    return np.concatenate(found)


def demand_agreement(opened, artifact, limit=LIMIT_NATS):
    """`artifact` is the first engine's; the second reads its values."""
    second = ForAnotherEngine(PublishedValues(artifact, opened[0]), opened[1])
    given = read(opened)
    one, other = losses(opened[0].engine, artifact, *given), losses(opened[1].engine, second, *given)
    assert np.abs(one - other).max() <= limit
    assert second.differing == set()


@pytest.mark.parametrize("name", FAST)
def test_the_engines_agree(tmp_path, name):
    save(tmp_path / "model", EVERY[name], [[5]])
    opened = opened_by_both(tmp_path / "model")
    for made in (REFERENCE, recipe("int4-rtn")):
        demand_agreement(opened, compress(opened[0], made, 0, tmp_path / "cache"), WIDER.get(name, LIMIT_NATS))


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(EVERY) - set(FAST)))
def test_the_engines_agree_on_every_architecture(tmp_path, name):
    test_the_engines_agree(tmp_path, name)


@pytest.mark.parametrize("name", ["llama-default", "mixtral"])
def test_what_pytorch_compressed_is_the_same_in_mlx(tmp_path, name):
    """The other way round: experts that Transformers joins are taken apart."""
    save(tmp_path / "model", EVERY[name], [[5]])
    opened = opened_by_both(tmp_path / "model")[::-1]
    demand_agreement(opened, compress(opened[0], recipe("int4-rtn"), 0, tmp_path / "cache"))


def test_weights_that_differ_are_told(tmp_path):
    """An engine that reads other values than the first."""
    save(tmp_path / "model", EVERY["llama-default"], [[5]])
    first, second = opened_by_both(tmp_path / "model")
    held = second.tensor
    second.tensor = lambda path: held(path) * (1.0 if "up_proj" not in path else 1.0 + 1e-6)
    view = ForAnotherEngine(PublishedValues(compress(first, REFERENCE, 0, tmp_path), first), second)
    for path in view.names:
        view.dense(path)
    assert view.differing == {path for path in view.names if "up_proj" in path}


def with_tiny_tokenizer(directory, model):
    """A model whose tokens are Tiny's, so that its texts and tasks can be asked."""
    kind, given = model
    large = {"vocab_size": 2048, "max_position_embeddings": 128}
    whole = {"text_config": given["text_config"] | large} if "text_config" in given else {}
    save(directory, (kind, given | large | whole), [[5]])
    for file in tokenizer_files(TINY_DIRECTORY):
        shutil.copy(file, directory)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["llama-default", "qwen2-default", "gemma3_text-tied", "phi3-default", "mixtral"])
def test_calibrated_recipes_agree_on_texts_and_choices(tmp_path, name, capsys):
    """By the command, with what T2 and T3 ask: a recipe that one engine fitted to a text."""
    with_tiny_tokenizer(tmp_path / "model", EVERY[name])
    text = tmp_path / "text.txt"
    text.write_text("The town of Ara is northern. Bo keeps a red lamp there. " * 1200)
    output = tmp_path / "found.json"
    said = ["engines", str(tmp_path / "model"), "--recipe", "int4-gptq", "--recipe", "int4-awq", "--corpus", str(text)]
    said += ["--tokens", "256", "--task", "tiny_facts", "--limit", "10", "--calibration", str(text), "--offline"]
    code = main([*said, "--output", str(output)])
    printed = capsys.readouterr()
    assert code == 0, printed.out + printed.err
    found = json.loads(output.read_text())
    assert [each["recipe"] for each in found["recipes"]] == ["bf16", "int4-gptq", "int4-awq"]
    assert all(each["choices"]["count"] == 40 for each in found["recipes"])
