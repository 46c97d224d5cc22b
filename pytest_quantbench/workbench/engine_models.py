"""Small Llamas of our own making, on disk as published models lie there, for whoever checks an engine.

What an engine makes of them is compared with `reference_llama`, which knows the same tensors and no engine.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from pytest_quantbench.checkpoints.checkpoint import Checkpoint
from pytest_quantbench.engines.batches import Batch, Ids
from pytest_quantbench.engines.protocol import Architecture, Engine
from pytest_quantbench.quantizers.encoding import Encoding, Rules
from pytest_quantbench.workbench.reference_llama import EMBEDDINGS, HEAD, ReferenceLlama

Tensors = Mapping[str, NDArray[np.float32]]
HIDDEN, INNER, HEAD_SIZE, LAYERS = 32, 48, 8, 3
VOCABULARY = 2048  # as many tokens as the embedded model's tokenizer has
CONFIG: Mapping[str, Any] = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": HIDDEN,
    "intermediate_size": INNER,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": HEAD_SIZE,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-3,
    "rope_theta": 100.0,
    "hidden_act": "silu",
    "tie_word_embeddings": False,
    "torch_dtype": "float32",
    "bos_token_id": 0,
    "eos_token_id": 0,
}
WINDOWED: Mapping[str, Any] = {"model_type": "mistral", "architectures": ["MistralForCausalLM"], "sliding_window": 6}


@dataclass(frozen=True, slots=True, kw_only=True)
class SmallModel:
    """A checkpoint's directory, and what lies in it."""

    directory: Path
    config: Mapping[str, Any]
    tensors: Tensors

    def opened(self, engine: Engine) -> Architecture:
        """As the engine opens it."""
        return engine.open(Checkpoint(self.directory))

    def weights(self, engine: Engine) -> "Given":
        """Its parameters for a walk."""
        return Given(self.opened(engine))

    def reference(self, rule: Any = None) -> ReferenceLlama:
        """What computes it independently of any engine."""
        return ReferenceLlama(self.config, self.tensors, rule)


class Given:
    """An opened model as weights for a walk, or for a model in memory: `EncodedWeights`. `rule` is done to the inputs
    of every matrix of the decoder layers; `encodings` are those of some parameters, by path.
    """

    def __init__(self, opened: Architecture, rule: Any = None, encodings: Mapping[str, Encoding] | None = None) -> None:
        self.opened, self.config, self.names = opened, opened.config, opened.names
        inside = [each.path for each in opened.parameters if each.layer is not None and each.kind == "linear"]
        self._rules = dict.fromkeys(inside, rule)
        self._encodings = encodings or {}

    def dense(self, name: str) -> Any:
        """A parameter in the engine's own form, or an encoded one's values in numpy."""
        encoding = self._encodings.get(name)
        return self.opened.tensor(name) if encoding is None else encoding.dense()

    def inputs(self, name: str) -> Rules | None:
        """What is done to the inputs of the layer that owns it."""
        rule: Rules | None = self._rules.get(name)
        return rule

    def encoding(self, name: str) -> Encoding | None:
        """What it is encoded as; None: it is as it was."""
        return self._encodings.get(name)


