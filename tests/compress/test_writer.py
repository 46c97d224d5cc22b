"""A compression that was interrupted goes on where it was, and gives the bytes of one that was not."""

import mlx.core as mx
import pytest
from builders import artifact_content, open_model

from pytest_quantbench.catalog.models import TINY_DIRECTORY
from pytest_quantbench.catalog.recipes import recipe
from pytest_quantbench.compress import writer
from pytest_quantbench.compress.artifact import open_artifact
from pytest_quantbench.compress.calibration import CalibrationSet
from pytest_quantbench.compress.pipeline import compress
from pytest_quantbench.compress.writer import Build
from pytest_quantbench.errors import DiskError
from pytest_quantbench.fetch.texts import Text
from pytest_quantbench.storage.files import write_atomically

TEXT = Text(name="text", content=(TINY_DIRECTORY / "heldout.txt").read_text())
RECIPES = (
    "int4-rtn",
    "int4",
    "int4-gptq",
    *(pytest.param(name, marks=pytest.mark.slow) for name in ("int4-static", "int2")),
)
GROUPS = 4  # of a model with three layers: what is outside of them, and each


class Pulled(BaseException):
    """The plug, in the middle of a layer."""


def calibration():
    return CalibrationSet(text=TEXT, sequences=4)


def make(directory, recipe_id, cache):
    return compress(open_model(directory), recipe(recipe_id), 0, cache, calibration)


@pytest.fixture
def pull_at(monkeypatch):
    """A function that pulls the plug when so many groups are done; and counts the groups that are encoded."""
    made = []
    original = Build._made

    def pull(after=None, error=Pulled):
        made.clear()

        def interrupted(self, file, items):
            if len(made) == after:
                file.write_bytes(b"half a file")
                raise error
            made.append(file.name)
            return original(self, file, items)

        monkeypatch.setattr(Build, "_made", interrupted)
        return made

    return pull


@pytest.mark.parametrize("after", range(GROUPS))
@pytest.mark.parametrize("recipe_id", RECIPES)
def test_it_goes_on_where_it_was_and_gives_the_same_bytes(small_model, tmp_path, pull_at, recipe_id, after):
    directory = small_model(hidden_size=64)
    pull_at(after)
    with pytest.raises(Pulled):
        make(directory, recipe_id, tmp_path / "cache")
    encoded = pull_at()
    resumed = make(directory, recipe_id, tmp_path / "cache")
    assert len(encoded) == GROUPS - after
    whole = make(directory, recipe_id, tmp_path / "other")
    assert artifact_content(resumed) == artifact_content(whole)
    assert sorted(path.name for path in (tmp_path / "cache" / "artifacts").iterdir()) == [resumed.directory.name]


@pytest.mark.slow
def test_it_may_be_interrupted_at_every_layer(small_model, tmp_path, pull_at):
    directory = small_model()
    for _ in range(GROUPS - 1):
        encoded = pull_at(1)
        with pytest.raises(Pulled):
            make(directory, "int4-gptq", tmp_path / "cache")
        assert len(encoded) == 1
    encoded = pull_at()
    assert artifact_content(make(directory, "int4-gptq", tmp_path / "cache")) == artifact_content(
        make(directory, "int4-gptq", tmp_path / "other")
    )
    assert len(encoded) == 1 + GROUPS  # the last one, and all of the other


@pytest.mark.parametrize(
    "damage", ["flipped", "gone", *(pytest.param(each, marks=pytest.mark.slow) for each in ("cut", "note", "note cut"))]
)
def test_a_finished_layer_that_was_damaged_is_made_again(small_model, tmp_path, pull_at, damage):
    directory = small_model()
    pull_at(3)
    with pytest.raises(Pulled):
        make(directory, "int4-gptq", tmp_path / "cache")
    (writer,) = (tmp_path / "cache" / "artifacts").iterdir()
    file = writer / f"model-00002-of-0000{GROUPS}.safetensors"
    note = file.with_suffix(".done")
    whole = bytearray(file.read_bytes())
    if damage == "flipped":
        whole[-1] ^= 1
        file.write_bytes(whole)
    elif damage == "cut":
        file.write_bytes(whole[:-1])
    elif damage == "gone":
        file.unlink()
    elif damage == "note":
        note.write_bytes(b"{}")
    else:
        note.write_bytes(note.read_bytes()[:-10])
    encoded = pull_at()
    resumed = make(directory, "int4-gptq", tmp_path / "cache")
    assert encoded == [file.name, f"model-00004-of-0000{GROUPS}.safetensors"]
    assert artifact_content(resumed) == artifact_content(make(directory, "int4-gptq", tmp_path / "other"))


def test_a_full_disk_keeps_what_is_done(small_model, tmp_path, pull_at):
    directory = small_model()
    pull_at(2, OSError(28, "No space left on device"))
    with pytest.raises(DiskError, match="No space left on device"):
        make(directory, "int4-rtn", tmp_path / "cache")
    encoded = pull_at()
    make(directory, "int4-rtn", tmp_path / "cache")
    assert len(encoded) == GROUPS - 2


def test_a_disk_that_is_full_when_a_layer_is_noted_keeps_the_layers_before(small_model, tmp_path, monkeypatch):
    directory, written = small_model(), []

    def until_full(path, content):
        if len(written) == 2:
            raise DiskError("no room")
        written.append(path)
        write_atomically(path, content)

    monkeypatch.setattr(writer, "write_atomically", until_full)
    with pytest.raises(DiskError, match="no room"):
        make(directory, "int4-rtn", tmp_path / "cache")
    assert all(path.is_file() for path in written)
    monkeypatch.undo()
    assert artifact_content(make(directory, "int4-rtn", tmp_path / "cache")) == artifact_content(
        make(directory, "int4-rtn", tmp_path / "other")
    )


def test_half_an_artifact_is_none(small_model, tmp_path, pull_at):
    pull_at(3)
    with pytest.raises(Pulled):
        make(small_model(), "int4-rtn", tmp_path / "cache")
    (writer,) = (tmp_path / "cache" / "artifacts").iterdir()
    assert writer.name.startswith(".building-")
    assert open_artifact(writer) is None
    assert open_artifact(writer.with_name(writer.name.removeprefix(".building-"))) is None


def test_the_notes_are_gone_when_it_is_complete(small_model, tmp_path):
    artifact = make(small_model(), "int4-rtn", tmp_path / "cache")
    assert not list(artifact.directory.glob("*.done"))
    assert mx.load(str(next(artifact.directory.glob("*.safetensors"))))
