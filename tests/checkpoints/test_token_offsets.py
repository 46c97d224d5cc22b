"""Which bytes of a text its tokens are: against what each beginning of the tokens decodes to, at every cut."""

import numpy as np
import pytest
import small_tokenizers as small
from builders import capacity
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import normalizers

from pytest_quantbench.catalog.models import TINY_DIRECTORY
from pytest_quantbench.checkpoints import token_offsets
from pytest_quantbench.checkpoints.token_offsets import byte_offsets
from pytest_quantbench.checkpoints.tokenizer import load_tokenizer
from pytest_quantbench.fetch.texts import Text
from pytest_quantbench.measures.perplexity.reading import Reading, Script, Tokens

TINY = load_tokenizer(TINY_DIRECTORY)
MIXED = "Ein 🦊 springt.\n漢字とかな é ein  zwei\n\n👩‍👩‍👧 und ż ende "
EXACT = {
    "Tiny": TINY,
    "byte level": small.byte_level(MIXED),
    "byte level, a blank in front": small.byte_level(MIXED, blank_in_front=True),
    "byte fallback": small.sentence_piece(),
}


def found(tokenizer, text):
    ids = tokenizer.encode(text, add_special_tokens=False)
    return ids, byte_offsets(tokenizer, text, ids)


def check_exact(tokenizer, text):
    """What stands before a cut is what the tokens before it decode to, but for a half character at its end."""
    ids, places = found(tokenizer, text)
    assert (places[0], places[-1]) == (0, len(text.encode()))
    assert (np.diff(places) >= 0).all()
    for cut in range(len(ids) + 1):
        said = tokenizer.decode(ids[:cut])
        whole, before = said.rstrip("\ufffd").lstrip(" "), text.encode()[: places[cut]].lstrip(b" ")
        assert before.startswith(whole.encode())
        rest = before[len(whole.encode()) :]
        # byte-level: less than a character; bytes of their own: one replacement character for each
        assert rest.decode(errors="ignore") == "" or len(rest) == said.count("\ufffd")


@pytest.mark.parametrize("tokenizer", EXACT.values(), ids=EXACT)
def test_every_cut_lies_where_the_tokens_before_it_end(tokenizer):
    check_exact(tokenizer, MIXED)


@settings(max_examples=60, deadline=None)
@given(st.text(st.sampled_from("ab .\n é漢🦊\u200d👩E"), max_size=30), st.sampled_from(sorted(EXACT)))
def test_any_text_is_cut_where_its_tokens_end(text, name):
    check_exact(EXACT[name], text)


def test_single_bytes_of_a_character_are_a_byte_each():
    names, places = EXACT["byte fallback"].convert_ids_to_tokens, found(EXACT["byte fallback"], "n漢")
    assert names(places[0]) == ["▁", "n", "<0xE6>", "<0xBC>", "<0xA2>"]
    assert places[1].tolist() == [0, 0, 1, 2, 3, 4]  # the blank in front is none of the text's
    assert found(EXACT["byte level"], "🦊")[1].tolist() in ([0, 2, 4], [0, 1, 2, 3, 4], [0, 3, 4], [0, 4])


@pytest.mark.parametrize(
    "tokenizer",
    [
        small.byte_level(MIXED, normalizer=normalizers.NFD()),
        small.byte_level(MIXED, normalizer=normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])),
        small.sentence_piece(normalizers.Lowercase()),
        small.word_piece(MIXED),
    ],
    ids=["decomposed", "composed and lower-cased", "SentencePiece, lower-cased", "WordPiece"],
)
def test_a_text_that_the_tokenizer_changes_counts_as_it_was(tokenizer):
    """Words keep their bytes, whatever became of them: é has two, as the tokenizer sees it or not."""
    text = "Élan ein ende. ÉÉ zwei\n" * 3
    places = found(tokenizer, text)[1]
    assert (places[0], places[-1]) == (0, len(text.encode()))
    assert (np.diff(places) >= 0).all()
    told = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    for number, (begin, end) in enumerate(told):
        if text[begin:end] == "ein":
            assert text.encode()[: places[number + 1]].endswith(b"ein")


