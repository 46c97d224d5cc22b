import numpy as np
import pytest
from fake_runtime import FAKE, VOCABULARY, logits_after
from hypothesis import given
from hypothesis import strategies as st

from pytest_quantbench.engines.runtimes import deployed
from pytest_quantbench.engines.runtimes.deployed import Deployed, Piece, pieces
from pytest_quantbench.errors import RunnerError


@given(st.integers(1, 3000), st.data(), st.integers(1, 600), st.integers(1, 600))
def test_pieces_are_all_of_a_sequence_in_order(length, data, most_scored, most_tokens):
    scored = data.draw(st.integers(0, length))
    found = list(pieces(length, scored, most_scored, most_tokens))
    assert [place for each in found for place in range(each.begin, each.end)] == list(range(length))
    assert sum(each.scored for each in found) == scored
    assert all(each.end - each.begin <= most_tokens and each.scored <= most_scored for each in found)
    behind = [each.scored > 0 for each in found]
    assert behind == sorted(behind)  # what is scored lies at the end


def test_a_window_that_fits_is_read_at_once():
    assert list(pieces(256, 64, 100)) == [Piece(begin=0, end=256, scored=64)]
    assert list(pieces(256, 64, 40)) == [Piece(begin=0, end=232, scored=40), Piece(begin=232, end=256, scored=24)]


@pytest.mark.parametrize("at_once", [VOCABULARY * 3, 2**24])
def test_logits_are_those_of_the_last_positions(tmp_path, monkeypatch, at_once):
    monkeypatch.setattr(deployed, "LOGITS_AT_ONCE", at_once)
    ids = [5, 3, 600, 2, 9, 11, 1, 4, 4]
    with FAKE.start() as process:
        loaded = Deployed(process, tmp_path, context=32)
        for _ in range(2):  # nothing of the first is left for the second
            found = list(loaded.logits(ids, 7))
            assert len(found) == (3 if at_once < 2**24 else 1)
            following = np.arange(7)
            whole = np.concatenate([each.nll(following[: len(each)]) for each in found])
            slow = [
                np.log(np.exp(logits_after(ids[: 3 + i]).astype(np.float64)).sum()) - logits_after(ids[: 3 + i])[token]
                for i, token in enumerate(np.concatenate([following[: len(each)] for each in found]))
            ]
            np.testing.assert_allclose(whole, slow, atol=1e-5)
        assert loaded.read_seconds > 0
        assert loaded.peak_bytes >= loaded.before_bytes > 0
        assert "32 positions" in loaded.told


def test_generation_is_greedy_and_begins_anew(tmp_path):
    prompt, wanted = [7, 8, 9], []
    for _ in range(5):
        wanted.append(int(logits_after([*prompt, *wanted]).argmax()))
    with FAKE.start() as process:
        loaded = Deployed(process, tmp_path, context=32)
        for _ in range(2):
            found = loaded.timed(prompt, 5)
            assert found.tokens == tuple(wanted)
            assert list(found.seconds) == sorted(found.seconds)
            assert found.seconds[0] > 0


def test_a_prompt_longer_than_a_batch_is_read_whole(tmp_path):
    prompt = np.arange(1200) % VOCABULARY
    with FAKE.start() as process:
        found = Deployed(process, tmp_path, context=2048).timed(prompt, 1)
    assert found.tokens == (int(logits_after(prompt).argmax()),)


def test_logits_of_another_shape_are_refused(tmp_path):
    with FAKE.start() as process:
        loaded = Deployed(process, tmp_path, context=32)
        loaded.vocabulary += 1
        with pytest.raises(RunnerError, match="no logits of so many came back"):
            list(loaded.logits([1, 2, 3], 2))
