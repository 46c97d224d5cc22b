"""An engine whose model is a dictionary, for tests of what stands above engines."""

import numpy as np

from pytest_quantbench.engines.batches import behind_each_other
from pytest_quantbench.engines.logits import HostLogits
from pytest_quantbench.engines.parameters import Capacity
from pytest_quantbench.engines.walk_proof import Proof


class FakeEngine:
    """After a token come the logits that `rows` has for it, (vocabulary,) float32; after others all are equally likely.

    All it can is walk, and it is its own walk.
    """

    name, can, packages, backend = "fake", frozenset({"walk"}), (), "cpu"
    activations, judges_speed, threads, device_name = "float32", False, 1, ""

    def __init__(self, vocabulary, rows=()):
        self.vocabulary, self.rows, self.batches = vocabulary, dict(rows), ()
        self.proof = Proof(architecture="fake")

    def capacity(self, config):
        return Capacity(vocabulary=self.vocabulary, positions=None)

    def prove(self, model):
        return self.proof

    def walk(self, models, *, memory_bytes=0):
        return FakeEngine(self.vocabulary, self.rows)

    def run(self, batches, what):
        self.batches = behind_each_other(batches)

    def logits(self, batch, positions, track=0):
        return self._after(self.batches[batch].tokens[:, positions].ravel())

    def logits_at(self, batch, rows, places, track=0):
        return self._after(self.batches[batch].tokens[rows, places])

    def _after(self, tokens):
        unknown = np.zeros(self.vocabulary, np.float32)
        return HostLogits(np.stack([self.rows.get(int(token), unknown) for token in tokens]))

    def cache_shapes(self, track=0):
        return ()

    def engaged(self, batch, track=0):
        return None

    def weights_sha256(self, track=0):
        return "a dictionary has no weights"
