from pathlib import Path

import pytest

from pytest_quantbench import hub, planning
from pytest_quantbench.catalog import MODELS
from pytest_quantbench.errors import CorpusError, DiskError, OfflineError
from pytest_quantbench.recipes import recipe
from pytest_quantbench.settings import user_model

LLAMA = MODELS["Llama-3.1-8B-Instruct"]


@pytest.fixture
def empty_hub(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    return tmp_path / "hub"


def snapshot(cache, model, *names):
    folder = cache / f"models--{model.source.replace('/', '--')}" / "snapshots" / "abc"
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).write_text("{}")
    return folder


def test_a_directory_is_here_and_a_hub_model_is_not(empty_hub):
    assert hub.is_here(MODELS["Tiny"])
    assert not hub.is_here(LLAMA)


def test_a_snapshot_counts_only_with_its_weights(empty_hub):
    folder = snapshot(empty_hub, LLAMA, "config.json")
    assert not hub.is_here(LLAMA)
    (folder / "model.safetensors").write_text("")
    assert hub.is_here(LLAMA)


def test_offline_names_what_is_lacking_and_the_way_out(empty_hub):
    with pytest.raises(OfflineError, match=r"Llama-3\.1-8B-Instruct is not in the Hub's cache .*--model DIRECTORY"):
        hub.fetch(LLAMA, offline=True)
    with pytest.raises(OfflineError, match="--corpus FILE"):
        hub.read_text("wikitext2", offline=True)


def test_no_network_is_one_sentence(empty_hub, monkeypatch):
    """A real attempt, at a port of this machine where nobody listens."""
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(empty_hub))
    with pytest.raises(OfflineError, match=r"Llama-3\.1-8B-Instruct could not be fetched"):
        hub.fetch(LLAMA, offline=False)


def test_a_text_file_is_read_and_hashed(tmp_path):
    (tmp_path / "text.txt").write_text("übung", encoding="utf-8")
    text = hub.read_text(tmp_path / "text.txt", offline=True)
    assert (text.name, text.content) == ("text.txt", "übung")
    assert len(text.sha256) == 64


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", None])
def test_a_text_that_cannot_be_read_is_named(tmp_path, content):
    path = tmp_path / "text.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CorpusError, match=r"text\.txt cannot be read as UTF-8"):
        hub.read_text(path, offline=True)


def test_a_jsonl_file_is_the_text_of_its_lines(tmp_path):
    path = tmp_path / "text.jsonl"
    path.write_text('{"text": "One."}\n\n{"text": "Two.", "id": 7}\n')
    assert hub.read_text(path, offline=True).content == "One.\n\nTwo."


@pytest.mark.parametrize("line", ["{", "[1]", '{"content": "x"}', '{"text": 3}'])
def test_a_line_without_a_text_is_named(tmp_path, line):
    path = tmp_path / "text.jsonl"
    path.write_text(f'{{"text": "One."}}\n{line}\n')
    with pytest.raises(CorpusError, match=r"Line 2 of .*text\.jsonl"):
        hub.read_text(path, offline=True)


def test_disk_is_planned_from_the_sizes(empty_hub):
    cells = [(LLAMA, recipe("bf16", [])), (LLAMA, recipe("int4", []))]
    need = planning.disk_need(cells)
    assert need.fetch == {LLAMA.name: pytest.approx(16.06e9)}
    assert need.artifacts == pytest.approx(16.06e9 * 4.5 / 16)
    assert need.total == pytest.approx(need.artifacts + 16.06e9)


def test_models_of_unknown_size_are_named(empty_hub):
    cells = [(user_model("someone/thing"), recipe("int4", []))]
    assert planning.disk_need(cells).unknown == ("thing",)
    assert "size of thing unknown" in planning.describe(cells, Path("."))[0]


def test_a_disk_that_is_too_small_is_an_error_with_the_numbers(empty_hub, monkeypatch, tmp_path):
    cells = [(LLAMA, recipe("int4", []))]
    planning.check_disk([(MODELS["Tiny"], recipe("int4", []))], tmp_path)
    monkeypatch.setattr(planning, "free_bytes", lambda _: 20 * 10**9)
    with pytest.raises(
        DiskError, match=r"needs 20\.6 GB .*16\.1 GB of models, 4\.5 GB of artifacts.* 20\.0 GB are free"
    ):
        planning.check_disk(cells, tmp_path)


def test_free_space_is_that_of_the_nearest_folder_that_exists(tmp_path):
    assert planning.free_bytes(tmp_path / "not" / "yet") == pytest.approx(planning.free_bytes(tmp_path), rel=0.1)
