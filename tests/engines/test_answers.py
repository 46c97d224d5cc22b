"""What an answer is and when it ends, on a batch that says what it is told to, against a slow reading of the rules."""

import io
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lm_eval.models.utils import postprocess_generated_text

from pytest_quantbench import progress
from pytest_quantbench.catalog.models import TINY_DIRECTORY
from pytest_quantbench.checkpoints.tokenizer import load_tokenizer
from pytest_quantbench.engines import answers as batching
from pytest_quantbench.engines.answers import Said, cut
from pytest_quantbench.engines.resident import Generation
from pytest_quantbench.errors import CorpusError, WeightError

TOKENIZER = load_tokenizer(TINY_DIRECTORY)
TEXT = "Häuser, 漢字 🙂🙂 naïve.\n\nQuestion: Où?\nclass Ünder:\n    # 汉字\n    print('déjà 🙃')\n[DONE] end.\n" * 2
SCRIPT = TOKENIZER.encode(TEXT, add_special_tokens=False)


class Batch:
    """Sequences that say a script from their prompt's length on, whatever that is; notes which there are, and how many
    tokens they may have with their prompts.
    """

    def __init__(self, script=SCRIPT, numbers=True):
        self.script, self.numbers = script, numbers
        self.running, self.seen, self.count = {}, [], 0

    def insert(self, prompt, most):
        self.count += 1
        self.running[self.count] = [len(prompt), len(prompt) + most]
        return self.count

    def next(self) -> Iterator[Said]:
        self.seen.append([need for _, need in self.running.values()])
        for number, held in list(self.running.items()):
            token = self.script[min(held[0], len(self.script) - 1)]
            held[0] += 1
            yield Said(sequence=number, token=token, usable=lambda: self.numbers)

    def remove(self, sequences):
        for number in sequences:
            del self.running[number]


def said(starts, stops=(), script=SCRIPT, new_tokens=200, each=None, what="", **more):
    """Answers that begin at these places of the script, and the batch."""
    batch = Batch(script)
    prompts = [[2] * start for start in starts]
    until = [stops] * len(starts) if each is None else each
    found = batching.answers(batch, TOKENIZER, prompts, stops=until, new_tokens=new_tokens, what=what, **more)
    assert not batch.running
    return found, batch


