"""Tiny with outlier channels in its keys: scores are what they were, and which way of rounding the cache survives."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch_models import opened

from pytest_quantbench.catalog.models import TINY_DIRECTORY
from pytest_quantbench.catalog.recipes import CACHES, Part
from pytest_quantbench.checkpoints.tokenizer import load_tokenizer
from pytest_quantbench.engines.torch.walk import Walk
from pytest_quantbench.engines.weights import Cached
from pytest_quantbench.quantizers import kv
from pytest_quantbench.quantizers.kv.held_bits import HeldLayer, bits_per_number

pytestmark = pytest.mark.model
LENGTH, CHANNELS, FACTOR = 481, 64, 16
LAYER = HeldLayer(heads=2, key_channels=CHANNELS, value_channels=CHANNELS)
SHORT_KIVI = Part(quantizer="kivi", parameters={"bits": 2, "group": 32, "window": 32})
THREE = Part(quantizer="affine", parameters={"bits": 3})
METHODS = {
    "kivi at 2": SHORT_KIVI,
    "affine at 3": THREE,
    **{n: CACHES[n] for n in ("kv8", "kv4", "kv4-rot", "kv2-channel", "kv2")},
}


class Outlying:
    """Tiny's weights, but that two channels of each head, in pairs that the rotary embedding turns, are made larger in
    the keys and as much smaller in the queries.
    """

    def __init__(self, factor):
        self._found, self._factor = opened(TINY_DIRECTORY), factor
        self.config, self.names = self._found.config, self._found.names

    def dense(self, name):
        tensor = self._found.tensor(name)
        if not name.endswith(("q_proj.weight", "k_proj.weight")):
            return tensor
        rows = tensor.float().clone().reshape(-1, CHANNELS, tensor.shape[1])
        rows[:, [3, 11, 35, 43]] *= self._factor if name.endswith("k_proj.weight") else 1 / self._factor
        return rows.reshape(tensor.shape)

    def inputs(self, name):
        return None


def losses(walk, track, tokens):
    rows = torch.from_numpy(walk.head(0, slice(None), track)[0]).double().log_softmax(-1)
    return -rows[torch.arange(len(tokens) - 1), torch.as_tensor(tokens[1:])].numpy()


@pytest.fixture(scope="module")
def found():
    """Mean losses above those of the cache in full, in nats, by method; and those of Tiny as it is under None."""
    text = (TINY_DIRECTORY / "heldout.txt").read_text()
    tokens = np.array(load_tokenizer(TINY_DIRECTORY).encode(text[: 8 * LENGTH]))[:LENGTH]
    weights = Outlying(FACTOR)
    cached = [Cached(weights, kv.make(part)) for part in METHODS.values()]
    walk = Walk(Outlying(1), weights, *cached, device=torch.device("cpu"))
    walk.run([tokens[None]], "")
    plain, full, *held = (losses(walk, track, tokens) for track in range(2 + len(METHODS)))
    means = {name: (each - full).mean() for name, each in zip(METHODS, held, strict=True)}
    return {None: np.abs(plain - full).max(), **means}


def test_scores_are_what_they_were(found):
    assert found[None] < 1e-3


def test_eight_bits_cost_next_to_nothing(found):
    assert abs(found["kv8"]) < 0.005


def test_kivi_is_better_than_tokens_for_themselves_at_fewer_bits(found):
    """With its window and its scales it stores fewer bits than the affine cache of 3."""
    kivi, affine = (bits_per_number(kv.make(part), [LAYER], LENGTH - 1) for part in (SHORT_KIVI, THREE))
    assert kivi < affine == 3.5
    assert abs(found["kivi at 2"]) < 0.1 < found["affine at 3"]


def test_channels_are_better_than_tokens_at_equal_bits(found):
    assert found["kv2-channel"] < 0.1
    assert found["kv2"] > 1


def test_rotation_helps(found):
    assert found["kv4-rot"] < 0.05
    assert found["kv4"] > 0.2
