"""Texts and questions however they were saved: the same content, or a sentence that says why not."""

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_quantbench.errors import CorpusError
from pytest_quantbench.fetch.texts import read_text
from pytest_quantbench.measures.accuracy.question_files import rows_of
from pytest_quantbench.storage.text_files import parsed, plain_line_ends

STORY = "Once there was a fox.\n\nIt was übel 🦊.\n"
QUESTIONS = [{"id": "a", "query": "Who?\nWhere?", "gold": 0}, {"id": "b", "query": "Wo ist Ünï?", "gold": 1}]
SAVED = {  # how a file may be saved
    "plainly": lambda text: text.encode(),
    "with a mark": lambda text: text.encode("utf-8-sig"),
    "by Windows": lambda text: text.replace("\n", "\r\n").encode(),
    "by Windows, with a mark": lambda text: text.replace("\n", "\r\n").encode("utf-8-sig"),
    "by an old Macintosh": lambda text: text.replace("\n", "\r").encode(),
}
REFUSED = {
    "UTF-16": (STORY.encode("utf-16"), "mark of UTF-16"),
    "UTF-16, big-endian": (b"\xfe\xff" + STORY.encode("utf-16-be"), "mark of UTF-16"),
    "UTF-32": (STORY.encode("utf-32"), "mark of UTF-32"),
    "UTF-16 without a mark": ("Once there".encode("utf-16-le"), "NUL bytes"),
    "NUL bytes": (b"Once\0there", "NUL bytes"),
    "Latin-1": (STORY.replace("🦊", "").encode("latin-1"), "codec can't decode byte 0xfc"),
}


@pytest.mark.parametrize("saved", SAVED.values(), ids=SAVED)
def test_a_text_is_the_same_however_it_was_saved(saved, tmp_path):
    (tmp_path / "text.txt").write_bytes(saved(STORY))
    (tmp_path / "text.JSONL").write_bytes(saved(json.dumps({"text": STORY}) + "\n\n" + json.dumps({"text": "End."})))
    (tmp_path / "exported.jsonl").write_bytes(saved(json.dumps({"text": STORY.replace("\n", "\r\n")})))
    found = read_text(tmp_path / "text.txt", True)
    assert found.content == STORY
    (tmp_path / "plain.txt").write_text(STORY)
    assert found.sha256 == read_text(tmp_path / "plain.txt", True).sha256
    assert read_text(tmp_path / "text.JSONL", True).content == f"{STORY}\n\nEnd."
    assert read_text(tmp_path / "exported.jsonl", True, "--calibration").content == STORY


@pytest.mark.parametrize("saved", SAVED.values(), ids=SAVED)
def test_questions_are_the_same_however_they_were_saved(saved, tmp_path):
    file = tmp_path / "questions.jsonl"
    file.write_bytes(saved("".join(json.dumps(each, ensure_ascii=False) + "\n" for each in QUESTIONS)))
    assert rows_of("some_task", file) == QUESTIONS


def test_files_that_were_put_behind_each_other_have_marks_in_between(tmp_path):
    file = tmp_path / "questions.jsonl"
    file.write_bytes(b"".join(json.dumps(each).encode("utf-8-sig") + b"\n" for each in QUESTIONS))
    assert rows_of("some_task", file) == QUESTIONS


@pytest.mark.parametrize(("content", "told"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_utf8_is_refused_with_the_reason(content, told, tmp_path):
    for name in ("text.txt", "text.jsonl"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(CorpusError, match=rf"The text .*{name} cannot be read as UTF-8: .*{told}"):
            read_text(tmp_path / name, True)
        with pytest.raises(CorpusError, match=rf"--task-data some_task: .*{name} cannot be read as UTF-8: .*{told}"):
            rows_of("some_task", tmp_path / name)


@pytest.mark.parametrize("content", [b"", b"\xef\xbb\xbf", b" \r\n\r\n"])
def test_a_file_with_nothing_in_it_is_refused(content, tmp_path):
    for name in ("text.txt", "text.jsonl"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(CorpusError, match=rf"The text .*{name} is empty"):
            read_text(tmp_path / name, True)
        with pytest.raises(CorpusError, match="there is no question in it"):
            rows_of("some_task", tmp_path / name)


def test_a_folder_is_no_text(tmp_path):
    with pytest.raises(CorpusError, match="cannot be read as UTF-8"):
        read_text(tmp_path, True)


def test_half_a_surrogate_pair_is_no_text(tmp_path):
    (tmp_path / "text.jsonl").write_text('{"text": "a fox \\ud83e"}\n')
    with pytest.raises(CorpusError, match="Line 1 of"):
        read_text(tmp_path / "text.jsonl", True)
    with pytest.raises(CorpusError, match=r"line 1 of .*surrogates not allowed"):
        rows_of("some_task", tmp_path / "text.jsonl")
    assert parsed('{"text": "a fox \\ud83e\\udd8a"}') == {"text": "a fox 🦊"}


@given(st.text(st.sampled_from("ab\r\n\v\u2028")))
def test_line_ends_are_those_of_universal_newlines(text):
    assert plain_line_ends(text) == io.StringIO(text, newline=None).read()
