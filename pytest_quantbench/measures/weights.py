"""How far every decoded matrix is from the original: bits per weight, SNR, cosine, largest absolute error."""

import math

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from pytest_quantbench.artifacts import Artifact
from pytest_quantbench.hostmath import view
from pytest_quantbench.progress import track
from pytest_quantbench.samples import SizeSamples, TensorError, WeightSamples


def measure(artifact: Artifact, reference: Artifact) -> WeightSamples:
    """Compare every encoded matrix of an artifact with the reference's, one at a time, in float64 sums."""
    encoded = [name for name in artifact.names if artifact.tensor(name).quantizer is not None]
    shown = track(encoded, what=artifact.recipe_id, unit="matrix")
    return WeightSamples(tensors=tuple(_compare(artifact, reference, name) for name in shown))


def _compare(artifact: Artifact, reference: Artifact, name: str) -> TensorError:
    decoded, original = (view(a.dense(name).astype(mx.float32)).ravel() for a in (artifact, reference))
    stored = artifact.tensor(name)
    error = decoded - original
    return TensorError(
        name=name,
        quantizer=str(stored.quantizer),
        weights=original.size,
        bits_per_weight=8 * stored.stored_bytes / original.size,
        snr_db=snr_db(original, error),
        cosine=cosine(original, decoded),
        largest_error=float(np.abs(error).max()),
        note=stored.note,
    )


def snr_db(signal: NDArray[np.float32], error: NDArray[np.float32]) -> float:
    """10 log10(Σ signal² / Σ error²); infinite without error, −infinite for an error on an all-zero signal."""
    signal_power, error_power = (float(np.dot(x.astype(np.float64), x)) for x in (signal, error))
    if error_power == 0:
        return math.inf
    return 10 * math.log10(signal_power / error_power) if signal_power else -math.inf


def cosine(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """Cosine of the angle between two flattened matrices; 1 where both are zero, 0 where one is."""
    norms = [math.sqrt(float(np.dot(x.astype(np.float64), x))) for x in (first, second)]
    if not all(norms):
        return float(norms[0] == norms[1])
    return float(np.dot(first.astype(np.float64), second)) / (norms[0] * norms[1])


def size(artifact: Artifact) -> SizeSamples:
    """Bytes on disk against two bytes per parameter."""
    return SizeSamples(stored_bytes=artifact.manifest.stored_bytes, bf16_bytes=artifact.manifest.bf16_bytes)
