"""Any manifest at all: the whole artifact that it is of, or set aside. Nothing outside of its folder is read.

A seal is a hash and no signature: whoever changes a manifest can seal it again, and these tests do.
"""

import builtins
import copy
import hashlib
import io
import json
import os
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from builders import open_model
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_quantbench.catalog.recipes import recipe
from pytest_quantbench.compress.artifact import open_artifact
from pytest_quantbench.compress.assignment import plan
from pytest_quantbench.compress.pipeline import compress
from pytest_quantbench.errors import RecordError
from pytest_quantbench.storage.sealed_json import SEAL, sealed

INT4 = recipe("int4-rtn")
FUZZ = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**65), 2**65) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
NAMES = st.sampled_from(
    [
        "../../secret",
        "/etc/passwd",
        "..",
        ".",
        "",
        "a/b",
        "\0",
        "secret",
        "manifest.json",
        "os:system",
        "rtn",
        "x" * 300,
    ]
)
ODD = JSON | NAMES | st.sampled_from([2**31, 2**63, -1, 0, [2**31, 2**31], [0], [], {}])


class Case:
    """An artifact in a cache beside which there is a secret."""

    def __init__(self, model, folder):
        self.source = open_model(model)
        self.artifact = compress(self.source, INT4, 0, folder / "cache")
        self.directory = self.artifact.directory
        self.manifest = self.directory / "manifest.json"
        self.written = self.manifest.read_bytes()
        self.planned = plan(self.source, INT4)
        self.secrets = [folder / "cache" / "secret", self.directory.parent / "secret"]
        for secret in self.secrets:
            secret.write_text("nothing of yours")

    def values(self):
        """The manifest's values, to be changed."""
        values = msgspec.json.decode(self.written)
        del values[SEAL]
        return values

    def open(self, content):
        """The artifact, or None after it was set aside; what else was opened meanwhile is an error."""
        self.manifest.write_bytes(content)
        with pytest.MonkeyPatch.context() as patch:
            for module, name in ((io, "open"), (builtins, "open"), (os, "open")):
                patch.setattr(module, name, self._inside(getattr(module, name)))
            found = open_artifact(self.directory, self.source.config, self.planned)
        if found is None:
            (aside,) = self.directory.parent.glob("damaged-*")
            aside.rename(self.directory)
            self.manifest.write_bytes(self.written)
        return found

    def _inside(self, original):
        def opened(file, *arguments, **named):
            assert isinstance(file, int) or Path(os.path.normpath(file)).parent == self.directory
            return original(file, *arguments, **named)

        return opened


@pytest.fixture
def case(small_model, tmp_path):
    return Case(small_model(num_hidden_layers=1), tmp_path)


def resealed(values):
    """The values with a hash of their own; None for what JSON cannot hold."""
    try:
        return sealed(values)
    except (RecordError, OverflowError, UnicodeError):  # NaN, an integer beyond 64 bits, half a surrogate pair
        return None


@FUZZ
@given(content=st.binary(max_size=300))
def test_random_bytes(case, content):
    assert case.open(content) is None


@FUZZ
@given(values=st.dictionaries(st.text(max_size=8), JSON, max_size=5))
def test_random_tables_that_are_sealed(case, values):
    if (content := resealed({name: value for name, value in values.items() if name != "sha256"})) is not None:
        assert case.open(content) is None