class SmallModels:
    """A folder for such models. Each is written once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._written = 0

    def llama(self, seed: int = 0, *, change: Mapping[str, Any] | None = None, **config: Any) -> SmallModel:
        """A model with random weights. `change`: tensors that are others than the seed says, by their published names;
        None for one that is missing. `config`: what its config says otherwise.
        """
        whole = {**CONFIG, **config}
        tensors = {**random_tensors(whole, seed), **(change or {})}
        held = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items() if tensor is not None}
        directory = self._folder / f"model-{self._written}"
        self._written += 1
        directory.mkdir()
        (directory / "config.json").write_text(json.dumps(whole))
        save_file(held, directory / "model.safetensors", {"format": "pt"})
        return SmallModel(directory=directory, config=whole, tensors=held)


@contextmanager
def small_models() -> Iterator[SmallModels]:
    """Models that are deleted in the end."""
    with TemporaryDirectory() as folder:
        yield SmallModels(Path(folder))


def random_tensors(config: Mapping[str, Any], seed: int) -> dict[str, NDArray[np.float32]]:
    """All tensors under their published names: matrices that neither swell nor quench what goes through them."""
    random = np.random.default_rng(seed)

    def matrix(out: int, columns: int) -> NDArray[np.float32]:
        drawn = 1.5 * random.standard_normal((out, columns)) / np.sqrt(columns)
        return np.asarray(drawn, np.float32)

    def norm() -> NDArray[np.float32]:
        return np.asarray(1 + 0.2 * random.standard_normal(HIDDEN), np.float32)

    queries, keys = (config[f"num_{kind}_heads"] * HEAD_SIZE for kind in ("attention", "key_value"))
    found = {
        EMBEDDINGS: random.standard_normal((config["vocab_size"], HIDDEN)).astype(np.float32),
        "model.norm.weight": norm(),
    }
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}."
        found |= {
            f"{prefix}self_attn.{name}_proj.weight": matrix(rows, HIDDEN)
            for name, rows in zip("qkv", (queries, keys, keys), strict=True)
        }
        found |= {f"{prefix}self_attn.o_proj.weight": matrix(HIDDEN, queries)}
        found |= {f"{prefix}mlp.{name}_proj.weight": matrix(INNER, HIDDEN) for name in ("gate", "up")}
        found |= {f"{prefix}mlp.down_proj.weight": matrix(HIDDEN, INNER)}
        found |= {f"{prefix}{name}_layernorm.weight": norm() for name in ("input", "post_attention")}
    return found if config["tie_word_embeddings"] else {**found, HEAD: matrix(config["vocab_size"], HIDDEN)}


def even_batches(seed: int = 0) -> list[Ids]:
    """Texts in three batches, of a row or two, none padded."""
    random = np.random.default_rng(seed)
    return [random.integers(3, VOCABULARY, shape) for shape in ((2, 13), (1, 9), (1, 1))]


def branching_batches(branching: str | None, seed: int = 1) -> list[Batch]:
    """A preamble, contexts that go on from it, and choices that go on from these. `branching`: of `any` lengths, padded
    at their ends, or `even` ones; otherwise nothing goes on from anything, and rows are padded alone.
    """
    random = np.random.default_rng(seed)

    def batch(longest: int, lengths: Sequence[int], parent: int | None = None, rows: Sequence[int] = ()) -> Batch:
        tokens = random.integers(3, VOCABULARY, (len(lengths), longest)).astype(np.int32)
        tokens[np.arange(longest) >= np.array(lengths)[:, None]] = 0
        return Batch(tokens=tokens, lengths=tuple(lengths), parent=parent, rows=tuple(rows))

    uneven = branching == "any"
    preamble = batch(5, (5,))
    contexts = batch(7, (4, 7, 2) if uneven else (7, 7, 7), 0, (0, 0, 0))
    choices = batch(3, (1, 3, 2, 3), 1, (0, 1, 1, 2))
    return [preamble, contexts, choices] if branching in ("any", "even") else [batch(9, (9, 4, 1)), preamble]


def texts_of(batches: Sequence[Batch]) -> list[list[tuple[list[int], int]]]:
    """For each row of each batch all tokens from its text's beginning on, padding left out, and how many of them stand
    before the batch's own.
    """
    found: list[list[tuple[list[int], int]]] = []
    for batch in batches:
        lengths = batch.lengths or (batch.tokens.shape[1],) * len(batch.tokens)
        own = [row[:length].tolist() for row, length in zip(batch.tokens, lengths, strict=True)]
        before: list[list[int]] = [[] for _ in own]
        if batch.parent is not None:
            before = [found[batch.parent][row][0] for row in batch.rows]
        found.append([(above + tokens, len(above)) for above, tokens in zip(before, own, strict=True)])
    return found
