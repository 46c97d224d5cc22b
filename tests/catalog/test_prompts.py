"""Prompts of the user's own: what is read of a file, and what is said of one that nothing can be read of."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_quantbench.catalog.prompts import MOST_PROMPTS, read_prompts
from pytest_quantbench.errors import CorpusError
from pytest_quantbench.plugin.option_values import prompts


def file_of(tmp_path, content, name="prompts.txt"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_every_line_that_is_not_empty_is_a_prompt(tmp_path):
    content = b"\xef\xbb\xbfWhat is 2 + 2?\r\n\n   \nWas ist Gr\xc3\xbcn?\n"
    assert read_prompts(file_of(tmp_path, content)) == ("What is 2 + 2?", "Was ist Grün?")
    assert prompts(str(file_of(tmp_path, "x"))) == ("x",)  # a single one, and a short one


def test_only_ends_of_lines_cut_prompts(tmp_path):
    """Not what may stand within a text: a line separator, a form feed, the next line of Latin-1."""
    odd = "a\u2028b\u2029c\x85d\x0be\x0cf"
    assert read_prompts(file_of(tmp_path, f"{odd}\r\n{odd}\rg\n")) == (odd, odd, "g")
    said = odd.replace("\x0b", "").replace("\x0c", "")
    asked = json.dumps({"prompt": said}, ensure_ascii=False)
    assert read_prompts(file_of(tmp_path, f"{asked}\n{asked}\n", "p.jsonl")) == (said, said)


@pytest.mark.parametrize("name", ["p.jsonl", "p.ndjson", "p.txt"])
def test_json_has_a_prompt_in_each_object(tmp_path, name):
    lines = [{"prompt": "a b", "id": 1}, {"text": "c\nd"}, {"question": "e?"}, {"instruction": "f", "output": "g"}]
    content = "\n".join(map(json.dumps, lines)) + "\n\n"
    assert read_prompts(file_of(tmp_path, content, name)) == ("a b", "c\nd", "e?", "f")


def test_json_texts_are_prompts_where_the_name_says_so(tmp_path):
    assert read_prompts(file_of(tmp_path, '"a"\n"b"\n', "p.jsonl")) == ("a", "b")
    assert read_prompts(file_of(tmp_path, '"a"\n"b"\n', "p.txt")) == ('"a"', '"b"')


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("empty.txt", "", "has no prompt: give one in each line"),
        ("blank.jsonl", " \n\n", "has no prompt"),
        ("latin.txt", "Gr\xfcn".encode("latin-1"), "is no UTF-8 text: byte 2 is none. Save it as UTF-8"),
        ("many.txt", "x\n" * (MOST_PROMPTS + 1), "has 1,001 prompts, and T1 takes up to 1,000"),
        ("half.jsonl", '{"prompt": "a"}\n{"prompt": \n', "line 2: this is no JSON"),
        ("deep.jsonl", "[" * 100_000, "line 1: this is no JSON"),
        ("other.jsonl", '{"answer": "a"}', "line 1: there is no prompt. Give an object with one under"),
        ("number.jsonl", '{"prompt": "a"}\n{"prompt": 3}', "line 2: there is no prompt"),
        ("list.jsonl", '["a"]', "line 1: there is no prompt"),
        ("white.jsonl", '{"prompt": "  "}', "line 1: there is no prompt"),
    ],
)
def test_what_cannot_be_read_is_told_in_a_sentence(tmp_path, name, content, told):
    path = file_of(tmp_path, content, name)
    with pytest.raises(CorpusError, match=re.escape(str(path)) + ".*" + re.escape(told)):
        read_prompts(path)
    with pytest.raises(ValueError, match=re.escape(told)):
        prompts(str(path))


def test_a_file_that_is_not_there_and_a_folder(tmp_path):
    for path in (tmp_path / "none.txt", tmp_path):
        with pytest.raises(CorpusError, match="cannot be read"):
            read_prompts(path)


@given(st.binary(max_size=200))
def test_any_bytes_give_prompts_or_a_sentence(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("any") / "p.jsonl"
    path.write_bytes(content)
    try:
        found = read_prompts(path)
    except CorpusError:
        return
    assert found
    assert all(each.strip() for each in found)
