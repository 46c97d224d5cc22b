"""A candidate's tokenizer against the reference's: the texts of ids, and the ids of texts."""

import json

import pytest

from pytest_quantbench.catalog.models import TINY_DIRECTORY
from pytest_quantbench.checkpoints.formats.protocol import Claims
from pytest_quantbench.checkpoints.tokenizer import load_tokenizer
from pytest_quantbench.compress.same_tokens import compared, own_tokenizer, texts_of, without_rows
from pytest_quantbench.errors import ModelError


@pytest.fixture(scope="module")
def tiny():
    return load_tokenizer(TINY_DIRECTORY)


@pytest.fixture
def listed(tiny):
    texts = texts_of(tiny)
    return [texts[token] for token in range(len(texts))]


def claimed(tokens, tiny):
    return compared(Claims(tokens=tokens), None, tiny)


def test_the_same_list_is_compared_in_full(tiny, listed):
    assert claimed(listed, tiny) == (2048, ())


def test_what_fills_a_vocabulary_up_is_passed_over(tiny, listed):
    filled = [*listed, "[PAD2048]", "<|reserved_special_token_3|>", "<unused17>", "<pad>"]
    assert claimed(filled, tiny) == (2048, ())


def test_tokens_beyond_are_listed(tiny, listed):
    count, (found,) = claimed([*listed, "<|im_start|>", "<|im_end|>"], tiny)
    assert count == 2048
    assert str(found) == "token 2048 and 1 more: '<|im_start|>', the reference's not set"


def test_special_tokens_of_another_name_are_listed(tiny, listed):
    count, (found,) = claimed(["<|begin|>", *listed[1:]], tiny)
    assert (count, found.what, found.candidate, found.reference) == (2048, "token 0", "'<|begin|>'", "'<s>'")


def test_a_shorter_list_is_compared_as_far_as_it_goes_and_what_lacks_is_listed(tiny, listed):
    count, (found,) = claimed(listed[:1000], tiny)
    assert count == 1000
    assert str(found) == f"token 1000 and 1,047 more: not set, the reference's {listed[1000]!r}"


def test_another_tokenizer_is_refused_with_number_and_examples(tiny, listed):
    moved = [*listed[:2], *listed[3:], "zzz"]
    with pytest.raises(ModelError) as refused:
        claimed(moved, tiny)
    told = str(refused.value)
    assert "is not the reference's: 2,046 of 2,048 ids have another text (2 is " in told
    assert f"{listed[3]!r} and {listed[2]!r} there" in told
    with pytest.raises(ModelError, match=r"0 of 0 ids"):
        claimed([], tiny)


def test_a_few_ordinary_tokens_of_another_text_are_listed_and_more_refused(tiny, listed):
    few = [*listed[:100], "zzz", "zzzz", *listed[102:]]
    assert claimed(few, tiny)[1][0].what == "token 100 and 1 more"
    with pytest.raises(ModelError, match="3 of 2,048 ids"):
        claimed([*listed[:100], "zzz", "zzzz", "zzzzz", *listed[103:]], tiny)


def copied(directory, change=None):
    """Tiny's tokenizer in a directory, changed."""
    directory.mkdir(exist_ok=True)
    for file in TINY_DIRECTORY.glob("tokenizer*"):
        (directory / file.name).write_bytes(file.read_bytes())
    if change is not None:
        table = json.loads((directory / "tokenizer.json").read_text())
        change(table)
        (directory / "tokenizer.json").write_text(json.dumps(table))
    return directory


def test_a_directorys_own_tokenizer_is_read(tiny, tmp_path):
    own = own_tokenizer(copied(tmp_path / "same"))
    assert compared(Claims(), own, tiny) == (2048, ())


def test_a_tokenizer_that_cuts_texts_otherwise_is_refused(tiny, tmp_path):
    """All tokens are the same; the merges that make a word of letters are gone."""
    own = own_tokenizer(copied(tmp_path / "other", lambda table: table["model"].update(merges=[])))
    with pytest.raises(ModelError, match=r"'The fox' is \[.*\] to it, and \[.*\] there"):
        compared(Claims(), own, tiny)


def test_without_a_tokenizer_nothing_is_compared(tiny, tmp_path):
    assert own_tokenizer(None) is None
    assert own_tokenizer(tmp_path) is None
    assert own_tokenizer(tmp_path / "file.gguf") is None
    assert compared(Claims(), None, tiny) == (None, ())


def test_one_that_cannot_be_opened_is_an_error(tmp_path):
    (tmp_path / "tokenizer.json").write_text("{")
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    with pytest.raises(ModelError, match="cannot be opened"):
        own_tokenizer(tmp_path)


def test_rows_that_are_no_tokens_may_lack(tiny):
    (found,) = without_rows(2048, tiny, {"vocab_size": 2112})
    assert str(found) == (
        "rows of embeddings: 2,048, the reference's 2,112, which fill up: the others are the reference's"
    )


def test_tokens_without_a_row_are_refused(tiny, listed):
    with pytest.raises(ModelError, match=r"vocabulary 2046 against 2112, and no embedding of token 2046 .* and 1 more"):
        without_rows(2046, tiny, {"vocab_size": 2112})


def test_a_token_that_stands_for_a_picture_needs_no_row(tiny):
    """As the last of Gemma 3's tokenizer, behind which conversion to GGUF cuts the embeddings."""
    config = {"image_token_index": 2047, "text_config": {"vocab_size": 2112}}
    assert len(without_rows(2047, tiny, config)) == 1
    with pytest.raises(ModelError, match="no embedding of token 2047"):
        without_rows(2047, tiny, {"boi_token_index": 2047, "vocab_size": 2112})