@FUZZ
@given(random=st.data())
def test_any_value_changed_and_sealed_again(case, random):
    """What opens is the artifact that it was: only what it is told of besides (seconds, versions, notes) may differ."""
    values = changed = case.values()
    key = random.draw(st.sampled_from(sorted(values)))
    while isinstance(changed[key], dict | list) and changed[key] and random.draw(st.booleans()):
        changed, inner = changed[key], changed[key]
        key = random.draw(st.sampled_from(sorted(inner) if isinstance(inner, dict) else range(len(inner))))
    change = random.draw(st.sampled_from(["another value", "gone", "another name", "twice"]))
    if change == "another value":
        changed[key] = random.draw(ODD)
    elif change == "gone":
        del changed[key]
    elif isinstance(changed, list):
        changed.append(copy.deepcopy(changed[key]))
    else:
        name = random.draw(NAMES)
        changed[name] = changed.pop(key) if change == "another name" else copy.deepcopy(changed[key])
    if (content := resealed(values)) is None:
        return
    found, was = case.open(content), case.artifact.manifest
    if found is not None:
        now = found.manifest
        assert [replace(each, note="") for each in now.tensors] == [replace(each, note="") for each in was.tensors]
        assert (now.key, now.bf16_bytes, now.stored_bytes) == (was.key, was.bf16_bytes, was.stored_bytes)


def also_outside(case, values):
    """Another file, which is there and has that hash."""
    values["files"]["../secret"] = hashlib.sha256(case.secrets[1].read_bytes()).hexdigest()


def also_absolute(case, values):
    values["files"][str(case.secrets[0])] = hashlib.sha256(case.secrets[0].read_bytes()).hexdigest()


def linked(case, values):
    (case.directory / "tokenizer.json").unlink()
    (case.directory / "tokenizer.json").symlink_to(case.secrets[0])
    values["files"]["tokenizer.json"] = hashlib.sha256(case.secrets[0].read_bytes()).hexdigest()


def another_config(case, values):
    config = json.loads((case.directory / "config.json").read_text()) | {"rms_norm_eps": 1e-2}
    (case.directory / "config.json").write_text(json.dumps(config))
    values["files"]["config.json"] = hashlib.sha256((case.directory / "config.json").read_bytes()).hexdigest()


def no_config(case, values):
    del values["files"]["config.json"]


def no_weights(case, values):
    values["files"] = {"config.json": values["files"]["config.json"]}


def program_for_quantizer(case, values):
    """Were it made, it would run."""
    for tensor in values["tensors"]:
        tensor["quantizer"], tensor["parameters"] = "os:system", {"command": "false"}


def other_parameters(case, values):
    tensor = next(each for each in values["tensors"] if each["quantizer"])
    tensor["parameters"] = {**tensor["parameters"], "bits": 2}


def as_if_kept(case, values):
    next(each for each in values["tensors"] if each["quantizer"])["quantizer"] = None


def no_arrays(case, values):
    values["tensors"][0]["arrays"] = []


def arrays_of_another(case, values):
    values["tensors"][0]["arrays"] = values["tensors"][1]["arrays"]


def a_tensor_less(case, values):
    values["tensors"].pop()


def vast(case, values):
    values["tensors"][0]["shape"] = [2**31, 2**31]
    values["bf16_bytes"] = 2**63


def smaller_than_it_is(case, values):
    """It would pass for a better compression."""
    values["stored_bytes"] //= 2


def larger_before(case, values):
    values["bf16_bytes"] *= 2


def of_another_key(case, values):
    values["key"] = "0" * 32


HOSTILE = (
    also_outside, also_absolute, linked, another_config, no_config, no_weights, program_for_quantizer,
    other_parameters, as_if_kept, no_arrays, arrays_of_another, a_tensor_less, vast, smaller_than_it_is, larger_before,
    of_another_key,
)  # fmt: skip


@pytest.mark.parametrize("change", HOSTILE)
def test_what_was_changed_on_purpose_and_sealed_again_is_set_aside(case, change):
    values = case.values()
    change(case, values)
    assert case.open(sealed(values)) is None


def test_files_that_nobody_named_are_not_read(case):
    (case.directory / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    (case.directory / "tokenizer.py").write_text("raise SystemExit")
    (case.directory / "model-00009-of-00009.safetensors").symlink_to(case.secrets[0])
    assert case.open(case.written).manifest == case.artifact.manifest
