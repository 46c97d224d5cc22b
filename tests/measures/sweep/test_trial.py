from types import SimpleNamespace

import numpy as np
import pytest
from measures.sweep.fake_models import Engine, Model, trial

from pytest_quantbench.measures.sweep import trial as trials
from pytest_quantbench.measures.sweep.measure import SWEEP
from pytest_quantbench.measures.sweep.samples import Point


@pytest.fixture(autouse=True)
def few_pairs(monkeypatch):
    monkeypatch.setattr(trials, "MOST_PAIRS", 4)
    monkeypatch.setattr(trials, "processors_had", lambda threads: threads / 2)


def test_every_point_has_pairs_in_a_random_order_that_is_recorded(tmp_path):
    log = []
    own, reference = Model("own", log), Model("reference", log, step=0.02)
    samples = trial(tmp_path, own=own, reference=reference).finish(None)
    assert len(samples.points) == 9 + 7 + 1 + 2
    assert all(len(each.runs) == len(each.reference_runs) == 4 for each in samples.points)
    assert all(len(each.probes_per_second) == 5 * 5 for each in samples.points)
    assert all(each.read_rates == (1e6,) * 5 and each.threads == 1 for each in samples.points)
    shares = [run.cpu_share for each in samples.points for run in (*each.runs, *each.reference_runs)]
    assert all(share is not None and share > 0 for share in shares)
    assert all(each.processors_had == (0.5,) * 4 for each in samples.points)
    assert all(each.seconds > 0 for each in samples.points)
    point = samples.points[0]
    told = [name for name, *_ in log[2:10]]  # behind the run of each that is thrown away
    pairs = {True: ["reference", "own"], False: ["own", "reference"]}
    assert told == [name for first in point.reference_first for name in pairs[first]]
    orders = {each.reference_first for each in samples.points}
    assert len(orders) > 4
    again = trial(tmp_path / "elsewhere", own=Model("own", []), reference=Model("reference", [])).finish(None)
    assert [each.reference_first for each in again.points] == [each.reference_first for each in samples.points]
    other = trial(tmp_path / "third", reference=Model("reference", []), seed=1).finish(None)
    assert [each.reference_first for each in other.points] != [each.reference_first for each in samples.points]


def test_rates_are_of_known_times(tmp_path):
    samples = trial(tmp_path).finish(None)
    decode = samples.at(Point(kind="decode", rows=4, depth=512, new_tokens=64))
    rates = decode.rates(decode.runs)
    slower = np.array([run.gaps_seconds[0] / 0.01 for run in decode.runs])
    np.testing.assert_allclose(rates, 4 / (0.01 * slower), rtol=1e-5)
    prefill = samples.at(Point(kind="prefill", rows=1, depth=1024, new_tokens=1))
    np.testing.assert_allclose(prefill.rates(prefill.runs) * [run.first_seconds for run in prefill.runs], 1024)
    requests = samples.at(Point(kind="requests", rows=4, depth=512, new_tokens=32))
    firsts = requests.runs[0].firsts_seconds
    assert len(firsts) == 4
    assert len(requests.runs[0].gaps_seconds) == 4 * 31
    assert requests.runs[0].seconds == pytest.approx(firsts.max() + 31 * 0.01)
    assert requests.rates(requests.runs)[0] == pytest.approx(4 * 32 / requests.runs[0].seconds)


def test_prompts_are_answered_one_after_the_other_at_the_temperature(tmp_path):
    own = Model("own", [])
    samples = trial(tmp_path, own=own).finish(None)
    drawn = [each for each in own.drawn if each is not None]
    assert drawn == [(0, 0.5), (0, 0.5), (1, 0.5), (2, 0.5), (3, 0.5)]  # the first run is thrown away
    assert samples.temperature == 0.5
    assert samples.points[16].point == Point(kind="end to end", rows=1, depth=3, new_tokens=6)


def test_what_has_no_room_is_left_out_with_the_reason(tmp_path):
    own = Model("own", [], refuses=8)
    samples = trial(tmp_path, positions=4096, engine=Engine(free=150_000), own=own).finish(None)
    why = {each.point.name: each.skipped for each in samples.points if each.skipped}
    assert why["decode 1 × 8192"] == "it takes 8,256 positions, and the model has 4,096"
    assert why["prefill 1 × 8192"] == "it takes 8,193 positions, and the model has 4,096"
    assert why["decode 8 × 512"] == "This model reads one text at a time."
    assert why["decode 32 × 512"].startswith("it takes about 0.00 GB beside the weights")
    assert not samples.points[0].skipped
    assert samples.at(Point(kind="decode", rows=32, depth=512, new_tokens=64)) is None


def test_a_sweep_that_was_stopped_goes_on_where_it_was(tmp_path):
    class Stopped(Model):
        def timed_requests(self, prompts, new_tokens):
            raise KeyboardInterrupt

    stopped = Stopped("own", [])
    with pytest.raises(KeyboardInterrupt):
        trial(tmp_path, own=stopped).finish(None)
    log = []
    whole = trial(tmp_path, own=Model("own", log)).finish(None)
    assert {kind for _, _, kind in log} == {"requests"}  # all else was kept
    assert len(whole.points) == 19
    assert whole.points[0].runs[1].seconds == pytest.approx((0.001 + 63 * 0.01) * 1.01**3)  # of the first sweep
    fresh = []
    trial(tmp_path, own=Model("own", fresh), fresh=True).finish(None)
    other = []
    trial(tmp_path, own=Model("own", other), work={"points": 2}).finish(None)
    assert len(fresh) == len(other) > len(log)


def test_every_prompt_is_answered_as_often_as_any_other(tmp_path, monkeypatch):
    swept = trial(tmp_path)
    swept._prompts = [[1, 2, 3], [4, 5], [6]]
    point = swept.finish(None).points[16]
    assert [run.prompt for run in point.runs] == [0, 1, 2]  # four pairs would be a prompt more of one only
    monkeypatch.setattr(trials, "MOST_PAIRS", 20)
    own = Model("own", [])
    assert [run.prompt for run in trial(tmp_path / "more", own=own).finish(None).points[16].runs] == 10 * [0, 1]


def test_what_had_no_room_once_is_measured_where_there_is(tmp_path):
    first = trial(tmp_path, engine=Engine(free=50_000), own=Model("own", [], refuses=32)).finish(None)
    short = [each.point.name for each in first.points if each.lacked_bytes]
    assert short
    assert not SWEEP.lacks(SimpleNamespace(engine=Engine(free=50_000)), None, first)
    assert SWEEP.lacks(SimpleNamespace(engine=Engine(free=10**9)), None, first)
    log = []
    again = trial(tmp_path, own=Model("own", log, refuses=32)).finish(None)
    assert [each.point.name for each in again.points if each.skipped] == ["decode 32 × 512"]  # the model refuses it
    assert {each.point.name for each in again.points if each.runs} > set(short) - {"decode 32 × 512"}
    assert len(log) == 5 * (len(short) - 1) + 1  # all else was kept
    assert not SWEEP.lacks(SimpleNamespace(engine=Engine()), None, again)


def test_models_are_let_go(tmp_path):
    engine = Engine()
    started = trial(tmp_path, engine=engine)
    samples = started.finish(None)
    assert engine.released
    assert started.finish(None) is samples
