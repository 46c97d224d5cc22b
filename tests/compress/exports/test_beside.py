import pytest

from pytest_quantbench.checkpoints.formats.folder import base_model_of
from pytest_quantbench.compress.exports import MEMBERS, get
from pytest_quantbench.compress.exports.beside import card_of, check_empty, new_directory
from pytest_quantbench.compress.exports.protocol import Written
from pytest_quantbench.errors import DiskError, UnknownNameError


def test_what_was_written_gets_its_name_at_the_end(tmp_path):
    output = tmp_path / "deeper" / "out"
    with new_directory(output) as directory:
        (directory / "file").write_text("x")
        assert not output.exists()
    assert [file.name for file in output.iterdir()] == ["file"]
    assert [each.name for each in output.parent.iterdir()] == ["out"]


def test_an_empty_directory_is_filled(tmp_path):
    (tmp_path / "out").mkdir()
    with new_directory(tmp_path / "out") as directory:
        (directory / "file").write_text("x")
    assert (tmp_path / "out" / "file").read_text() == "x"


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_nothing_half_written_stays(tmp_path, error):
    def write():
        with new_directory(tmp_path / "out") as directory:
            (directory / "file").write_text("x")
            raise error

    with pytest.raises(error):
        write()
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_one_sentence(tmp_path):
    with (
        pytest.raises(DiskError, match=r"Cannot write .*out: No space left on device. Choose another folder"),
        new_directory(tmp_path / "out"),
    ):
        raise OSError(28, "No space left on device")


def test_what_is_there_is_not_touched(tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for taken in ("file", "link"):
        with pytest.raises(DiskError, match="is there already, and no directory"):
            check_empty(tmp_path / taken)
    with pytest.raises(DiskError, match="not empty"), new_directory(tmp_path):
        pass
    assert (tmp_path / "file").read_text() == "x"
    check_empty(tmp_path / "new")


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(DiskError, match="Cannot write"), new_directory(tmp_path / "file" / "out"):
        pass


def test_the_card_names_the_original_and_what_differs(job, tmp_path):
    made = job("int4-rtn")
    written = Written(stored_bytes=2_000_000, differences=("A.",), details=("b: c",))
    card_of(made, written, "Use it.").write(written, tmp_path)
    text = (tmp_path / "README.md").read_text()
    assert base_model_of(tmp_path) == "owner/Small"
    assert made.artifact.manifest.source_sha256 in text
    assert f"| bits per weight, of these files | {8 * 2_000_000 / 3_672_320:.3f} |" in text
    assert "A.\n\n- b: c\n" in text
    card_of(made, written, "Use it.").write(Written(stored_bytes=1), tmp_path)
    assert "Nothing: every weight decodes to the same float32 number." in (tmp_path / "README.md").read_text()


@pytest.mark.parametrize("name", MEMBERS)
def test_every_form_is_found_by_its_name(name):
    assert get(name).name == name


def test_a_form_that_there_is_not_is_refused():
    with pytest.raises(UnknownNameError, match=r"Unknown form of an export 'onnx'. Choose from: .*mlx"):
        get("onnx")
