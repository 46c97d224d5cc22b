"""The arrays beside a record: by the names that readers of the npz know, and of a new measure by its fields."""

from dataclasses import dataclass

import numpy as np
from builders import make_losses, make_throughput
from numpy.typing import NDArray

from pytest_quantbench.measures.samples import IntegritySamples
from pytest_quantbench.record.raw import raw


@dataclass(frozen=True, slots=True, kw_only=True)
class Own:
    """Samples of a measure that nobody knows here."""

    names: tuple[str, ...]
    zeros: NDArray[np.int64]


def test_every_measure_has_its_part_of_the_names():
    found = raw(
        {
            "perplexity": make_losses([1.0, 2.0], beside={"(head)": make_losses([3.0])}),
            "throughput": make_throughput([[2.0], [4.0]]),
            "own": Own(names=("a",), zeros=np.array([7])),
        }
    )
    assert found["perplexity/nll_nats"].tolist() == [1.0, 2.0]
    assert found["perplexity/(head)/nll_nats"].tolist() == [3.0]
    assert found["throughput/tokens_per_second"].tolist() == [2.0, 4.0]
    assert found["own/zeros"].tolist() == [7]
    assert {name.partition("/")[0] for name in found} == {"perplexity", "throughput", "own"}


def test_what_holds_no_arrays_or_is_judged_by_nothing_adds_none():
    assert raw({"integrity": IntegritySamples(tensors=3, problems=()), "calibration_text": make_losses([1.0])}) == {}
