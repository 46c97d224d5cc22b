"""Walks on a device: whether they agree with those on the CPU, and how many tokens per second T2 reads."""

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from pytest_quantbench.catalog.models import TINY_DIRECTORY
from pytest_quantbench.checkpoints.checkpoint import Checkpoint
from pytest_quantbench.engines.protocol import Activations, Architecture, Weights
from pytest_quantbench.engines.torch.engine import TorchEngine
from pytest_quantbench.quantizers.encoding import Rules
from tools.device.random_weights import RandomWeights

TYPES: tuple[Activations, ...] = ("float32", "bfloat16")
LIMITS: Mapping[Activations, float] = {"float32": 1e-4, "bfloat16": 0.1}  # nats, the mean difference of a token's loss
WALKED_LAYERS = 8  # of a large model: what one takes, the others do
Losses = NDArray[np.float64]


class Published:
    """A model's weights as they were published."""

    def __init__(self, opened: Architecture) -> None:
        self._opened, self.config, self.names = opened, opened.config, list(opened.names)

    def dense(self, name: str) -> Any:
        """As they are stored."""
        return self._opened.tensor(name)

    def inputs(self, name: str) -> Rules | None:
        """Nothing is done to inputs."""
        return None


def heldout(tokens: int) -> NDArray[np.int64]:
    """The first tokens of Tiny's own text."""
    text = Path(TINY_DIRECTORY / "heldout.txt").read_text(encoding="utf-8")
    ids = Tokenizer.from_file(str(TINY_DIRECTORY / "tokenizer.json")).encode(text).ids
    return np.array(ids[:tokens], np.int64)[None]


def losses(engine: TorchEngine, weights: Weights, tokens: NDArray[np.int64]) -> Losses:
    """The loss of every token of (rows, length) but each row's first, in nats."""
    walk = engine.walk([weights])
    walk.run([tokens], "")
    found = [
        walk.logits_at(0, np.full(tokens.shape[1] - 1, row), np.arange(tokens.shape[1] - 1)).nll(tokens[row, 1:])
        for row in range(len(tokens))
    ]
    return np.concatenate(found)


def agreement(config: Mapping[str, Any], device: str) -> Iterator[dict[str, Any]]:
    """Losses of Tiny and of a random model at several levels, on the device against those on the CPU in float32."""
    exact = TorchEngine(device="cpu")
    rng = np.random.default_rng(1)
    drawn = rng.integers(0, config["vocab_size"], (2, 128))
    published = Published(exact.open(Checkpoint(TINY_DIRECTORY, None)))
    cases: list[tuple[str, Weights, NDArray[np.int64]]] = [("Tiny", published, heldout(384))]
    cases += [(f"random, {level}", RandomWeights(config, level, "cpu"), drawn) for level in ("bf16", "int4", "int2")]
    for name, weights, tokens in cases:
        wanted = losses(exact, weights, tokens)
        for activations in TYPES:
            engine = TorchEngine(device=device, activations=activations)
            difference = np.abs(losses(engine, weights, tokens) - wanted)
            yield {
                "model": name,
                "activations": activations,
                "tokens": len(wanted),
                "loss_nats": float(wanted.mean()),
                "mean_difference_nats": float(difference.mean()),
                "largest_difference_nats": float(difference.max()),
                "right": bool(difference.mean() <= LIMITS[activations]),
            }


def speed(config: Mapping[str, Any], device: str, rows: int, length: int) -> Iterator[dict[str, Any]]:
    """T2 on a random model of this shape: tokens per second with all that a walk does, and the peak of memory."""
    layers = min(WALKED_LAYERS, config["num_hidden_layers"])
    weights = RandomWeights({**config, "num_hidden_layers": layers}, "bf16", device)
    tokens = np.random.default_rng(2).integers(0, config["vocab_size"], (rows, length))
    for activations in reversed(TYPES):
        engine = TorchEngine(device=device, activations=activations)
        losses(engine, weights, tokens[:1, :32])  # warms up
        engine.reset_peak()
        began = time.perf_counter()
        found = losses(engine, weights, tokens)
        seconds = time.perf_counter() - began
        yield {
            "activations": activations,
            "layers": layers,
            "of_layers": config["num_hidden_layers"],
            "tokens": tokens.size,
            "seconds": seconds,
            "tokens_per_second": tokens.size / seconds,
            "peak_gb": engine.peak_bytes() / 1e9,
            "loss_nats": float(found.mean()),
        }
        engine.release()
