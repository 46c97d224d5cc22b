"""T2's parts of a record: the judged text, its head, and other texts beside it."""

import numpy as np
import pytest
import terminal_text

from pytest_quantbench.bench.subject import Subject
from pytest_quantbench.catalog.models import MODELS, TINY_DIRECTORY
from pytest_quantbench.catalog.settings import Settings
from pytest_quantbench.record import perplexity_summary
from pytest_quantbench.report import markdown


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """The second half of Tiny's text: another text of the same kind."""
    file = tmp_path_factory.mktemp("texts") / "second.txt"
    whole = (TINY_DIRECTORY / "heldout.txt").read_text()
    file.write_text(whole[len(whole) // 2 :])
    return file


@pytest.fixture(scope="module")
def subjects(tmp_path_factory, text):
    """A function from the sampling to Tiny, whose int4-rtn cell is judged by its own text with another beside."""
    cache, opened = tmp_path_factory.mktemp("cache"), {}

    def of(sampling):
        if sampling not in opened:
            settings = Settings(cache=cache, fixed=True, sampling=sampling, other_corpora=(text,))
            opened[sampling] = Subject(MODELS["Tiny"], settings)
            opened[sampling].cell("int4-rtn").judge("perplexity", 10.0)
        return opened[sampling]

    return of


@pytest.fixture
def cells(subjects):
    """A function from the sampling to that cell."""
    return lambda sampling: subjects(sampling).cell("int4-rtn")


def test_the_head_stands_beside_and_is_what_a_reading_of_it_gives(cells):
    drawn, head = (cells(sampling).record().perplexity for sampling in ("windows", "head"))
    assert (drawn.sampling, drawn.windows, drawn.text_windows) == ("windows", 8, 484)
    assert (head.sampling, head.windows, head.text_windows) == ("head", None, None)
    for figure in ("tokens", "ppl", "bf16_ppl", "delta"):
        assert getattr(drawn.head, figure) == pytest.approx(getattr(head.head, figure), abs=1e-4)
        assert getattr(head.head, figure) == getattr(head, figure)
    assert drawn.head.tokens == drawn.tokens == 512
    assert drawn.protocol != drawn.head.protocol == head.protocol
    assert drawn.delta != pytest.approx(head.delta, abs=1e-3)


def test_verdicts_say_of_which_text_they_are(cells):
    drawn, head = (
        next(v.sentence for v in cells(sampling).verdicts.values() if v.metric == "perplexity_delta")
        for sampling in ("windows", "head")
    )
    assert "in 8 of the 484 windows of tiny-heldout" in drawn
    assert "the first of tiny-heldout: of this text, not of the rest" in head


def test_other_texts_are_other_perplexities_and_the_first_is_judged(cells, text):
    record = cells("windows").record()
    assert list(record.perplexities) == ["second.txt"]
    other = record.perplexities["second.txt"]
    assert (record.perplexity.corpus, other.corpus) == ("tiny-heldout", "second.txt")
    assert other.tokens == 512
    assert other.delta == pytest.approx(other.ppl - other.bf16_ppl)
    assert other.delta_interval.low < other.delta < other.delta_interval.high
    assert other.divergence.kl_nats > 0
    assert other.protocol_sha256 != record.perplexity.protocol_sha256
    raw = cells("windows").raw()
    assert np.exp(raw["perplexity/second.txt/nll_nats"].mean(dtype=np.float64)) == pytest.approx(other.ppl)
    assert not any("second.txt" in line for line in terminal_text.shown([record]))
    shown = markdown.markdown([record], []).replace("\u00a0", " ")
    change = f"{other.delta:+.3f} [{other.delta_interval.low:+.3f}, {other.delta_interval.high:+.3f}]"
    assert f"| perplexity on second.txt | {other.ppl:.3f} |\n| … Δ | {change} |\n| … tokens | 512 |" in shown
    head = record.perplexity.head
    assert f"| perplexity of the first tokens | {head.ppl:.3f} (Δ {head.delta:+.3f}) |" in shown


def test_another_text_alone_gives_the_same(subjects, text, tmp_path):
    settings = Settings(cache=tmp_path, fixed=True, corpus=text)
    alone = Subject(MODELS["Tiny"], settings).reference
    beside = subjects("windows").reference.samples("perplexity").beside["second.txt"]
    np.testing.assert_allclose(alone.samples("perplexity").nll_nats, beside.nll_nats, atol=1e-5)


def test_samples_that_are_kept_hold_what_was_read_beside(subjects, text):
    subject = subjects("windows")
    again = Subject(MODELS["Tiny"], subject.inputs.settings)
    before, found = (each.cell("int4-rtn").samples("perplexity") for each in (subject, again))
    assert found.beside.keys() == before.beside.keys()
    assert again.reused
    reference = again.reference.samples("perplexity")
    assert perplexity_summary.perplexities(found, reference).keys() == {"second.txt"}
