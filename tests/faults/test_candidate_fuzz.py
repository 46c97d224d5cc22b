"""Folders of candidates with any value, any byte and any tensor changed: they open, or QuantbenchError says why not."""

import contextlib
import json

import ml_dtypes
import numpy as np
import pytest
from candidate_folders import FOLDERS, whole, write_folder
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_quantbench.errors import QuantbenchError

FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
WRONG = [None, True, False, 0, -1, 2**31, 2**70, 1e300, -0.5, "", "4", "int", [], [1], [[]], {}, {"a": 1}, "re:(" * 9]
VALUES = st.sampled_from(WRONG) | st.integers(-300, 300) | st.text(max_size=6)


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
