"""Matrices with known statistics, on which quantizers are compared, and the best that any code could do on them."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pytest_quantbench.quantizers import Statistics

SIGMA = 0.02  # standard deviation of the synthetic weights
Matrix = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One matrix and the inputs that it gets. `gaussian`: independent Gaussian weights, for which bounds hold."""

    name: str
    weight: Matrix  # (out, in)
    statistics: Statistics
    gaussian: bool = False


def gaussian(size: int, seed: int = 5) -> Matrix:
    """(size, size) independent Gaussian weights."""
    return (SIGMA * np.random.default_rng(seed).standard_normal((size, size))).astype(np.float32)


def student(size: int, seed: int = 5) -> Matrix:
    """(size, size) independent Student-t weights with 5 degrees of freedom and the same standard deviation."""
    drawn = SIGMA * np.sqrt(3 / 5) * np.random.default_rng(seed).standard_t(5, (size, size))
    weights: Matrix = drawn.astype(np.float32)
    return weights


def white_inputs(size: int, seed: int = 0) -> Statistics:
    """Inputs that are independent and of the same power: the Hessian is the identity."""
    sample = np.random.default_rng(seed).standard_normal((1024, size)).astype(np.float32)
    return Statistics(hessian=np.eye(size, dtype=np.float32), tokens=1024, sample=sample, peaks=_peaks(sample))


def correlated_inputs(size: int, seed: int = 0) -> Statistics:
    """Inputs as those of real layers: a falling spectrum in a random basis, uneven channels, a few loud ones."""
    random = np.random.default_rng(seed)
    spectrum = (1.0 + np.arange(size)) ** -0.8
    basis, _ = np.linalg.qr(random.standard_normal((size, size)))
    gains = np.exp(0.5 * random.standard_normal(size))
    gains[random.permutation(size)[: max(1, size // 256)]] *= 15
    latent = random.standard_normal((2 * size, size)) * np.sqrt(spectrum / spectrum.mean())
    inputs = (latent @ basis * gains).astype(np.float32)
    hessian = inputs.T.astype(np.float64) @ inputs / len(inputs)
    hessian /= np.mean(np.diag(hessian))
    return Statistics(
        hessian=hessian.astype(np.float32), tokens=len(inputs), sample=inputs[:1024], peaks=_peaks(inputs)
    )


def quick_inputs(size: int, seed: int = 0) -> Statistics:
    """Inputs of uneven channels for thousands of them, made in a moment: a sample, and its Hessian with a ridge."""
    random = np.random.default_rng(seed)
    gains = np.exp(0.5 * random.standard_normal(size))
    inputs = (random.standard_normal((1024, size)) * gains).astype(np.float32)
    hessian = inputs.T @ inputs / np.float32(len(inputs)) + 0.1 * np.diag(np.square(gains)).astype(np.float32)
    hessian /= np.mean(np.diag(hessian))
    return Statistics(hessian=hessian, tokens=len(inputs), sample=inputs, peaks=_peaks(inputs))


def _peaks(inputs: Matrix) -> Matrix:
    loudest: Matrix = inputs[np.argsort(-np.abs(inputs).max(axis=1), kind="stable")[:16]]
    return loudest


def synthetic(sizes: tuple[int, ...]) -> Iterator[Case]:
    """Gaussian and Student-t weights with white and with correlated inputs, made one at a time."""
    for size in sizes:
        white, correlated = white_inputs(size), correlated_inputs(size)
        yield Case(name=f"Gaussian {size}²", weight=gaussian(size), statistics=white, gaussian=True)
        yield Case(name=f"Student-t {size}²", weight=student(size), statistics=white)
        yield Case(name=f"correlated {size}²", weight=gaussian(size), statistics=correlated, gaussian=True)


def bound_db(hessian: NDArray[np.floating], bits_per_weight: float) -> float:
    """No code of so many bits has a higher output SNR on independent Gaussian weights: reverse water-filling.

    Cover and Thomas, Elements of Information Theory, §10.3.3: with rate R spent over the eigenvalues λ of H, each
    keeps a distortion of min(λ, level). In dB; for white inputs 6.02 × bits.
    """
    eigenvalues = np.sort(np.maximum(np.linalg.eigvalsh(hessian.astype(np.float64)), 1e-12))[::-1]
    count = np.arange(1, len(eigenvalues) + 1)
    # With the k largest above water: mean log2 spread over all n gives the level in closed form.
    levels = np.exp((np.cumsum(np.log(eigenvalues)) - 2 * np.log(2) * bits_per_weight * len(eigenvalues)) / count)
    covered = levels < eigenvalues
    level = levels[np.flatnonzero(covered)[-1]] if covered.any() else eigenvalues[0]
    return float(10 * np.log10(eigenvalues.sum() / np.minimum(level, eigenvalues).sum()))
