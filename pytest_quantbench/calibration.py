"""Calibration: a text that is run through the model, and what every matrix saw of it.

While a layer of the walk runs over all batches, each of its linear layers adds its inputs to the sums here. Matrices
that share an input (query, key and value; gate and up) share its statistics, which are computed once.
Costs O(tokens × in²) for every different input; memory: one (in, in) float32 sum for each in the current layer.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from numpy.typing import NDArray

from pytest_quantbench.errors import CorpusError
from pytest_quantbench.hostmath import view
from pytest_quantbench.hub import Text
from pytest_quantbench.quantizers import Statistics
from pytest_quantbench.tokens import frame_of, longest_input, refuse_unknown_tokens

SEQUENCE_TOKENS = 2048
BATCH_TOKENS = 4096
SAMPLE_TOKENS, PEAK_TOKENS = 1024, 16


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationSet:
    """The text that calibrates, and how many sequences of it are used."""

    text: Text
    sequences: int

    def describe(self) -> dict[str, str | int]:
        """What an artifact's key and manifest say of it."""
        return {"text": self.text.name, "sha256": self.text.sha256, "sequences": self.sequences}

    def batches(self, tokenizer: Any, config: Mapping[str, Any], seed: int) -> list[mx.array]:
        """(batch, tokens) integers: `sequences` windows of the text, drawn with the seed, each behind the tokens
        that the tokenizer puts in front of a text.

        Raises CorpusError where the text is shorter than that, ModelError for tokens that the model does not know.
        """
        front = frame_of(tokenizer).prefix
        length = min(SEQUENCE_TOKENS, longest_input(config, SEQUENCE_TOKENS)) - len(front)
        ids = np.array(tokenizer.encode(self.text.content, add_special_tokens=False, verbose=False), np.int32)
        if len(ids) < length * self.sequences:
            raise CorpusError(
                f"The calibration text {self.text.name} has {len(ids)} tokens, and {self.sequences} sequences of "
                f"{length} were asked for. Give a longer text with --calibration FILE, or fewer sequences with "
                f"--calibration-sequences {len(ids) // length or 1}."
            )
        places = np.arange(len(ids) // length) * length
        chosen = np.sort(np.random.default_rng(seed).permutation(places)[: self.sequences])
        windows = ids[chosen[:, None] + np.arange(length)]  # (sequences, length)
        windows = np.concatenate([np.tile(np.array(front, np.int32), (len(windows), 1)), windows], axis=1)
        refuse_unknown_tokens(windows.reshape(-1).tolist(), config)
        together = max(1, BATCH_TOKENS // windows.shape[1])
        return [mx.array(windows[start : start + together]) for start in range(0, len(windows), together)]


class _Sums:
    """Running statistics of one input."""

    def __init__(self, in_features: int, rows_per_batch: int, seed: int) -> None:
        self.hessian = np.zeros((in_features, in_features), np.float32)
        self.tokens = 0
        self.sample: list[NDArray[np.float32]] = []
        self.peaks = np.zeros((0, in_features), np.float32)
        self._rows_per_batch = rows_per_batch
        self._random = np.random.default_rng(seed)

    def add(self, x: mx.array, host: bool) -> None:
        """Add the inputs of one batch, (…, in) float32."""
        flat = x.reshape(-1, x.shape[-1])
        mx.eval(flat)
        rows = view(flat)  # (tokens, in)
        self.hessian += rows.T @ rows if host else np.array(flat.T @ flat)
        self.tokens += len(rows)
        self.sample.append(rows[self._random.permutation(len(rows))[: self._rows_per_batch]])
        candidates = np.concatenate([self.peaks, rows])
        largest = np.argsort(-np.abs(candidates).max(axis=1), kind="stable")[:PEAK_TOKENS]
        self.peaks = candidates[largest]

    def statistics(self) -> Statistics:
        return Statistics(
            hessian=self.hessian / np.float32(self.tokens),
            tokens=self.tokens,
            sample=np.concatenate(self.sample)[:SAMPLE_TOKENS],
            peaks=self.peaks,
        )


class Observer:
    """Collects the statistics of one decoder layer's linear layers; `wrap` puts it into the layer."""

    def __init__(self, batches: int, seed: int, *, host: bool) -> None:
        self._rows_per_batch = -(-SAMPLE_TOKENS // batches)
        self._seed = seed
        self._host = host
        self._sums: dict[str, _Sums] = {}  # by the path of the first matrix that has this input
        self._owner: dict[str, str] = {}  # path → the path whose sums it shares
        self._last: tuple[str, mx.array] | None = None

    def wrap(self, path: str, layer: nn.Module) -> nn.Module:
        """The layer of this path, reporting its inputs."""
        return _Observed(self, path, layer)

    def see(self, path: str, x: mx.array) -> None:
        """Add the input of one call."""
        shared = self._last is not None and self._last[1] is x
        owner = self._owner.setdefault(path, self._last[0] if shared and self._last else path)
        if owner != path:
            return
        sums = self._sums.setdefault(path, _Sums(x.shape[-1], self._rows_per_batch, self._seed))
        sums.add(x, self._host)
        self._last = (path, x)

    def statistics(self) -> dict[str, Statistics]:
        """Statistics by the path of each matrix that was called; matrices with one input share one object."""
        made = {path: sums.statistics() for path, sums in self._sums.items()}
        return {path: made[owner] for path, owner in self._owner.items()}


class _Observed(nn.Module):
    """Stands in for a linear layer and shows its input to the observer."""

    def __init__(self, observer: Observer, path: str, layer: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._seen_by = (observer, path)  # a tuple: MLX's modules would take anything else for parameters
        self._inner = (layer,)

    def __call__(self, x: mx.array) -> mx.array:
        """(…, in) → (…, out)."""
        observer, path = self._seen_by
        observer.see(path, x)
        product: mx.array = self._inner[0](x)
        return product
