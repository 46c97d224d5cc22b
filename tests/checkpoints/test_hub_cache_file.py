import hashlib

import pytest

from pytest_quantbench.checkpoints.hub_cache_file import is_of_hub, mismatch, named_digest, remove

CONTENT = b"weights"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def linked(tmp_path):
    """A file of a snapshot in a cache, of the given content and blob name."""

    def make(content, blob):
        for folder in ("blobs", "snapshots/abc"):
            (tmp_path / "models--a--b" / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / "models--a--b" / "blobs" / blob).write_bytes(content)
        path = tmp_path / "models--a--b" / "snapshots" / "abc" / "model.safetensors"
        path.symlink_to(f"../../blobs/{blob}")
        return path

    return make


def git_sha1(content):
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def test_git_names_an_empty_file_as_everyone_knows():
    assert git_sha1(b"") == "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"


@pytest.mark.parametrize("digest", [SHA256, git_sha1(CONTENT)])
def test_a_file_is_compared_with_the_checksum_that_is_listed(linked, digest):
    path = linked(CONTENT, "whatever")
    assert mismatch(path, len(CONTENT), digest) is None
    assert mismatch(path, len(CONTENT) + 1, digest) == "it has 7 bytes, the Hub says 8"
    path.write_bytes(b"weighty")
    assert f"the Hub says {digest}" in mismatch(path, len(CONTENT), digest)


@pytest.mark.parametrize("digest", [SHA256, git_sha1(CONTENT)])
def test_a_file_is_compared_with_its_name_where_nothing_is_listed(linked, digest):
    path = linked(CONTENT, digest)
    assert named_digest(path) == digest
    assert mismatch(path) is None
    path.write_bytes(b"weighty")
    assert "its checksum is" in mismatch(path)


def test_a_file_without_a_known_checksum_has_nothing_to_differ_from(tmp_path):
    (tmp_path / "x").write_bytes(b"x")
    assert named_digest(tmp_path / "x") is None
    assert mismatch(tmp_path / "x") is None


def test_a_file_that_cannot_be_read_differs(linked):
    path = linked(CONTENT, SHA256)
    path.resolve().unlink()
    assert mismatch(path) == "it cannot be read (No such file or directory)"


def test_a_file_goes_with_its_blob(linked):
    path = linked(CONTENT, SHA256)
    blob = path.resolve()
    remove(path)
    assert not path.is_symlink()
    assert not blob.exists()
    remove(path)


@pytest.mark.parametrize("target", ["../../../elsewhere", "../elsewhere"])
def test_nothing_outside_the_blobs_is_deleted(linked, target):
    path = linked(CONTENT, SHA256)
    path.unlink()
    path.symlink_to(target)
    elsewhere = path.parent / target
    elsewhere.write_bytes(b"somebody's")
    remove(path)
    assert not path.is_symlink()
    assert elsewhere.read_bytes() == b"somebody's"


def test_a_blob_that_is_a_link_into_a_store_is_unlinked_and_the_store_left(linked, tmp_path):
    path = linked(CONTENT, SHA256)
    blob = path.resolve()
    blob.rename(tmp_path / "stored")
    blob.symlink_to(tmp_path / "stored")
    assert mismatch(path) is None  # named by its own hash, not by the store's
    remove(path)
    assert not blob.is_symlink()
    assert (tmp_path / "stored").exists()


@pytest.mark.parametrize(
    ("target", "is_the_hubs"),
    [
        (f"../../blobs/{SHA256}", True),
        (f"../../blobs/../blobs/{SHA256}", True),
        ("../../blobs/weights", False),  # no checksum
        (f"../../blobs/more/{SHA256}", False),
        (f"../../../blobs/{SHA256}", False),
        (f"../../refs/{SHA256}", False),
        (f"/blobs/{SHA256}", False),
    ],
)
def test_a_link_of_the_hubs_leads_to_a_blob_of_the_same_model(linked, target, is_the_hubs):
    path = linked(CONTENT, SHA256)
    path.unlink()
    path.symlink_to(target)
    assert is_of_hub(path) == is_the_hubs


def test_a_file_and_a_link_elsewhere_are_not_the_hubs(linked, tmp_path):
    blob = linked(CONTENT, SHA256).parents[2] / "blobs" / SHA256
    assert not is_of_hub(blob)
    (tmp_path / "blobs").mkdir()
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "a.safetensors").symlink_to(f"../blobs/{SHA256}")
    assert not is_of_hub(tmp_path / "model" / "a.safetensors")
