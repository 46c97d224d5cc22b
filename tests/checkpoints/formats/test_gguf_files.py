"""Models in several files, in directories and behind links."""

import hashlib

import numpy as np
import pytest
from gguf_models import write

from pytest_quantbench.checkpoints.formats import open_candidate
from pytest_quantbench.checkpoints.formats.gguf import Gguf
from pytest_quantbench.checkpoints.formats.gguf_files import read_model
from pytest_quantbench.errors import ModelError

FIRST = [("general.architecture", "text", "llama"), ("llama.block_count", "u32", 1)]
NAMES = ("token_embd.weight", "output_norm.weight", "output.weight")


def part_name(number, count=3):
    return f"model-{number:05}-of-{count:05}.gguf"


def split(directory, *, count=3, tensors=None, number_of=lambda place: place, said=None):
    """A model in parts, a tensor in each; the first also has the model's keys."""
    directory.mkdir(exist_ok=True)
    for place in range(count):
        keys = [("split.no", "u16", number_of(place)), ("split.count", "u16", said or count)]
        keys += [("split.tensors.count", "i32", tensors or count)]
        content = {NAMES[place]: ("F32", np.full((2, 4), place, np.float32))}
        write(directory / part_name(place + 1, count), (FIRST if place == 0 else []) + keys, content)
    return [directory / part_name(place + 1, count) for place in range(count)]


@pytest.mark.parametrize("given", [0, 1, 2, None])
def test_any_part_stands_for_all(tmp_path, given):
    parts = split(tmp_path / "m")
    source = tmp_path / "m" if given is None else parts[given]
    assert Gguf().recognizes(source)
    holding = open_candidate(source)
    assert list(holding.files) == parts
    for place, name in enumerate(("model.embed_tokens.weight", "model.norm.weight", "lm_head.weight")):
        assert (holding.tensor(name).read()["weight"] == place).all()


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_a_part_that_is_missing_is_named(tmp_path, missing):
    parts = split(tmp_path / "m")
    parts[missing].unlink()
    for source in (tmp_path / "m", *(part for part in parts if part.exists())):
        with pytest.raises(ModelError, match=rf"is one of 3 parts, and {part_name(missing + 1)} is not beside it"):
            open_candidate(source)


def test_parts_that_do_not_belong_together(tmp_path):
    parts = split(tmp_path / "a", number_of=lambda place: 0)
    with pytest.raises(ModelError, match=r"00002-of-00003.gguf is part 1 of 3 by its header, and 2 of 3 by its name"):
        open_candidate(parts[0])
    with pytest.raises(ModelError, match=r"says split.tensors.count = 4, and all parts together hold 3"):
        open_candidate(split(tmp_path / "b", tensors=4)[2])
    parts = split(tmp_path / "c")
    renamed = parts[0].rename(tmp_path / "c" / "model.gguf")
    with pytest.raises(ModelError, match=r"is one of 3 parts, which its name does not say"):
        open_candidate(renamed)
    parts = split(tmp_path / "d")
    parts[2].write_bytes(
        parts[1]
        .read_bytes()
        .replace(b"\x08\0\0\0\0\0\0\0split.no\x02\0\0\0\x01", b"\x08\0\0\0\0\0\0\0split.no\x02\0\0\0\x02")
    )
    with pytest.raises(ModelError, match=r"both hold 'output_norm.weight'"):
        open_candidate(parts[0])


def test_a_count_that_is_none(tmp_path):
    write(tmp_path / "x.gguf", [*FIRST, ("split.count", "text", "many")], {"a": ("F32", np.ones(2, np.float32))})
    with pytest.raises(ModelError, match=r"split.count is 'many'"):
        open_candidate(tmp_path / "x.gguf")


def test_directories_with_one_model_and_what_lies_beside_it(tmp_path):
    single = {"token_embd.weight": ("F32", np.ones((2, 4), np.float32))}
    for name in ("x.gguf", "mmproj-x-f16.gguf", "imatrix.gguf"):
        write(tmp_path / name, FIRST, single)
    assert [file.name for file in read_model(tmp_path).files] == ["x.gguf"]
    write(tmp_path / "y.gguf", FIRST, single)
    with pytest.raises(ModelError, match=r"holds 2 models: x\.gguf, y\.gguf. Give one of these files"):
        read_model(tmp_path)
    (tmp_path / "model.safetensors").touch()
    assert not Gguf().recognizes(tmp_path)


def test_directories_without_a_model(tmp_path):
    assert not Gguf().recognizes(tmp_path)
    write(tmp_path / "mmproj.gguf", FIRST, {"a": ("F32", np.ones(2, np.float32))})
    with pytest.raises(ModelError, match=r"holds no GGUF file with a model"):
        read_model(tmp_path)


def test_links_out_of_the_folder_are_refused(tmp_path):
    parts = split(tmp_path / "m")
    elsewhere = tmp_path / "elsewhere.gguf"
    parts[1].rename(elsewhere)
    parts[1].symlink_to(elsewhere)
    for source in (parts[0], tmp_path / "m"):
        with pytest.raises(ModelError, match=r"00002-of-00003.gguf is a link out of its folder, to .*elsewhere.gguf"):
            open_candidate(source)
    within = tmp_path / "m" / "second"
    elsewhere.rename(within)
    parts[1].unlink()
    parts[1].symlink_to("second")
    assert len(open_candidate(parts[0]).files) == 3


def test_a_file_that_is_given_may_be_a_link(tmp_path):
    (file,) = split(tmp_path / "m", count=1)
    (tmp_path / "x.gguf").symlink_to(file)
    assert open_candidate(tmp_path / "x.gguf").tensor("model.embed_tokens.weight").shape == (2, 4)


def in_cache(tmp_path, parts, folder="snapshots", within=""):
    """As the Hub's cache keeps files: links in a snapshot, or a folder in it, to blobs named by their hashes."""
    blobs, snapshot = tmp_path / "models--a--b" / "blobs", tmp_path / "models--a--b" / folder / "rev" / within
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for part in parts:
        digest = hashlib.sha256(part.read_bytes()).hexdigest()
        part.rename(blobs / digest)
        (snapshot / part.name).symlink_to(f"{'../' * len(within.split())}../../blobs/{digest}")
    return snapshot


@pytest.mark.parametrize("within", ["", "Q4_K_M"])
def test_links_of_the_hubs_cache_are_followed(tmp_path, within):
    snapshot = in_cache(tmp_path, split(tmp_path / "m"), within=within)
    for source in (snapshot, snapshot / part_name(2)):
        assert len(open_candidate(source).files) == 3


def test_links_that_only_look_like_those_are_not(tmp_path):
    snapshot = in_cache(tmp_path, split(tmp_path / "m"), folder="other")
    with pytest.raises(ModelError, match=r"is a link out of its folder"):
        open_candidate(snapshot / part_name(2))
