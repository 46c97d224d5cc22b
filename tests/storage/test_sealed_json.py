"""JSON with a hash of its values: what was changed, cut or cannot be written is told."""

import hashlib
import json
import math
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_quantbench.errors import RecordError
from pytest_quantbench.storage.sealed_json import json_sha256, read_sealed, sealed, unsealed


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    bits: int
    losses: dict[str, list[float]]


FIGURES = Figures(bits=4, losses={"mean": [0.1, 1e-9], "worst": [1e300]})
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)


@given(values=st.dictionaries(st.text(max_size=8).filter(lambda name: name != "sha256"), VALUES, max_size=5))
def test_what_is_sealed_is_unsealed_as_it_was(values):
    assert unsealed(sealed(values)) == values


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_that_json_cannot_hold_are_refused_by_name(value):
    with pytest.raises(RecordError, match=r"\$\.losses\.mean\[1\] of the record is"):
        sealed(Figures(bits=4, losses={"mean": [0.0, value]}))


def test_a_number_changed_by_hand_is_found():
    changed = sealed(FIGURES).replace(b'"bits": 4', b'"bits": 2')
    with pytest.raises(RecordError, match="its hash is of other values: it was changed or damaged"):
        unsealed(changed)


def test_what_has_no_hash_is_refused():
    with pytest.raises(RecordError, match="it has no hash"):
        unsealed(b'{"bits": 4}')


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[1]", b'{"a": 1e999}', b"[" * 100_000])
def test_what_is_no_table_of_json_is_refused(content):
    with pytest.raises(RecordError):
        unsealed(content)


def test_a_file_is_read_as_what_was_sealed(tmp_path, caplog):
    path = tmp_path / "file.json"
    assert read_sealed(path, Figures) is None
    path.write_bytes(sealed(FIGURES))
    assert read_sealed(path, Figures) == FIGURES
    assert caplog.text == ""


@pytest.mark.parametrize("damage", [lambda content: content[:-9], lambda _: sealed({"bits": "four"})])
def test_a_damaged_file_is_moved_aside_and_told(tmp_path, caplog, damage):
    path = tmp_path / "file.json"
    path.write_bytes(damage(sealed(FIGURES)))
    assert read_sealed(path, Figures) is None
    assert [each.name for each in tmp_path.iterdir()] == ["damaged-file.json-1"]
    assert "file.json was damaged" in caplog.text


def test_the_hash_of_values_is_that_of_sorted_json():
    values = {"b": [1, 2.5, None], "a": {"z": "é", "y": True}}
    text = b'{"a": {"y": true, "z": "\\u00e9"}, "b": [1, 2.5, null]}'
    assert json_sha256(values) == hashlib.sha256(text).hexdigest()
    assert json_sha256(dict(reversed(values.items()))) == json_sha256(values)
    as_given = hashlib.sha256(json.dumps(values).encode()).hexdigest()
    assert json_sha256(values, sort_keys=False) == as_given != json_sha256(values)
    with pytest.raises(TypeError):
        json_sha256({"a": {1, 2}})
