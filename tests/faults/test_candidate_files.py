"""Folders of candidates that are damaged or hostile: they open, or end with one error that says why not."""

import hashlib
import json
import os
import pickle

import numpy as np
import pytest
from candidate_folders import BESIDE, FOLDERS, MATRIX, Q_PROJ, whole, write_candidate, write_folder
from safetensors.numpy import save_file

from pytest_quantbench.checkpoints.formats import every, open_candidate
from pytest_quantbench.checkpoints.shards import INDEX
from pytest_quantbench.errors import ModelError, WeightError


@pytest.mark.parametrize("name", FOLDERS)
def test_they_are_whole_before_anything_is_done_to_them(tmp_path, name):
    holding = whole(write_folder(tmp_path, name))
    assert (holding.format, holding.tensor(MATRIX).shape) == (FOLDERS[name][0], (4, 64))
    assert holding.format in {each.name for each in every()}
    assert holding.left_over([MATRIX, *BESIDE]) == []


@pytest.mark.parametrize(("name", "tensor"), [(name, tensor) for name in FOLDERS for tensor in FOLDERS[name][1]])
def test_any_tensor_gone_is_missed(tmp_path, name, tensor):
    directory = write_folder(tmp_path, name, **{tensor: None})
    if tensor.endswith("g_idx"):  # it need not be there
        assert whole(directory).tensor(MATRIX).shape == (4, 64)
    elif name == "plain":
        assert whole(directory).tensor(MATRIX) is None
    else:
        with pytest.raises(ModelError, match=rf"{Q_PROJ}|no tensor of it is"):
            open_candidate(directory)


@pytest.mark.parametrize("name", FOLDERS)
def test_numbers_that_are_none_are_told_with_file_and_tensor(tmp_path, name):
    tensors = FOLDERS[name][1]
    for tensor, array in tensors.items():
        if array.dtype.kind not in "fV":
            continue
        wrong = array.copy()
        wrong.flat[-1] = np.nan
        directory = write_folder(tmp_path, name, **{tensor: wrong})
        with pytest.raises(WeightError, match=rf"model\.safetensors: '{tensor}' holds NaN or infinity"):
            open_candidate(directory).tensor(MATRIX).read()


@pytest.mark.parametrize("name", FOLDERS)
def test_what_nobody_asked_for_is_left_over(tmp_path, name):
    holding = open_candidate(write_folder(tmp_path, name, extra=np.ones(3, np.float16)))
    assert holding.left_over([MATRIX, *BESIDE]) == ["extra"]


@pytest.mark.parametrize("name", FOLDERS)
@pytest.mark.parametrize("linked", ["model.safetensors", "config.json"])
def test_a_link_out_of_the_folder(tmp_path, name, linked):
    directory = write_folder(tmp_path / "model", name)
    (directory / linked).rename(tmp_path / "elsewhere")
    (directory / linked).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ModelError, match=rf"{linked} is a link out of its folder, to .*elsewhere"):
        open_candidate(directory)
    (directory / linked).unlink()
    (tmp_path / "elsewhere").rename(directory / "other")
    (directory / linked).symlink_to("other")
    whole(directory)


@pytest.mark.parametrize("linked", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_link_to_itself(tmp_path, linked):
    directory = write_folder(tmp_path, "fp8")
    (directory / linked).unlink(missing_ok=True)
    (directory / linked).symlink_to(linked)
    if linked == "tokenizer.json":
        whole(directory)
    else:
        with pytest.raises(ModelError, match=f"{linked} is not a file|is in no format that is read here"):
            open_candidate(directory)


@pytest.mark.parametrize("name", FOLDERS)
def test_the_hubs_cache_is_made_of_links(tmp_path, name, monkeypatch):
    model, commit = tmp_path / "models--someone--tiny", "0" * 40
    snapshot, blobs = model / "snapshots" / commit, model / "blobs"
    blobs.mkdir(parents=True)
    for file in write_folder(tmp_path / "made", name).iterdir():
        blob = blobs / hashlib.sha256(file.read_bytes()).hexdigest()
        file.rename(blob)
        for folder in (snapshot, snapshot / "4bit"):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / file.name).symlink_to(os.path.relpath(blob, folder))
    (tmp_path / "mine").symlink_to(snapshot)
    monkeypatch.chdir(snapshot)
    for directory in (snapshot, snapshot / "4bit", tmp_path / "mine", snapshot.relative_to(snapshot)):
        whole(directory)
    (tmp_path / "secret").mkdir()
    for target in (tmp_path / "secret" / commit, model / "refs" / commit, "../../../secret"):
        (snapshot / "model.safetensors").unlink()
        (snapshot / "model.safetensors").symlink_to(target)
        with pytest.raises(ModelError, match="is a link out of its folder"):
            open_candidate(snapshot)


