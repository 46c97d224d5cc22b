"""Whatever a model is called, markdown shows that name: read back by a parser of CommonMark with GitHub's tables."""

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from pytest_quantbench.report import markdown_table
from pytest_quantbench.report.markdown.escaped import code, text

PARSER = MarkdownIt("commonmark").enable(["table", "strikethrough"])
ODD = st.text("ab1_|\\`*[]()<>&;#-+=.!~:/@$ \n\r\t\u2028é模", max_size=12) | st.text(max_size=8)


def shown(tokens):
    """The text of inline tokens, code included; anything else (a link, emphasis, an image) is a mistake."""
    assert {token.type for token in tokens} <= {"text", "code_inline", "text_special"}, tokens
    return "".join(token.content for token in tokens)


def expected(name):
    one_line = " ".join(name.split())
    return "".join("\ufffd" if unicodedata.category(letter) in ("Cc", "Cs") else letter for letter in one_line)


@given(name=ODD)
@example(name="| --- |")
@example(name="a_b_ _c")
@example(name="1. first")
@example(name="<img src=x onerror=alert(1)>")
@example(name="![x](http://a)")
@example(name="a\\|b")
@example(name="&lt;")
@example(name="[1, 2](3)")
@example(name="[1]: 2")
@example(name="![1][1]")
def test_a_name_is_read_back_from_a_table_and_from_a_list(name):
    for write in (text, code):
        lines = markdown_table.table(["model", "figure"], [[write(name), "1"], ["2", write(name)]])
        cells = [token for token in PARSER.parse("\n".join(lines)) if token.type == "inline"]
        assert [shown(cell.children) for cell in cells] == ["model", "figure", expected(name), "1", "2", expected(name)]
        (inline,) = [token for token in PARSER.parse(f"- {write(name)} is it") if token.type == "inline"]
        assert shown(inline.children).split() == [*expected(name).split(), "is", "it"]


@pytest.mark.parametrize("name", ["Qwen2.5-1.5B-Instruct", "tiny_facts", "int4-q4_k_m", "DeepSeek-R1"])
def test_usual_names_stay_as_they_are(name):
    assert text(name) == name
    assert code(name) == f"`{name}`"


def test_an_interval_in_a_sentence_stays_as_it_is():
    assert text("rises by 0.1 [-0.2, +0.4], and") == "rises by 0.1 [-0.2, +0.4], and"
    assert text("[0.1, 0.2](a)") == r"\[0.1, 0.2\](a)"
