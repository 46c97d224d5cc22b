"""What a million tokens cost: known answers, and an interval that holds what it says."""

import dataclasses

import generated_suite
import numpy as np
import pytest
from builders import make_record
from hypothesis import given
from hypothesis import strategies as st

from pytest_quantbench.catalog.prices import Price
from pytest_quantbench.record import folder
from pytest_quantbench.record.cost import cost, priced, priced_again, seconds_per_token

PLAIN = make_record(throughput=generated_suite.records(1, ())[0].throughput)


@pytest.fixture(scope="module")
def cell():
    return generated_suite.cells(1)[2]


def at_rates(record, rates, price):
    """The cost of a cell that ran each prompt once, at these rates."""
    arrays = {"throughput/prompt": np.arange(len(rates)), "throughput/tokens_per_second": np.array(rates, float)}
    return cost(record, arrays, price)


def test_a_known_price(cell):
    """Ten and thirty tokens a second are 0.1 and 1 / 30 s a token: 66,667 s for a million, at one per second."""
    record, _ = cell
    found = at_rates(record, [10.0, 30.0], Price(per_hour=3600.0, currency="EUR"))
    assert found.per_million_tokens.estimate == pytest.approx(1e6 * (0.1 + 1 / 30) / 2)
    assert found.compression == pytest.approx(record.compression.time_sec)
    assert found.currency == "EUR"
    assert found.amortised_per_million_tokens is None


def test_compressing_is_spread_over_the_volume(cell):
    found = at_rates(cell[0], [10.0, 10.0, 11.0], Price(per_hour=36.0, volume_tokens=2_000_000))
    spread = found.amortised_per_million_tokens.estimate - found.per_million_tokens.estimate
    assert spread == pytest.approx(found.compression / 2)


def test_a_machine_that_changed_its_speed_tells_no_cost(cell):
    record, arrays = cell
    drifting = dataclasses.replace(record.throughput, probe_drift=-0.3)
    found = cost(dataclasses.replace(record, throughput=drifting), arrays, Price(per_hour=1.0))
    assert found.per_million_tokens is None
    assert found.suppressed == "the machine's own speed changed by -30% while it ran"


def test_without_rates_only_compressing_has_a_price(cell):
    found = cost(dataclasses.replace(cell[0], throughput=None), {}, Price(per_hour=1.0))
    assert found.per_million_tokens is None
    assert found.compression > 0
    assert at_rates(cell[0], [10.0], Price(per_hour=1.0)).per_million_tokens is None  # one prompt


def test_no_price_no_cost(cell):
    record, arrays = cell
    assert priced(record, arrays, None) is record
    assert priced_again(record, arrays).cost is None


@given(st.lists(st.floats(1.0, 1e4), min_size=2, max_size=20), st.floats(0.01, 1e3))
def test_cost_is_the_price_of_the_mean_time(rates, price):
    found = at_rates(PLAIN, rates, Price(per_hour=price)).per_million_tokens
    assert found.estimate == pytest.approx(price / 3600 * 1e6 * np.mean(1 / np.array(rates)))
    assert 0 <= found.low <= found.estimate * (1 + 1e-12) <= found.high * (1 + 1e-9)


def test_the_interval_holds_the_truth_as_often_as_it_says():
    """Prompts drawn from many of lognormal speed: the mean time per token of all of them lies in 90 % of intervals."""
    rng = np.random.default_rng(0)
    prompts, held, rounds = np.repeat(np.arange(5), 3), 0, 4000
    truth = float(np.exp(0.1**2 / 2)) / 30
    for _ in range(rounds):
        seconds = np.exp(rng.normal(0, 0.1, 5)) / 30
        rates = 1 / (np.repeat(seconds, 3) * np.exp(rng.normal(0, 0.001, 15)))
        found = seconds_per_token(prompts, rates).interval()
        held += found.low <= truth <= found.high
    assert held / rounds == pytest.approx(0.9, abs=0.02)


def test_rates_of_an_earlier_session_get_the_price_of_this_one(cell, tmp_path):
    record, arrays = cell
    folder.save(record, arrays, tmp_path)
    of_today = dataclasses.replace(record, throughput=None, verdicts=())
    rest = {name: array for name, array in arrays.items() if not name.startswith("throughput/")}
    folder.save(priced(of_today, rest, Price(per_hour=2.0)), rest, tmp_path)
    (found,) = folder.read_all(tmp_path)
    assert found.cost == cost(record, arrays, Price(per_hour=2.0))
    folder.save(dataclasses.replace(of_today, accuracy=None), {}, tmp_path)
    assert folder.read_all(tmp_path)[0].cost == found.cost  # a session without a price leaves it
