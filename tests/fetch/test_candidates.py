"""Which files a candidate's source means. Fetching itself, with what can go wrong: tests/faults/test_candidates.py."""

from pathlib import Path

import pytest

from pytest_quantbench.errors import ModelError
from pytest_quantbench.fetch.candidates import HubSource, find, gguf_files, hub_source, local_path, plain_name

MANY = ("README.md", "config.json", "m-Q4_K_M.gguf", "m-Q8_0.gguf", "imatrix.dat", "BF16/m-00001-of-00002.gguf")
MANY = (*MANY, "BF16/m-00002-of-00002.gguf", "mmproj.gguf")
ONE = HubSource(repository="a/b")


def asked(file):
    return HubSource(repository="a/b", file=file)


@pytest.mark.parametrize(
    ("typed", "parts"),
    [
        ("a/b", ("a/b", "main", None)),
        ("a-1/b.2@v1.0", ("a-1/b.2", "v1.0", None)),
        ("a/b@refs/pr/3:x/y-*.gguf", ("a/b", "refs/pr/3", "x/y-*.gguf")),
        ("a/b:x@y.gguf", ("a/b", "main", "x@y.gguf")),
        ("a/b@" + "0" * 40, ("a/b", "0" * 40, None)),
    ],
)
def test_a_source_of_the_hub_has_a_repository_a_revision_and_a_file(typed, parts):
    found = hub_source(typed)
    assert (found.repository, found.revision, found.file) == parts
    assert str(found) == typed


@pytest.mark.parametrize("typed", ["nonsense", "a/b/c", "a/b@", "a/b:", "a/b@../x", "a/b@-x", "a b/c", ""])
def test_what_is_no_source_is_refused(typed):
    with pytest.raises(ModelError, match="is neither a file or directory that exists, nor one of the Hub like"):
        hub_source(typed)


@pytest.mark.parametrize(
    "typed", ["/nowhere/x", "./x", "../x", "~/nowhere", "x.gguf", "models/x.gguf", "x/y.safetensors"]
)
def test_a_path_where_nothing_is_is_not_asked_of_the_hub(typed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match="there is no such file or directory"):
        find(typed, offline=False)


def test_paths_are_absolute_and_links_keep_their_names(tmp_path, monkeypatch):
    """In the Hub's cache a file is a link to a blob, whose name says nothing."""
    (tmp_path / "blob").write_bytes(b"")
    (tmp_path / "x.gguf").symlink_to("blob")
    monkeypatch.chdir(tmp_path)
    assert find("x.gguf", offline=True) == tmp_path / "x.gguf"
    assert local_path("owner/name") is None


@pytest.mark.parametrize(
    ("file", "found"),
    [
        ("m-Q8_0.gguf", ["m-Q8_0.gguf"]),
        ("*Q4*", ["m-Q4_K_M.gguf"]),
        ("BF16/*", list(MANY[5:7])),
        ("m-00001-of-00002.gguf", list(MANY[5:7])),
        ("BF16/m.gguf", list(MANY[5:7])),
        ("m.gguf", list(MANY[5:7])),
    ],
)
def test_a_file_is_chosen_by_name_or_pattern_with_all_its_parts(file, found):
    assert gguf_files(MANY, asked(file)) == found


def test_what_lies_beside_a_model_is_none_unless_it_is_named():
    names = ("m.gguf", "mmproj-m-F16.gguf", "m-imatrix.gguf")
    assert gguf_files(names, ONE) == ["m.gguf"]
    assert gguf_files(names, asked("mmproj*")) == ["mmproj-m-F16.gguf"]


@pytest.mark.parametrize(
    ("names", "source", "told"),
    [
        (MANY, ONE, r"^a/b is 3 GGUF files\. Name one as a/b:FILE\. They are BF16/m\.gguf, m-Q4_K_M\.gguf, m-Q8_0"),
        (MANY, asked("*Q*"), r"^a/b:\*Q\* is 2 GGUF files\. .* They are m-Q4_K_M\.gguf, m-Q8_0\.gguf\.$"),
        (MANY, asked("Q5"), r"^a/b has no GGUF file Q5\. Name one as a/b:FILE\. They are BF16/m\.gguf, m-Q4"),
        (MANY[:6], asked("BF16/*"), r"^a/b has 1 of the 2 parts of BF16/m\.gguf\.$"),
        (("config.json", "pytorch_model.bin"), ONE, r"^a/b has no GGUF file, and no config\.json with safetensors"),
        (("../x.gguf", ".hidden.gguf", "a/../x.gguf", "/x.gguf"), ONE, "has no GGUF file, and no config"),
        ([f"{n}.gguf" for n in range(100)], ONE, r"28\.gguf, .*and 70 more\.$"),
    ],
)
def test_what_is_not_one_candidate_is_told_with_what_there_is(names, source, told):
    with pytest.raises(ModelError, match=told):
        gguf_files(names, source)


@pytest.mark.parametrize(
    "weights", ["model.safetensors", "model.safetensors.index.json", "model-00001-of-00002.safetensors"]
)
def test_safetensors_with_a_config_are_a_directory(weights):
    assert gguf_files(["config.json", weights, "m-Q8_0.gguf"], ONE) == []
    assert gguf_files(["config.json", weights, "m-Q8_0.gguf"], asked("*.gguf")) == ["m-Q8_0.gguf"]
    assert gguf_files([weights, "m-Q8_0.gguf"], ONE) == ["m-Q8_0.gguf"]


@pytest.mark.parametrize(
    ("source", "path", "name"),
    [
        ("a/b", "/hub/snapshots/0123", "b"),
        ("a/b:x.gguf", "/hub/snapshots/0123/x-Q4.gguf", "x-Q4"),
        ("a/b", "/hub/snapshots/0123/big-00001-of-00003.gguf", "big"),
        ("a/b", "/models/v1.5-q4.gguf", "v1.5-q4"),
    ],
)
def test_a_candidate_is_called_after_its_file_or_repository(source, path, name, monkeypatch):
    monkeypatch.setattr(Path, "is_dir", lambda self: not self.name.endswith(".gguf"))
    assert plain_name(source, Path(path)) == name