def by_definition(tokens, stops):
    """The shortest run of tokens whose text has a stop string, and lm-eval's cut of that text."""
    for count in range(1, len(tokens) + 1):
        text = TOKENIZER.decode(tokens[:count])
        if any(stop in text for stop in stops):
            return Generation(
                text=postprocess_generated_text(text, list(stops), None), tokens=tuple(tokens[:count]), ended="stop"
            )
    return Generation(text=TOKENIZER.decode(tokens), tokens=tuple(tokens), ended="length")


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_an_answer_ends_as_soon_as_a_stop_string_is_there(data):
    """Any pieces of the text, over any borders of tokens, within and beside characters of several tokens."""
    starts = data.draw(st.lists(st.integers(1, len(SCRIPT) - 2), min_size=1, max_size=4))
    begins = data.draw(st.lists(st.integers(0, len(TEXT) // 2), min_size=1, max_size=3))
    stops = [TEXT[begin : begin + data.draw(st.integers(1, 9))] for begin in begins]
    answers, _ = said(starts, stops, new_tokens=[len(SCRIPT) - start for start in starts])
    assert answers == [by_definition(SCRIPT[start:], stops) for start in starts]


def test_the_script_has_characters_of_several_tokens():
    assert sum(TOKENIZER.decode([token]) == "\ufffd" for token in SCRIPT) > 20


def test_a_stop_string_at_once_leaves_no_text():
    (answer,), _ = said([1], [TEXT[1:3]])
    assert answer.text == ""
    assert answer.ended == "stop"
    assert answer.tokens == tuple(SCRIPT[1 : 1 + len(answer.tokens)])


def test_every_answer_has_stop_strings_of_its_own():
    stops = [["Question:"], [], ["", "class"]]
    answers, _ = said([1] * 3, each=stops, new_tokens=60)
    assert [answer.ended for answer in answers] == ["stop", "length", "stop"]
    assert answers[1].text.startswith(answers[2].text + "class")
    assert answers[2].text.startswith(answers[0].text + "Question:")


def test_the_end_of_sequence_ends_an_answer_and_is_not_part_of_it():
    script = [*SCRIPT[:6], TOKENIZER.eos_token_id, *SCRIPT[6:]]
    (early, late), _ = said([1, 7], script=script, new_tokens=20)
    assert early.tokens == tuple(SCRIPT[1:6])
    assert early.text == TOKENIZER.decode(SCRIPT[1:6])
    assert early.ended == "eos"
    assert late.ended == "length"
    (other,), _ = said([1], script=script, new_tokens=20, end_tokens=[SCRIPT[3]])
    assert other.tokens == tuple(SCRIPT[1:3])


def test_the_end_of_sequence_at_once_is_an_empty_answer():
    (answer,), _ = said([1], script=[2, TOKENIZER.eos_token_id, 2])
    assert answer == Generation(text="", tokens=(), ended="eos")


def test_a_special_token_is_a_stop_string_and_otherwise_no_text():
    script = [*SCRIPT[:4], TOKENIZER.bos_token_id, *SCRIPT[4:]]
    (stopped,), _ = said([1], ["<s>"], script)
    assert stopped == Generation(text=TOKENIZER.decode(SCRIPT[1:4]), tokens=tuple(SCRIPT[1:4]), ended="stop")
    (silent,), _ = said([1], (), script, new_tokens=6)
    assert silent.tokens == tuple(script[1:7])
    assert silent.text == TOKENIZER.decode(SCRIPT[1:6])


@pytest.mark.parametrize("count", [1, 2, 25])
def test_no_answer_is_longer_than_allowed(count):
    (answer, other), _ = said([1, 40], new_tokens=[count, 3])
    assert answer.tokens == tuple(SCRIPT[1 : 1 + count])
    assert len(other.tokens) == 3
    assert answer.ended == other.ended == "length"


def test_a_finished_sequence_leaves_the_batch():
    (stopped, _), batch = said([1, 1], each=[[TOKENIZER.decode(SCRIPT[1:4])], []], new_tokens=30)
    assert len(stopped.tokens) == 3
    assert [len(needs) for needs in batch.seen] == [2] * 3 + [1] * 27


@pytest.mark.parametrize(("at_once", "rows"), [(None, 10), (4, 4), (1, 1)])
def test_no_more_share_a_batch_than_are_allowed(at_once, rows):
    _, batch = said([1] * 10, new_tokens=5, at_once=at_once)
    assert max(len(needs) for needs in batch.seen) == rows


def test_keys_and_values_stay_within_their_bound(monkeypatch):
    monkeypatch.setattr(batching, "KEYS_AT_ONCE", 100)
    starts = [60, 50, 40, 30, 20, 10, 5, 5, 5, 5]
    found, batch = said(starts, new_tokens=12)
    assert max(len(needs) * max(needs) for needs in batch.seen) <= 100
    assert max(len(needs) for needs in batch.seen) > 3
    assert batch.seen[0] == [72]  # the longest first
    assert [answer.tokens for answer in found] == [tuple(SCRIPT[start : start + 12]) for start in starts]


def test_logits_that_are_no_numbers_are_an_error():
    with pytest.raises(WeightError, match="no numbers"):
        batching.answers(Batch(numbers=False), TOKENIZER, [[2]], stops=[()], new_tokens=3, what="")


def test_no_prompts_no_answers():
    assert said([])[0] == []


def test_what_cannot_be_answered_is_said_beforehand():
    with pytest.raises(CorpusError, match="Prompt 1 has no tokens"):
        said([3, 0])
    with pytest.raises(CorpusError, match="prompt 0 may have 0 tokens: allow at least 1"):
        said([3], new_tokens=0)
    with pytest.raises(ValueError, match="shorter"):
        said([3, 4], new_tokens=[1])


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_sees_answers_and_time_left_and_a_log_nothing(monkeypatch, capfd):
    screen = Terminal()
    monkeypatch.setattr(progress, "_terminal", screen)
    said([1] * 3, new_tokens=2, what="T3 int4")
    assert "T3 int4, answer 0 of 3" in screen.getvalue()
    progress.show_on(None)
    said([1, 2])
    assert capfd.readouterr() == ("", "")


@given(st.text("ab\n", max_size=12), st.lists(st.text("ab\n", max_size=3), max_size=3))
def test_the_cut_is_lm_evals(text, stops):
    assert cut(text, stops) == postprocess_generated_text(text, stops, None)
