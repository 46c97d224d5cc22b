"""A candidate's files on the runtime that they are made for: what the file lost, and what the runtime's part is.

Nothing is judged by it: the figures stand in the record, and in the summary.
"""

import math

import pytest

pytestmark = pytest.mark.runtime


def test_runtime(deployed):
    assert all(map(math.isfinite, deployed.nll_nats.tolist()))
    assert len(deployed.nll_nats) == deployed.fidelity.kl_nats.size
