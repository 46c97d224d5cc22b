import json
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import get_args, get_type_hints

import numpy as np
import pytest
from builders import make_perplexity, make_record

from pytest_quantbench.errors import RecordError
from pytest_quantbench.record.schema import Record, read
from pytest_quantbench.storage.files import write_atomically
from pytest_quantbench.storage.sealed_json import sealed


def recorded(kind):
    """A dataclass and all that its fields hold, at any depth."""
    yield kind
    for hint in get_type_hints(kind).values():
        for inner in (hint, *get_args(hint)):
            if is_dataclass(inner):
                yield from recorded(inner)


RECORDED = sorted(set(recorded(Record)), key=lambda kind: kind.__name__)


def test_a_record_survives_the_file(tmp_path):
    record = make_record(perplexity=make_perplexity())
    write_atomically(tmp_path / "r.json", sealed(record))
    assert read(tmp_path / "r.json") == record


def test_the_names_that_other_tools_read():
    written = json.loads(sealed(make_record(perplexity=make_perplexity())))
    assert {"model_id", "bits", "timestamp", "compression", "throughput", "perplexity", "accuracy"} <= written.keys()
    assert {"ppl", "bf16_ppl", "delta"} <= written["perplexity"].keys()


@pytest.mark.parametrize("kind", RECORDED, ids=lambda kind: kind.__name__)
def test_every_field_is_documented(kind):
    text = (Path(__file__).parents[2] / "docs" / "results.md").read_text()
    section = text.partition("## The fields")[2]
    missing = [each.name for each in fields(kind) if f"`{each.name}`" not in section]
    assert not missing, f"docs/results.md says nothing of {missing}"


@pytest.mark.parametrize(
    ("recipe", "stem"),
    [
        ("int4", "Tiny_4bit"),
        ("int4-gptq", "Tiny_4bit_gptq"),
        ("int4-my.module:Class", "Tiny_4bit_my.module.Class"),
        ("gptq", "Tiny_candidate_gptq"),  # a candidate: no file of a recipe's is called so
        ("kv8", "Tiny_16bit_kv8"),
        ("kv4-rot", "Tiny_16bit_kv4-rot"),
        ("kv4-my.module:Class", "Tiny_16bit_kv4-my.module.Class"),
        ("int4+kv8", "Tiny_4bit+kv8"),
        ("int4-gptq+kv4-my.module:Class", "Tiny_4bit_gptq+kv4-my.module.Class"),
        ("int4-kv8", "Tiny_4bit_kv8"),  # a method that is called as a recipe of the cache
        ("Q4-K-M.v2", "Tiny_candidate_Q4-K-M.v2"),
    ],
)
def test_file_names_say_model_width_and_method(recipe, stem):
    bits = 16 if recipe.startswith("kv") else 4
    assert make_record(recipe=recipe, bits=bits).file_stem == stem


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[]", b'{"schema": 1}'])
def test_a_broken_record_is_named(tmp_path, content):
    path = tmp_path / "broken.json"
    path.write_bytes(content)
    with pytest.raises(RecordError, match=r"broken\.json"):
        read(path)


@pytest.mark.parametrize("seed", range(200))
def test_a_flipped_byte_or_a_cut_is_found_or_changes_nothing(tmp_path, seed):
    record, rng = make_record(perplexity=make_perplexity()), np.random.default_rng(seed)
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


def test_another_schema_is_named(tmp_path):
    path = tmp_path / "old.json"
    path.write_bytes(sealed(make_record(schema=99)))
    with pytest.raises(RecordError, match="schema 99"):
        read(path)
