"""What losses and divergences cost in numpy, beside MLX's own log-sum-exp and partition, on random Llamas of a CPU.

    python tools/logit_figures.py --tokens 512 --repeats 5 --vocabulary 8192 --vocabulary 32000

All forms score the same walk, in turns; the table has medians of CPU seconds, which other load on the machine hardly
stretches. T2 is a walk of 6 layers of 256 with its losses and its distributions kept; the divergence is taken from
them.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten

from pytest_quantbench.engines.logits import LOGITS_AT_ONCE, HostLogits
from pytest_quantbench.engines.mlx.logits import DeviceLogits
from pytest_quantbench.engines.mlx.skeleton import skeleton
from pytest_quantbench.engines.mlx.walk import Walk

CONFIG = {
    "model_type": "llama",
    "hidden_size": 256,
    "num_hidden_layers": 6,
    "intermediate_size": 688,
    "num_attention_heads": 8,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-5,
    "max_position_embeddings": 2048,
    "tie_word_embeddings": False,
}


class Plain:
    """Logits as MLX has functions for them: the losses, a hundredth of the log-probabilities, and what they miss."""

    def __init__(self, rows: mx.array) -> None:
        self._rows = rows

    def nll(self, tokens: np.ndarray) -> np.ndarray:
        chosen = mx.take_along_axis(self._rows, mx.array(tokens)[:, None], axis=-1)
        return np.array(mx.logsumexp(self._rows, axis=-1, keepdims=True) - chosen)[:, 0]

    def compact(self, place: int) -> tuple[mx.array, np.ndarray]:
        count = max(1, self._rows.shape[-1] // 150)
        scores = self._rows - mx.logsumexp(self._rows, axis=-1, keepdims=True)
        places = mx.argpartition(-scores, kth=count, axis=-1)[:, :count]
        return places, np.array(mx.take_along_axis(scores, places, axis=-1))

    def against(self, kept: tuple[mx.array, np.ndarray]) -> np.ndarray:
        scores = self._rows - mx.logsumexp(self._rows, axis=-1, keepdims=True)
        theirs = np.array(mx.take_along_axis(scores, kept[0], axis=-1))
        np.array(scores.min(axis=-1)), np.array(mx.argmax(self._rows, axis=-1))
        return (np.exp(kept[1]) * (kept[1] - theirs)).sum(-1)


FORMS: Mapping[str, Callable[[mx.array], object]] = {
    "plain MLX": Plain,
    "MLX in blocks": DeviceLogits,
    "numpy": lambda rows: HostLogits(np.asarray(rows)),
}


class Random:
    """Weights of a random Llama."""

    def __init__(self, vocabulary: int) -> None:
        self.config = CONFIG | {"vocab_size": vocabulary}
        mx.random.seed(0)
        model = skeleton(self.config, ["lm_head.weight"])
        self._parameters = dict(tree_flatten(model.parameters()))
        self.names = list(self._parameters)

    def dense(self, name: str) -> mx.array:
        return self._parameters[name]

    def inputs(self, name: str) -> None:
        return None


def timed(walk: Walk, ids: np.ndarray, form: Callable[[mx.array], Any]) -> tuple[float, float, float]:
    """CPU seconds of the head with the losses, of keeping the distributions, of a divergence from them."""
    taken = []
    stretch = max(1, LOGITS_AT_ONCE // walk.vocabulary)
    for start in range(0, len(ids) - 1, stretch):
        part = slice(start, min(start + stretch, len(ids) - 1))
        marks = [time.process_time()]
        logits = form(walk.head(0, part)[0])
        logits.nll(ids[part.start + 1 : part.stop + 1])
        marks.append(time.process_time())
        kept = logits.compact(part.start)
        marks.append(time.process_time())
        logits.against(kept)
        marks.append(time.process_time())
        taken.append(np.diff(marks))
    losses, keeping, divergence = np.sum(taken, axis=0).tolist()
    return losses, keeping, divergence


def _walked(walk: Walk, ids: np.ndarray) -> float:
    began = time.process_time()
    walk.run([ids[None, :-1]], "")
    return time.process_time() - began


def figures(vocabulary: int, tokens: int, repeats: int) -> None:
    """A row of the table for every form."""
    walk, ids = Walk(Random(vocabulary), host=True), np.random.default_rng(0).integers(0, vocabulary, tokens)
    layers = [_walked(walk, ids) for _ in range(repeats + 1)][1:]
    taken: dict[str, list[tuple[float, float, float]]] = {name: [] for name in FORMS}
    for _ in range(repeats):
        for name, form in FORMS.items():
            taken[name].append(timed(walk, ids, form))
    for name, rows in taken.items():
        losses, keeping, divergence = (statistics.median(column) for column in zip(*rows, strict=True))
        both = (statistics.median(layers) + losses + keeping, losses, keeping, divergence)
        print(f"| {vocabulary:,} | {name} | " + " | ".join(f"{seconds:.3f}" for seconds in both) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vocabulary", type=int, action="append")
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=5)
    chosen = parser.parse_args()
    print("| vocabulary | form | T2 | head and losses | keeping | divergence |\n|---|---|---|---|---|---|")
    for vocabulary in chosen.vocabulary or [8192, 32_000, 151_936]:
        figures(vocabulary, chosen.tokens, chosen.repeats)


if __name__ == "__main__":
    main()
