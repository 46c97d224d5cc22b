"""What has been measured: found by target and measure, and in a later session along the same way only."""

import pytest
from builders import make_losses, make_store, make_target

from pytest_quantbench.errors import CorpusError, QuantbenchError
from pytest_quantbench.measures.accuracy.measure import ACCURACY
from pytest_quantbench.measures.perplexity.measure import PERPLEXITY
from pytest_quantbench.measures.throughput import THROUGHPUT

INT4, BF16 = make_target(), make_target("bf16")


def test_samples_are_of_one_target_and_one_measure(tmp_path):
    store, losses = make_store(tmp_path), make_losses([1.0, 2.0])
    store.put(INT4, PERPLEXITY, losses)
    assert store.get(make_target(), PERPLEXITY) is losses  # equal targets are equal
    assert store.get(INT4, ACCURACY) is store.get(BF16, PERPLEXITY) is store.get(INT4.rounded, PERPLEXITY) is None
    assert (store.of(PERPLEXITY), store.by_measure(INT4)) == ({INT4: losses}, {"perplexity": losses})
    assert store.by_measure(BF16) == {}


def test_what_keeps_a_target_from_being_measured_is_raised_every_time(tmp_path):
    store, first = make_store(tmp_path), CorpusError("There is no text.")
    store.fail(INT4, PERPLEXITY, first)
    store.fail(INT4, PERPLEXITY, QuantbenchError("Neither is there a second reason."))
    for _ in range(2):
        with pytest.raises(CorpusError, match="There is no text"):
            store.need(INT4, PERPLEXITY)
    assert store.why_not(INT4, PERPLEXITY) is first
    assert store.why_not(INT4, ACCURACY) is None
    with pytest.raises(LookupError, match="accuracy of Tiny-int4-rtn was not measured"):
        store.need(INT4, ACCURACY)


def test_changes_are_of_the_targets_that_are_asked_for(tmp_path):
    store = make_store(tmp_path)
    before = store.mark
    store.put(INT4, PERPLEXITY, make_losses([1.0]))
    assert store.changed_since(before, BF16, INT4)
    assert not store.changed_since(before, BF16)
    assert not store.changed_since(store.mark, INT4)


def test_what_was_added_to_is_found_along_the_same_way_only(tmp_path):
    """4 tokens behind 2 were scored in other windows than 4 at once: what differs in the last bits is not mixed up."""
    first = make_store(tmp_path)
    first.put(INT4, PERPLEXITY, make_losses([1, 2]), {"tokens": 2})
    first.put(INT4, PERPLEXITY, make_losses([1, 2, 3, 4]), {"tokens": 4})
    again = make_store(tmp_path)
    assert not again.recall(INT4, PERPLEXITY, {"tokens": 4})
    for tokens in (2, 4):
        assert again.recall(INT4, PERPLEXITY, {"tokens": tokens})
        assert len(again.get(INT4, PERPLEXITY).nll_nats) == tokens
    assert again.key(INT4, PERPLEXITY) == first.key(INT4, PERPLEXITY)
    assert again.reused == ["T2 of Tiny-int4-rtn"] * 2


def test_what_is_timed_stands_for_itself(tmp_path):
    """More runs are other samples, not an addition: they are found whatever was there."""
    keys = []
    for works in ([{"runs": 6}], [{"runs": 3}, {"runs": 6}]):
        store = make_store(tmp_path)
        for work in works:
            store.put(INT4, THROUGHPUT, make_losses([1.0]), work)
        keys.append(store.key(INT4, THROUGHPUT))
    assert keys[0] == keys[1]


def test_others_find_nothing_and_neither_does_fresh(tmp_path):
    make_store(tmp_path).put(INT4, PERPLEXITY, make_losses([1, 2]), {"tokens": 2})
    assert make_store(tmp_path).recall(INT4, PERPLEXITY, {"tokens": 2})
    for other, target, measure, work in (
        (make_store(tmp_path, "another machine"), INT4, PERPLEXITY, {"tokens": 2}),
        (make_store(tmp_path), BF16, PERPLEXITY, {"tokens": 2}),
        (make_store(tmp_path), INT4, ACCURACY, {"tokens": 2}),
        (make_store(tmp_path), INT4, PERPLEXITY, {"tokens": 3}),
        (make_store(tmp_path, fresh=True), INT4, PERPLEXITY, {"tokens": 2}),
    ):
        assert not other.recall(target, measure, work)
        assert (other.get(target, measure), other.reused) == (None, [])


def test_samples_without_their_work_are_of_this_session(tmp_path):
    store = make_store(tmp_path)
    store.put(INT4, PERPLEXITY, make_losses([1, 2]))
    assert store.key(INT4, PERPLEXITY) is None
    assert list(tmp_path.iterdir()) == []


def test_a_session_that_cannot_keep_its_samples_has_them_still(tmp_path, caplog):
    (tmp_path / "cache").write_text("a file, not a folder")
    store = make_store(tmp_path / "cache")
    store.put(INT4, PERPLEXITY, make_losses([1.0]), {"tokens": 1})
    assert "Samples are not kept for later sessions. Cannot write" in caplog.text
    assert store.key(INT4, PERPLEXITY)  # what is compared with these samples is known by them
    assert len(store.get(INT4, PERPLEXITY).nll_nats) == 1
    assert not make_store(tmp_path / "cache").recall(INT4, PERPLEXITY, {"tokens": 1})
