"""Folders of candidates that are damaged, hostile or random: they open, or end with one error that says why not."""

import contextlib
import hashlib
import json
import os
import pickle

import ml_dtypes
import numpy as np
import pytest
from candidate_folders import BESIDE, FOLDERS, Q_PROJ, write_candidate, write_folder
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from pytest_quantbench.checkpoints.formats import every, open_candidate
from pytest_quantbench.checkpoints.shards import INDEX
from pytest_quantbench.errors import ModelError, QuantbenchError

FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
MATRIX = f"{Q_PROJ}.weight"
WRONG = [None, True, False, 0, -1, 2**31, 2**70, 1e300, -0.5, "", "4", "int", [], [1], [[]], {}, {"a": 1}, "re:(" * 9]
VALUES = st.sampled_from(WRONG) | st.integers(-300, 300) | st.text(max_size=6)


def whole(directory):
    """Every tensor decoded, of whatever opens."""
    holding = open_candidate(directory)
    for held in holding.stored():
        arrays = held.read()
        dense = arrays["weight"] if held.codec is None else held.codec.decode(arrays)
        assert dense.shape == held.shape
        if held.codec is not None:
            held.codec.layer(arrays)
            held.codec.note(held.shape, arrays)
    return holding


@pytest.mark.parametrize("name", FOLDERS)
def test_they_are_whole_before_anything_is_done_to_them(tmp_path, name):
    holding = whole(write_folder(tmp_path, name))
    assert (holding.format, holding.tensor(MATRIX).shape) == (FOLDERS[name][0], (4, 64))
    assert holding.format in {each.name for each in every()}
    assert holding.left_over([MATRIX, *BESIDE]) == []


@pytest.mark.parametrize("name", FOLDERS)
@FUZZ
@given(random=st.data())
def test_any_value_of_the_config_changed(tmp_path, name, random):
    directory = write_folder(tmp_path, name)
    config = json.loads((directory / "config.json").read_text())
    place, keys = config, []
    while isinstance(place, dict | list) and place and (not keys or random.draw(st.integers(0, 5))):
        keys.append(random.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place)))))
        place = place[keys[-1]]
    parent = config
    for key in keys[:-1]:
        parent = parent[key]
    parent[keys[-1]] = random.draw(VALUES)
    (directory / "config.json").write_text(json.dumps(config))
    with contextlib.suppress(QuantbenchError):
        whole(directory)


@pytest.mark.parametrize("name", FOLDERS)
@FUZZ
@given(
    file=st.sampled_from(["config.json", "model.safetensors"]),
    changes=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=4),
    kept=st.just(1.0) | st.floats(0, 1),
    in_header=st.booleans(),
)
def test_any_bytes_changed_or_cut(tmp_path, name, file, changes, kept, in_header):
    path = write_folder(tmp_path, name) / file
    content = bytearray(path.read_bytes())
    length = len(content)
    if in_header and file != "config.json":
        length = 8 + int.from_bytes(content[:8], "little")
    for place, value in changes:
        content[int(place * (length - 1))] = value
    path.write_bytes(bytes(content[: int(kept * len(content))]))
    with contextlib.suppress(QuantbenchError):
        whole(path.parent)


@pytest.mark.parametrize("name", FOLDERS)
@FUZZ
@given(random=st.data())
def test_any_tensor_of_another_type_and_shape(tmp_path, name, random):
    tensor = random.draw(st.sampled_from(sorted(FOLDERS[name][1])))
    dtype = random.draw(st.sampled_from([np.int8, np.int32, np.int64, np.uint32, np.float16, ml_dtypes.float8_e4m3fn]))
    shape = random.draw(st.lists(st.integers(0, 5), max_size=4))
    value = random.draw(st.integers(-3, 3) if dtype != np.uint32 else st.integers(0, 3))
    with contextlib.suppress(QuantbenchError):
        whole(write_folder(tmp_path, name, **{tensor: np.full(shape, value).astype(dtype)}))


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
        with pytest.raises(ModelError, match=rf"model\.safetensors: '{tensor}' holds values that are not finite"):
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