@pytest.mark.parametrize("name", FOLDERS)
def test_shards_one_of_which_is_missing_elsewhere_or_holds_what_another_does(tmp_path, name):
    directory = write_folder(tmp_path, name)
    (directory / "model.safetensors").unlink()
    held = FOLDERS[name][1]
    shards = {"model-1.safetensors": held, "model-2.safetensors": BESIDE}

    def index(**changed):
        places = {tensor: file for file, tensors in shards.items() for tensor in tensors} | changed
        (directory / INDEX).write_text(json.dumps({"weight_map": places}))

    for file, tensors in shards.items():
        save_file(tensors, directory / file)
    index()
    whole(directory)
    for elsewhere in ("../x.safetensors", "/etc/passwd", "sub/model.safetensors"):
        index(extra=elsewhere)
        with pytest.raises(ModelError, match="not the plain name of a safetensors file"):
            open_candidate(directory)
    index()
    save_file(BESIDE | {next(iter(held)): np.ones(1, np.float16)}, directory / "model-2.safetensors")
    with pytest.raises(ModelError, match=r"model-1\.safetensors and model-2\.safetensors both hold"):
        open_candidate(directory)
    (directory / "model-2.safetensors").unlink()
    with pytest.raises(ModelError, match=r"names model-2\.safetensors, which is not there"):
        open_candidate(directory)


class Trap:
    """Says so when it is unpickled."""

    def __reduce__(self):
        return exec, ("raise SystemExit('opened a pickle')",)


@pytest.mark.parametrize("name", FOLDERS)
@pytest.mark.parametrize("file", ["pytorch_model.bin", "model.pt"])
def test_a_pickle_is_not_opened(tmp_path, name, file):
    directory = write_folder(tmp_path, name)
    (directory / file).write_bytes(pickle.dumps(Trap()))
    whole(directory)
    (directory / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=rf"no \*\.safetensors file\. It has {file}, which is not read"):
        open_candidate(directory)
    (directory / "model.safetensors").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(ModelError, match=r"model\.safetensors is truncated or corrupt"):
        open_candidate(directory)


@pytest.mark.parametrize("text", ["[]", "3", '"a"', "null", "", "{", "\x00", '{"a": ' * 50_000])
def test_a_config_that_is_no_table(tmp_path, text):
    write_folder(tmp_path, "fp8")
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ModelError, match=r"config\.json (holds no table|is not valid JSON)"):
        open_candidate(tmp_path)


@pytest.mark.parametrize("method", ["exl3", "torchao", ["gptq"], {"a": 1}, 7])
def test_a_method_that_is_not_read_is_named_with_those_that_are(tmp_path, method):
    write_candidate(tmp_path, BESIDE, {"quant_method": method, "bits": 4})
    with pytest.raises(ModelError) as caught:
        open_candidate(tmp_path)
    assert f"is in no format that is read here: config.json says quant_method = {method!r}. These are: " in str(
        caught.value
    )
    assert all(each.what in str(caught.value) for each in every())


def test_a_config_that_claims_another_method_than_the_tensors_hold(tmp_path):
    for name, (form, tensors, _) in FOLDERS.items():
        for other, (claimed, _, said) in FOLDERS.items():
            if form == claimed or claimed == "plain":
                continue
            directory = write_candidate(tmp_path, tensors | BESIDE, said)
            try:
                holding = whole(directory)
            except ModelError:
                continue
            assert holding.left_over([MATRIX, *BESIDE]), (name, other)  # parts that the claimed method does not have
