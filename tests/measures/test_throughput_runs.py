"""What stands around T1's runs: warm-up, order, the processor's clock, energy, and prompts of the user's own."""

import dataclasses
import os
import time
from types import SimpleNamespace

import numpy as np
import pytest
from builders import make_throughput
from hypothesis import given
from hypothesis import strategies as st

from pytest_quantbench.catalog.corpora import PROMPTS
from pytest_quantbench.catalog.settings import Settings
from pytest_quantbench.errors import ModelError
from pytest_quantbench.measures import throughput_session
from pytest_quantbench.measures.throughput import THROUGHPUT
from pytest_quantbench.measures.throughput_runs import (
    MOST_WARM_UPS,
    observed,
    processors_had,
    reference_first,
    runs_for,
    warmed,
)
from pytest_quantbench.measures.throughput_samples import steady
from pytest_quantbench.record import throughput_summary
from pytest_quantbench.record.raw import raw_throughput, texts_of


def warmed_at(*rates):
    """How many runs it takes, of a model that is as fast as this one after the other."""
    runs = iter(make_throughput([rates]).runs)
    return warmed(lambda: next(runs))


@pytest.mark.parametrize(
    ("rates", "taken", "is_steady"),
    [
        ((100, 100), 2, True),
        ((100, 104), 2, True),
        ((20, 60, 97, 100, 1), 4, True),  # it becomes faster
        ((100, 80, 60, 59), 4, True),  # or slower
        ((50, 100, 50, 100, 50, 50), 5, False),  # there are no more than five
    ],
)
def test_a_model_is_warmed_up_until_its_rate_is_steady(rates, taken, is_steady):
    found = warmed_at(*rates)
    assert (len(found), steady(found)) == (taken, is_steady)
    samples = dataclasses.replace(make_throughput([[1.0], [2.0]]), warm_ups=found)
    part = throughput_summary.throughput(samples, None)
    assert (part.warm_up_runs, part.warm_up_steady) == (taken, is_steady)
    assert part.warm_up_tps == pytest.approx(rates[taken - 1])
    assert raw_throughput(samples)["throughput/warm_up_tokens_per_second"] == pytest.approx(rates[:taken])
    assert taken <= MOST_WARM_UPS


@given(st.integers(0, 2**32 - 1), st.integers(0, 80))
def test_the_order_is_drawn_by_its_seed_and_as_often_one_as_the_other(seed, rounds):
    found = reference_first(seed, rounds)
    assert found == reference_first(seed, rounds + 7)[:rounds]
    assert len(found) == rounds
    assert all(found[place] != found[place + 1] for place in range(0, rounds - 1, 2))


def test_orders_differ():
    drawn = {reference_first(seed, 16) for seed in range(50)}
    assert len(drawn) > 40
    assert np.mean([each[0] for each in drawn]) == pytest.approx(0.5, abs=0.2)


def test_a_run_that_waits_has_less_of_a_processor_than_one_that_computes():
    run = make_throughput([[1.0]]).runs[0]

    def computes():
        until = time.process_time() + 0.05
        while time.process_time() < until:
            pass
        return run

    def waits():
        time.sleep(0.1)
        return run

    cpu = SimpleNamespace(backend="cpu")
    assert observed(waits, cpu, None).cpu_share < 0.2
    assert observed(computes, cpu, None).cpu_share > observed(waits, cpu, None).cpu_share
    assert observed(waits, SimpleNamespace(backend="cuda"), None).cpu_share is None


def test_threads_that_share_a_processor_have_less_of_it_each():
    """Of as many threads as there are processors, and of four times as many."""
    few = len(os.sched_getaffinity(0))
    assert processors_had(4 * few) < 0.4
    assert processors_had(4 * few) < max(processors_had(few) for _ in range(5)) <= 1.02


def test_the_energy_of_a_run_is_what_the_meter_went_up_by():
    run, told = make_throughput([[1.0]]).runs[0], iter([10.0, 12.5, 20.0, None])
    meter = SimpleNamespace(joules=lambda: next(told), of="a meter")
    engine = SimpleNamespace(backend="cuda")
    assert observed(lambda: run, engine, meter).joules == 2.5
    assert observed(lambda: run, engine, meter).joules is None  # it tells no more
    assert observed(lambda: run, engine, None).joules is None
    samples = make_throughput([[1.0, 2.0], [3.0, 4.0]])
    runs = tuple(
        dataclasses.replace(each, joules=joules) for each, joules in zip(samples.runs, (1, 2, None, 3), strict=True)
    )
    part = throughput_summary.throughput(dataclasses.replace(samples, runs=runs, energy_of="a meter"), None)
    assert (part.joules_per_token, part.energy_of) == (6 / 300, "a meter")
    assert throughput_summary.throughput(samples, None).joules_per_token is None
    assert len(raw_throughput(samples)["throughput/joules"]) == 0


def test_so_many_runs_of_so_many_prompts():
    assert [runs_for(items, 5) for items in (0, 1, 5, 6)] == [0, 1, 1, 2]
    assert runs_for(7, 2) == 4


def test_prompts_and_lengths_of_the_users_are_other_work():
    def inputs(**changes):
        return SimpleNamespace(settings=Settings(**changes))

    plain = THROUGHPUT.work(inputs(), None)
    assert (plain["prompts"], plain["new_tokens"]) == (PROMPTS, 256)
    for changes in ({"prompts": ("a",)}, {"new_tokens": 8}):
        assert THROUGHPUT.work(inputs(**changes), None) != plain
    assert THROUGHPUT.runs(inputs(prompts=("a", "b")), 7) == 4


def test_a_session_goes_on_from_the_users_prompts_with_the_reference_in_turn(small_model, tmp_path):
    from measures.test_throughput import artifact_of, session

    directory = small_model()
    prompts = ("One.", "Two, which is longer than one.")
    beside = artifact_of(directory, tmp_path, "bf16")
    samples = session(directory, tmp_path, prompts=prompts, new_tokens=4, seed=3, reference=beside).finish()
    assert [run.prompt for run in samples.runs] == [run.prompt for run in samples.reference_runs] == [0, 1, 0, 1]
    assert samples.runs[0].prompt_tokens < samples.runs[1].prompt_tokens
    assert samples.reference_first == reference_first(3, 4)
    assert texts_of(raw_throughput(samples)["throughput/prompts"]) == list(prompts)
    part = throughput_summary.throughput(samples, None)
    assert (part.prompts, len(part.prompts_sha256), part.new_tokens) == (2, 64, 4)
    assert (part.order_seed, part.reference_first) == (3, 2)
    assert part.prompts_sha256 != throughput_summary.throughput(make_throughput([[1.0]]), None).prompts_sha256
    assert part.cpu_share > 0
    assert part.resident_gb >= part.resident_added_gb


def test_a_prompt_that_is_longer_than_the_model_was_made_for_is_refused(small_model, tmp_path):
    from measures.test_throughput import session

    directory = small_model(max_position_embeddings=64)
    long = "word " * 200
    with pytest.raises(ModelError, match=r"number 2 of --prompts has \d+ tokens, and the model was made for 64"):
        session(directory, tmp_path, prompts=("short", long)).start()
    assert isinstance(session(directory, tmp_path, prompts=("short",)), throughput_session.Session)
