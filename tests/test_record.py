import json
import math
import os
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import get_args, get_type_hints

import msgspec
import numpy as np
import pytest

from pytest_quantbench.errors import DiskError, RecordError
from pytest_quantbench.record import SCHEMA, Perplexity, Record, read
from pytest_quantbench.storage import sealed, write_atomically
from pytest_quantbench.verdict import Interval


def recorded(kind):
    """A dataclass and all that its fields hold, at any depth."""
    yield kind
    for hint in get_type_hints(kind).values():
        for inner in (hint, *get_args(hint)):
            if is_dataclass(inner):
                yield from recorded(inner)


RECORDED = sorted(set(recorded(Record)), key=lambda kind: kind.__name__)


def make(**changes):
    fields = {
        "schema": SCHEMA,
        "model_id": "Tiny",
        "bits": 4,
        "timestamp": "2026-01-01T00:00:00+00:00",
        "recipe": "int4",
        "level": "int4",
        "source": "embedded",
        "revision": None,
        "source_sha256": "aa",
        "weights_sha256": None,
        "seed": 0,
    }
    return Record(**(fields | changes))


def perplexity(**changes):
    fields = {
        "ppl": 4.0,
        "bf16_ppl": 3.5,
        "delta": 0.5,
        "delta_interval": Interval(estimate=0.5, low=0.4, high=0.6),
        "nll_nats": 1.386,
        "nll_difference_nats": None,
        "ratio": None,
        "bits_per_byte": 0.5,
        "tokens": 512,
        "block_tokens": 64,
        "protocol": "p",
        "protocol_sha256": "p on c",
        "corpus_revision": None,
        "corpus": "c",
        "corpus_sha256": "h",
    }
    return Perplexity(**(fields | changes))


def test_a_record_survives_the_file(tmp_path):
    record = make(perplexity=perplexity())
    write_atomically(tmp_path / "r.json", sealed(record))
    assert read(tmp_path / "r.json") == record


def test_the_names_that_other_tools_read():
    written = json.loads(sealed(make(perplexity=perplexity())))
    assert {"model_id", "bits", "timestamp", "compression", "throughput", "perplexity", "accuracy"} <= written.keys()
    assert {"ppl", "bf16_ppl", "delta"} <= written["perplexity"].keys()


@pytest.mark.parametrize("kind", RECORDED, ids=lambda kind: kind.__name__)
def test_every_field_is_documented(kind):
    text = (Path(__file__).parent.parent / "docs" / "results.md").read_text()
    section = text.partition("## The fields")[2]
    missing = [each.name for each in fields(kind) if f"`{each.name}`" not in section]
    assert not missing, f"docs/results.md says nothing of {missing}"


@pytest.mark.parametrize(
    ("recipe", "stem"),
    [("int4", "Tiny_4bit"), ("int4-gptq", "Tiny_4bit_gptq"), ("int4-my.module:Class", "Tiny_4bit_my.module.Class")],
)
def test_file_names_say_model_width_and_method(recipe, stem):
    assert make(recipe=recipe).file_stem == stem


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_that_json_cannot_hold_are_refused_by_name(value):
    with pytest.raises(RecordError, match=r"\$\.perplexity\.nll_nats"):
        sealed(make(perplexity=perplexity(nll_nats=value)))


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[]", b'{"schema": 1}'])
def test_a_broken_record_is_named(tmp_path, content):
    path = tmp_path / "broken.json"
    path.write_bytes(content)
    with pytest.raises(RecordError, match=r"broken\.json"):
        read(path)


@pytest.mark.parametrize("seed", range(200))
def test_a_flipped_byte_or_a_cut_is_found_or_changes_nothing(tmp_path, seed):
    record, rng = make(perplexity=perplexity()), np.random.default_rng(seed)
    content = bytearray(sealed(record))
    if seed % 5:
        content[rng.integers(len(content))] ^= int(rng.integers(1, 256))
    else:
        del content[rng.integers(len(content)) :]
    (tmp_path / "r.json").write_bytes(content)
    try:
        found = read(tmp_path / "r.json")
    except RecordError:
        return
    assert found == record  # a space for a line's end


def test_a_number_changed_by_hand_is_found(tmp_path):
    content = sealed(make(perplexity=perplexity()))
    (tmp_path / "r.json").write_bytes(content.replace(b'"bits": 4', b'"bits": 2'))
    with pytest.raises(RecordError, match="its hash is of other values: it was changed or damaged"):
        read(tmp_path / "r.json")


def test_a_record_without_a_hash_is_refused(tmp_path):
    (tmp_path / "r.json").write_bytes(msgspec.json.encode(make(perplexity=perplexity())))
    with pytest.raises(RecordError, match="it has no hash"):
        read(tmp_path / "r.json")


def test_another_schema_is_named(tmp_path):
    path = tmp_path / "old.json"
    path.write_bytes(sealed(make(schema=99)))
    with pytest.raises(RecordError, match="schema 99"):
        read(path)


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = tmp_path / "r.json"
    path.write_bytes(b"old")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskError, match="No space left"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["r.json"]
