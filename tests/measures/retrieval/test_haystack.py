"""Contexts read again from their own text: whose teacher is who, how deep that stands, and what is asked."""

import functools
import itertools
import re
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_tokenizers import byte_level, sentence_piece

from pytest_quantbench.catalog.models import TINY_DIRECTORY
from pytest_quantbench.checkpoints.tokenizer import load_tokenizer
from pytest_quantbench.errors import CorpusError
from pytest_quantbench.measures.retrieval.haystack import ASKED, CHAINS, FACT, HOPS, Haystack, strata_of
from pytest_quantbench.tiny.text import training_text

TOLD = re.compile(r"The teacher of (\w+) is (\w+)\.")
TINY = load_tokenizer(Path(TINY_DIRECTORY))
TOKENIZERS = {
    "tiny": TINY,
    "byte level": byte_level(training_text()[:20_000], vocabulary=600),
    "sentencepiece": sentence_piece(),
}
START = (0,)


@functools.cache
def made(name="tiny", tokens=1024, seed=0):
    return Haystack(TOKENIZERS[name], start=START, tokens=tokens, seed=seed)


def facts_of(tokenizer, ids):
    """Learner → teacher, and at which character each fact begins, from a context's text."""
    told = tokenizer.decode(ids)
    return {found[1]: (found[2], found.start()) for found in TOLD.finditer(told)}, told


@pytest.mark.parametrize("tokens", [512, 700, 1024, 1500])
@pytest.mark.parametrize("number", range(3))
def test_the_right_choice_is_what_the_chain_of_facts_leads_to(tokens, number):
    found = made(tokens=tokens).context(number)
    facts, _ = facts_of(TINY, found.ids)
    assert len(facts) == CHAINS * len(HOPS) * len(strata_of(tokens))
    for question in found.questions:
        hops = question.text.count("teacher")
        who = question.text.split()[-2]
        for _ in range(hops):
            who = facts[who][0]
        assert hops == question.stratum.hops
        assert question.options[question.gold] == who


@pytest.mark.parametrize("name", TOKENIZERS)
def test_choices_stand_in_the_context_as_often_and_are_as_long(name):
    tokens = 2500 if name == "sentencepiece" else 1024
    found = made(name, tokens).context(0)
    for question in found.questions:
        assert len(set(question.options)) == CHAINS
        assert len({len(ids) for ids in question.choices}) == 1
    if name == "tiny":
        words = Counter(re.findall(r"\w+", TINY.decode(found.ids)))
        for question in found.questions:
            assert len({words[option] for option in question.options}) == 1  # guessing by what is there fails
            assert words[question.options[0]] == (1 if question.stratum.hops == max(HOPS) else 2)


@pytest.mark.parametrize("tokens", [512, 1024, 2048])
def test_facts_stand_at_the_depth_that_is_told(tokens):
    found = made(tokens=tokens).context(1)
    facts, _ = facts_of(TINY, found.ids)
    for question in found.questions:
        learner = question.text.split()[-2]
        before = TINY.decode(found.ids[: len(found.ids) - question.depth])
        assert learner not in before.split()[-3:]
        assert TINY.decode(found.ids[len(found.ids) - question.depth :]).startswith(f" The teacher of {learner} is")
        assert question.stratum.above < question.depth <= question.stratum.up_to
        chain = [learner]
        for _ in range(question.stratum.hops):
            chain.append(facts[chain[-1]][0])
        behind = TINY.decode(found.ids[-question.stratum.up_to :])
        assert all(FACT.format(learner=a, teacher=b).strip() in behind for a, b in itertools.pairwise(chain))


@given(st.integers(430, 3000), st.integers(0, 50))
@settings(max_examples=8, deadline=None)
def test_no_question_is_longer_than_the_context_and_next_to_nothing_is_left(tokens, number):
    found = made(tokens=tokens).context(number)
    longest = max(len(found.ids) + len(q.ids) + len(q.choices[0]) for q in found.questions)
    assert tokens - 8 <= longest <= tokens
    assert found.ids[:1] == START
    assert [q.stratum for q in found.questions] == made(tokens=tokens).strata


def test_strata_end_where_the_context_does_and_none_is_short():
    assert strata_of(512) == [(0, 512)]
    assert strata_of(700) == [(0, 700)]  # 188 more hold too few facts
    assert strata_of(768) == [(0, 512), (512, 768)]
    assert strata_of(2048) == [(0, 512), (512, 1024), (1024, 2048)]
    assert strata_of(8192) == [(0, 512), (512, 1024), (1024, 2048), (2048, 4096), (4096, 8192)]
    assert strata_of(20_000)[-1] == (4096, 8192)


def test_a_context_depends_on_seed_and_number_alone():
    assert made().context(3) == made().context(3)
    assert made().context(3) != made().context(4)
    assert made(seed=1).context(3) != made().context(3)


def test_every_place_among_the_choices_is_right_as_often_and_every_depth_is_met():
    found = [question for number in range(40) for question in made().context(number).questions]
    golds = Counter(question.gold for question in found)
    assert all(40 <= golds[place] <= 80 for place in range(CHAINS))  # of 240: 60 ± 3 standard deviations
    for above, up_to in strata_of(1024):
        depths = [q.depth - above for q in found if q.stratum.up_to == up_to]
        assert min(depths) < 100
        assert max(depths) > 400
        assert 0.4 < sum(depths) / len(depths) / (up_to - above) < 0.6


def test_pieces_are_tokenized_as_the_whole_is():
    found = made().context(0)
    text = TINY.decode(found.ids[1:])
    start = text.index(". ") + 1  # behind the sentence that the context cuts
    assert TINY.encode(text[start:], add_special_tokens=False) == list(
        found.ids[len(found.ids) - len(TINY.encode(text[start:], add_special_tokens=False)) :]
    )
    one = ASKED[1].format("Jona")
    whole, front = (tuple(TINY.encode(each, add_special_tokens=False)) for each in (f"Well.{one}", "Well."))
    assert front + made().ids(one) == whole


def test_too_short_a_context_is_refused():
    with pytest.raises(CorpusError, match="choose a larger --retrieval-context than 120"):
        made(tokens=120).context(0)


def test_what_is_longer_than_the_deepest_stratum_is_refused():
    """A context of more would have been no longer than the strata, and told as if it were."""
    with pytest.raises(CorpusError, match="up to 8,192 tokens before: --retrieval-context 8193 is longer"):
        made.__wrapped__(tokens=8193)
    assert made.__wrapped__(tokens=8192).strata[-1].up_to == 8192


def test_too_few_names_of_a_length_are_refused(monkeypatch):
    monkeypatch.setattr("pytest_quantbench.measures.retrieval.haystack.PEOPLE", 12)
    with pytest.raises(CorpusError, match=r"asks for 16 people .* gives \d+ such: choose a smaller"):
        made.__wrapped__(tokens=512)
