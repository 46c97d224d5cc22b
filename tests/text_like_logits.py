"""Logits like a language model's, and what is compared of them, computed the plain way."""

import numpy as np

from pytest_quantbench.engines.logits import HostLogits


def log_probabilities(rows):
    shifted = np.array(rows, np.float64)
    shifted -= shifted.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def quick_kl(first, second):
    p, q = log_probabilities(first), log_probabilities(second)
    return (np.exp(p) * (p - q)).sum(-1)


def text_like(seed, positions, vocabulary, noise):
    """Logits as language models have them: a few likely tokens, a tail like Zipf's, errors that grow along it."""
    rng = np.random.default_rng(seed)
    ranks = np.log(1 + np.arange(vocabulary))
    sharp = rng.uniform(0.8, 2.5, (positions, 1))
    first = -sharp * ranks + rng.standard_normal((positions, vocabulary))
    error = noise * (1 + ranks / ranks[-1]) * rng.standard_normal((positions, vocabulary))
    shuffled = rng.permutation(vocabulary)
    return first[:, shuffled].astype(np.float32), (first + error)[:, shuffled].astype(np.float32)


def compact(rows, place=0):
    return HostLogits(rows).compact(place)
