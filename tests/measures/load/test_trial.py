"""Rounds of loads: which there are and in which order, what is done before each, and what a fresh process tells."""

from collections import Counter

import pytest
from fake_runtime import FAKE

from pytest_quantbench.catalog.models import TINY_DIRECTORY
from pytest_quantbench.catalog.settings import Settings
from pytest_quantbench.errors import RunnerError
from pytest_quantbench.measures.load.samples import STAGES
from pytest_quantbench.measures.load.trial import NONE_ASKED, NOT_HERE, Asked, order, run
from pytest_quantbench.measures.load.ways import ByEngine, ByRuntime
from pytest_quantbench.storage import page_cache

ASKED = Asked(warm=5, cold=3, seed=0)


@pytest.fixture
def fake(tmp_path):
    file = tmp_path / "model.fake"
    file.write_bytes(bytes(10_000))
    return ByRuntime(runtime=FAKE, files=[file], ids=[3, 1, 4])


def test_every_round_has_one_of_each_kind_that_is_left():
    found = list(order(ASKED, ["own", "reference"]))
    assert Counter((side, cold) for _, side, cold in found) == {
        ("own", False): 5,
        ("own", True): 3,
        ("reference", False): 5,
        ("reference", True): 3,
    }
    assert len(set(found)) == len(found) == 16
    assert [number for number, _, _ in found] == sorted(number for number, _, _ in found)


def test_the_order_is_drawn_anew_for_each_round_and_the_same_with_the_same_seed():
    rounds = {
        seed: [
            tuple(
                kind for number, *kind in order(Asked(warm=8, cold=8, seed=seed), ["own", "reference"]) if number == n
            )
            for n in range(8)
        ]
        for seed in (0, 0, 1)
    }
    assert len({str(each) for each in rounds[0]}) > 3
    assert rounds[0] != rounds[1]
    assert list(order(ASKED, ["own"])) == list(order(ASKED, ["own"]))


def test_without_the_system_or_without_a_wish_no_load_is_cold(monkeypatch):
    assert not any(cold for _, _, cold in order(Asked(warm=2, cold=0, seed=0), ["own"]))
    assert Asked(warm=2, cold=0, seed=0).cold_lacks == NONE_ASKED
    monkeypatch.setattr(page_cache, "can_drop", lambda: False)
    assert not any(cold for _, _, cold in order(ASKED, ["own"]))
    assert (ASKED.cold_lacks, ASKED.cold_by) == (NOT_HERE, "")
    assert Asked(warm=1, cold=1, seed=0, drop_all=True).cold_by == "drop_caches"


def test_files_are_dropped_before_cold_loads_and_read_before_warm_ones(fake, monkeypatch):
    done = []
    monkeypatch.setattr(page_cache, "drop", lambda files: done.append("drop"))
    monkeypatch.setattr(page_cache, "read", lambda files: done.append("read"))
    found = run(fake, None, Asked(warm=2, cold=1, seed=0), 3, "")
    assert done == ["drop" if each.cold else "read" for each in found.loads]
    assert Counter(done) == {"read": 2, "drop": 1}
    assert (found.cold_by, found.cold_lacks, found.file_bytes) == ("posix_fadvise", "", 10_000)
    assert found.seconds >= sum(each.total_seconds for each in found.loads)


def test_a_runtime_tells_its_stages_and_its_memory(fake):
    found = run(fake, fake, Asked(warm=1, cold=1, seed=0), 3, "")
    assert len(found.loads) == len(found.reference_loads) == 2
    for each in (*found.loads, *found.reference_loads):
        assert list(each.seconds) == ["start", "weights", "first token"]
        assert all(seconds > 0 for seconds in each.seconds.values())
        assert each.total_seconds < 60
        assert each.peak_bytes >= each.after_bytes > 2**20
        assert each.device_bytes is None
    assert found.loader == found.reference_loader == f"fake ({FAKE.version})"
    warm = next(each for each in found.loads if not each.cold)
    assert warm.resident_share == 1


@pytest.mark.parametrize(
    ("mood", "told"),
    [("dies", r"ended before it answered \(timed\) \(SIGSEGV\)"), ("garbles", "an answer that is none")],
)
def test_a_process_that_fails_is_told_in_one_sentence(fake, monkeypatch, mood, told):
    monkeypatch.setenv("FAKE_MOOD", mood)
    with pytest.raises(RunnerError, match=f"The process of fake .*{told}"):
        run(fake, None, Asked(warm=1, cold=0, seed=0), 3, "")


def test_a_file_that_is_gone_is_told(tmp_path):
    gone = ByRuntime(runtime=FAKE, files=[tmp_path / "gone"], ids=[1])
    with pytest.raises(RunnerError, match="fake failed: there is no "):
        gone.once()


def by_engine(directory, **changes):
    files = [each for each in directory.iterdir() if each.is_file()]
    given = {"settings": Settings(engine="mlx"), "loader": "mlx", "files": files, "sha256": "0" * 64}
    return ByEngine(**given | {"original": directory} | changes)


def test_an_engine_loads_the_original_and_tells_every_stage():
    told = by_engine(TINY_DIRECTORY).once()
    assert sorted(told["seconds"]) == sorted(STAGES)
    assert all(seconds >= 0 for seconds in told["seconds"].values())
    assert told["seconds"]["start"] > max(told["seconds"]["tokenizer"], 0.1)  # the libraries are in it
    assert told["after_bytes"] - told["before_bytes"] > 2**22  # as many as the weights at least


def test_what_cannot_be_loaded_is_told_in_one_sentence(tmp_path):
    with pytest.raises(RunnerError, match=r"loading by mlx failed: .*config\.json"):
        by_engine(tmp_path).once()
    with pytest.raises(RunnerError, match=r"loading by mlx failed: .* cannot be read"):
        by_engine(TINY_DIRECTORY, artifact=str(tmp_path)).once()
