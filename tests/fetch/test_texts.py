import pytest

from pytest_quantbench.catalog.models import MODELS
from pytest_quantbench.errors import CorpusError, OfflineError
from pytest_quantbench.fetch import texts

LLAMA = MODELS["Llama-3.1-8B-Instruct"]


@pytest.fixture
def empty_hub(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    return tmp_path / "hub"


def test_offline_names_the_text_that_is_lacking_and_the_way_out(empty_hub):
    with pytest.raises(OfflineError, match="--corpus FILE"):
        texts.read_text("wikitext2", offline=True)


def test_a_text_file_is_read_and_hashed(tmp_path):
    (tmp_path / "text.txt").write_text("übung", encoding="utf-8")
    text = texts.read_text(tmp_path / "text.txt", offline=True)
    assert (text.name, text.content) == ("text.txt", "übung")
    assert len(text.sha256) == 64


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", None])
def test_a_text_that_cannot_be_read_is_named(tmp_path, content):
    path = tmp_path / "text.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CorpusError, match=r"text\.txt cannot be read as UTF-8"):
        texts.read_text(path, offline=True)


def test_a_jsonl_file_is_the_text_of_its_lines(tmp_path):
    path = tmp_path / "text.jsonl"
    path.write_text('{"text": "One."}\n\n{"text": "Two.", "id": 7}\n')
    assert texts.read_text(path, offline=True).content == "One.\n\nTwo."


@pytest.mark.parametrize("line", ["{", "[1]", '{"content": "x"}', '{"text": 3}'])
def test_a_line_without_a_text_is_named(tmp_path, line):
    path = tmp_path / "text.jsonl"
    path.write_text(f'{{"text": "One."}}\n{line}\n')
    with pytest.raises(CorpusError, match=r"Line 2 of .*text\.jsonl"):
        texts.read_text(path, offline=True)