def test_special_tokens_in_a_text_count_as_they_are_written():
    text = "ein</s>zwei <s>ende"
    ids, places = found(TINY, text)
    (end,) = np.flatnonzero(np.array(ids) == TINY.eos_token_id)
    assert text.encode()[places[end] : places[end + 1]] == b"</s>"
    ids, places = found(EXACT["byte fallback"], text)  # another blank stands behind each of them
    assert (places[0], places[-1]) == (0, len(text))


def test_a_tokenizer_that_says_nothing_of_its_offsets_is_read_by_its_tokens(tmp_path):
    words = ["ein", "zwei", "ende", "über"]
    tokenizer = small.slow(tmp_path, words)
    assert not tokenizer.is_fast
    text = "  ein zwei\n\nüber  漢字 ende ein zwei "
    ids, places = found(tokenizer, text)
    assert tokenizer.unk_token_id in ids
    for number, name in enumerate(tokenizer.convert_ids_to_tokens(ids), 1):
        if not name.endswith("@@") and name != tokenizer.unk_token:  # a word's last piece
            assert text.encode()[: places[number]].decode().rstrip().split()[-1] in words
    assert (places[0], places[-1]) == (0, len(text.encode()))


def test_a_tokenizer_that_lists_no_added_tokens_is_read_by_what_it_says():
    class Sparing:  # as mistral-common's: a method that raises stands where others have a mapping
        is_fast = False
        added_tokens_decoder = decode = convert_ids_to_tokens = None

    tokenizer = Sparing()
    tokenizer.convert_ids_to_tokens, tokenizer.decode = (lambda ids: list(map(chr, ids))), (lambda ids: chr(ids[0]))
    assert byte_offsets(tokenizer, "über", list(map(ord, "über"))).tolist() == [0, 2, 3, 4, 5]


@pytest.mark.parametrize("way", ["the tokenizer's offsets", "what tokens decode to"])
def test_the_ways_agree_to_a_byte_or_two(way, monkeypatch):
    """Where the exact way works, so do the others: within the character that a token cuts."""
    tokenizer = EXACT["byte level"]
    exact = found(tokenizer, MIXED)[1]
    monkeypatch.setattr(token_offsets, "_readings", lambda *told: iter(()))
    if way == "what tokens decode to":
        monkeypatch.setattr(token_offsets, "_told_ends", lambda *told: None)
    assert np.abs(found(tokenizer, MIXED)[1] - exact).max() <= 2


def test_no_tokens_are_no_bytes():
    assert found(TINY, "")[1].tolist() == [0]
    assert found(small.word_piece(MIXED), " ")[1].tolist() == [0]


@pytest.mark.parametrize("name", sorted(EXACT))
def test_bits_per_byte_counts_the_texts_own_bytes_in_any_window(name):
    """A window that begins or ends within a character counts the bytes that are its own, not replacement characters."""
    text = Text(name="mixed", content=MIXED * 3)
    tokens = Tokens(text, EXACT[name], capacity({"vocab_size": 4096}))
    whole = len(text.content.encode())
    cuts = range(len(tokens.ids) + 1)
    assert all(tokens.bytes_of(0, cut) + tokens.bytes_of(cut, len(tokens.ids)) == whole for cut in cuts)
    for context in (2, 3, 5, 8):
        script = Script(tokens, Reading(tokens=None, context=context))
        scored = {token for window in script.whole for token in range(window.first, window.end)}
        unscored = sum(tokens.bytes_of(token, token + 1) for token in range(len(tokens.ids)) if token not in scored)
        assert script.scored_bytes == whole - unscored
        assert (len(scored) == len(tokens.ids)) is script.scores_first
