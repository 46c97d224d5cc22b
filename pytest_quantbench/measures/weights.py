"""How far every decoded matrix is from the original: bits per weight, SNR, cosine, largest absolute error."""

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from pytest_quantbench.compress.artifact import Artifact
from pytest_quantbench.compress.assignment import Tensor
from pytest_quantbench.measures.protocol import ArtifactMeasure, Inputs
from pytest_quantbench.measures.samples import SizeSamples, TensorError, WeightSamples
from pytest_quantbench.progress import track
from pytest_quantbench.quantizers.encoding import named


def measure(artifact: Artifact, reference: Artifact) -> WeightSamples:
    """Compare every matrix that is encoded, or that a candidate might have encoded, with the reference's, one at a
    time, in float64 sums.
    """
    encoded = [name for name in artifact.names if artifact.tensor(name).part != "kept"]
    shown = track(encoded, what=artifact.recipe_id, unit="matrix")
    return WeightSamples(tensors=tuple(error for name in shown for error in _errors(artifact, reference, name)))


def _errors(artifact: Artifact, reference: Artifact, name: str) -> Iterator[TensorError]:
    """Of a matrix, or of every expert's in a stack of them."""
    decoded, original = artifact.float32(name), reference.float32(name)
    if original.ndim == 2:
        yield _compare(artifact.tensor(name), name, decoded, original)
    for expert in range(len(original) if original.ndim == 3 else 0):
        yield _compare(artifact.tensor(name), named(name, expert), decoded[expert], original[expert])


def _compare(stored: Tensor, name: str, *matrices: NDArray[np.float32]) -> TensorError:
    """Of a decoded matrix and the original; experts of one stack are taken to be of one size."""
    decoded, original = (matrix.ravel() for matrix in matrices)
    error = decoded - original
    return TensorError(
        name=name,
        quantizer=stored.quantizer or "none",
        weights=original.size,
        bits_per_weight=8 * stored.stored_bytes / math.prod(stored.shape),
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


class WeightErrors(ArtifactMeasure[WeightSamples]):
    """Every encoded matrix against the original, as a measure."""

    name, label, version = "weights", "weights", 1
    samples = WeightSamples

    def measure(self, artifact: Artifact, reference: Artifact, inputs: Inputs) -> WeightSamples:
        """All of them."""
        return measure(artifact, reference)


WEIGHTS = WeightErrors()
