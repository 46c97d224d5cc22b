"""Raw per-item samples, as the measures hand them over: in a fixed order, with no judgement in them."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class PerplexitySamples:
    """T2. `nll_nats` is (tokens,) float32 in text order; `scored_bytes` the UTF-8 length of the tokens scored."""

    nll_nats: Floats
    scored_bytes: int
    protocol: str
    corpus: str
    corpus_sha256: str
    weights_sha256: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSamples:
    """One task of T3. (questions,) arrays in the order of `ids`; `loglikelihoods[i]` holds a number per choice."""

    ids: tuple[str, ...]
    correct: NDArray[np.bool_]  # by length-normalised log-likelihood: lm-eval's acc_norm
    correct_raw: NDArray[np.bool_]  # by plain log-likelihood: lm-eval's acc
    loglikelihoods: tuple[tuple[float, ...], ...]
    gold: tuple[int, ...]
    choices: int  # of most questions
    version: str
    sha256: str  # of the sampled documents, prompts included


@dataclass(frozen=True, slots=True, kw_only=True)
class AccuracySamples:
    """T3: every task's samples, in the order in which the tasks were asked for."""

    tasks: Mapping[str, TaskSamples]
    weights_sha256: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One generation of T1. `latencies_seconds` is (new tokens − 1,): the gaps between successive tokens."""

    prompt: int
    prompt_tokens: int
    new_tokens: int
    seconds: float
    first_token_seconds: float
    prefill_tokens_per_second: float
    latencies_seconds: Floats
    text: str

    @property
    def tokens_per_second(self) -> float:
        """Output tokens over wall-clock seconds, prefill included."""
        return self.new_tokens / self.seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class ThroughputSamples:
    """T1. `runs` goes round the prompts; `reference_runs` has the reference's runs if they were interleaved."""

    warm_up: Run
    runs: tuple[Run, ...]
    reference_runs: tuple[Run, ...]
    probes_per_second: tuple[float, float]  # a fixed matrix product before and after: their ratio shows drift
    load_seconds: float
    peak_bytes: int
    activations: str
    dense_layers: int  # matrices that had no native kernel and ran decoded


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorError:
    """One encoded matrix against the original. SNR in dB, infinite where nothing was lost."""

    name: str
    quantizer: str
    weights: int
    bits_per_weight: float
    snr_db: float
    cosine: float
    largest_error: float
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightSamples:
    """Every encoded matrix, in the model's order."""

    tensors: tuple[TensorError, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeSamples:
    """Bytes as they lie on disk. `bf16_bytes` is two per parameter, whatever the source's own type."""

    stored_bytes: int
    bf16_bytes: int
