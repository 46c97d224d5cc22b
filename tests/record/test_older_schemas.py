"""Records of older schemas: real ones of schemas 3 and 5, and values that are none."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
import terminal_text
from builders import make_record, make_throughput, make_verdict

from pytest_quantbench.errors import RecordError
from pytest_quantbench.record import folder, throughput_summary
from pytest_quantbench.record.completeness import missing
from pytest_quantbench.record.older_schemas import as_current
from pytest_quantbench.record.schema import SCHEMA, read
from pytest_quantbench.storage.sealed_json import sealed, unsealed

RECORDED = Path(__file__).parents[1] / "recorded"
OLD, LATER = RECORDED / "schema3_Tiny_4bit.json", RECORDED / "schema5_Tiny_4bit.json"
NEW_IN_8: dict[str, dict[str, Any]] = {
    "": {"cache": None, "retrieval": None, "sweep": None, "load": None},
    "perplexity": {"by_depth": []},
    "throughput": {
        "warm_up_runs": None,
        "warm_up_steady": None,
        "order_seed": None,
        "reference_first": None,
        "cpu_share": None,
        "reference_cpu_share": None,
        "processors_had": None,
        "gap": None,
        "gap_ratio": {},
        "joules_per_token": None,
        "reference_joules_per_token": None,
        "energy_of": "",
        "prompts": None,
        "prompts_sha256": "",
        "reserved_gb": None,
        "resident_gb": None,
        "resident_added_gb": None,
    },
}
NEW_IN_7: dict[str, dict[str, Any]] = {
    "machine": {"engine": "mlx", "activations": "float32", "judges_speed": False, "threads": None, "device": ""},
    "throughput": {
        "bytes_per_token": None,
        "read_gb_per_sec": None,
        "bound_tps": None,
        "bound_share": None,
        "reference_bound_share": None,
        "kernels": {},
        "step": "",
    },
}
NEW_IN_6: dict[str, dict[str, Any]] = {  # by part; without a part, of the record itself
    "": {"accelerator": None, "facts": None, "recipe_parameters": {}, "cost": None, "commands": []},
    "throughput": {
        "new_tokens": None,
        "gaps": None,
        "gap_sec": {},
        "first_token": None,
        "process_peak_gb": None,
        "process_peak_since": None,
    },
    "perplexity": {"ppl_interval": None},
    "weights": {"least_cosine": None, "least_cosine_tensor": None, "matrices": None},
}


@pytest.fixture
def old():
    return unsealed(OLD.read_bytes())


def test_a_record_of_schema_3_is_read_with_the_plans_meanings():
    written, record = json.loads(OLD.read_text()), read(OLD)
    assert (written["schema"], record.schema) == (3, SCHEMA)
    size = record.compression
    assert size.ratio == pytest.approx(size.compressed_gb / size.original_gb) == pytest.approx(0.2827, abs=1e-4)
    assert size.times_smaller == written["compression"]["ratio"] == pytest.approx(1 / size.ratio)
    assert (record.throughput.runs, record.throughput.total_runs) == (1, 5)
    assert record.throughput.ratio.estimate == written["throughput"]["ratio"]["estimate"]
    assert record.accuracy.delta == pytest.approx(-0.00375)
    assert record.accuracy.delta_points == written["accuracy"]["delta"] == pytest.approx(-0.375)
    told = {verdict.metric: (verdict.of, verdict.outcome) for verdict in record.verdicts}
    assert told["perplexity_delta"] == ("tiny-heldout", "pass")
    assert told["accuracy_drop_points"][0] == "tiny_facts"
    assert [verdict.outcome for verdict in record.verdicts] == [each["outcome"] for each in written["verdicts"]]


def test_a_report_is_made_of_old_and_new_records(tmp_path):
    (tmp_path / "Tiny_4bit.json").write_bytes(OLD.read_bytes())
    folder.save(make_record(level="int2", recipe="int2", bits=2), {}, tmp_path)
    records = folder.read_all(tmp_path)
    assert [record.schema for record in records] == [SCHEMA, SCHEMA]
    assert terminal_text.row(records[0]).startswith("int4 4.51 -71.7%✓ ")
    combined = folder.write_combined(records, tmp_path)
    assert {each["schema"] for each in json.loads(combined.read_text())["records"]} == {SCHEMA}


def test_a_cell_of_an_older_session_is_gone_on_with(tmp_path):
    """Its parts stay in the record that a session of this version writes, which is of this schema."""
    (tmp_path / "Tiny_4bit.json").write_bytes(OLD.read_bytes())
    before = read(OLD)
    empty = dict.fromkeys(("throughput", "perplexity", "accuracy", "coherence"))
    merged = read(folder.save(dataclasses.replace(before, **empty, verdicts=()), {}, tmp_path))
    assert merged.perplexity is None  # its raw samples are not there
    assert json.loads((tmp_path / "Tiny_4bit.json").read_text())["schema"] == SCHEMA


def test_a_ratio_beside_drift_was_no_ratio(old):
    old["throughput"] |= {"probe_drift": 1.69, "interleaved": False}
    new = as_current(old, SCHEMA)
    assert new["throughput"]["ratio"] is None
    assert new["throughput"]["ratio_suppressed"] == "the machine's own speed changed by +169% meanwhile"
    (speed,) = (verdict for verdict in new["verdicts"] if verdict["metric"] == "throughput_ratio")
    assert (speed["estimate"], speed["low"], speed["sentence"]) == (None, None, new["throughput"]["ratio_suppressed"])
    assert old["throughput"]["ratio"] is not None  # the values that were given stay as they are


@pytest.mark.parametrize("part", ["compression", "throughput", "perplexity", "accuracy"])
def test_parts_that_were_not_measured_stay_so(old, part):
    assert as_current(old | {part: None}, SCHEMA)[part] is None


@pytest.mark.parametrize("schema", [None, 0, 1, 2, 9, "3"])
def test_other_schemas_are_refused_by_number(old, schema):
    with pytest.raises(RecordError, match=rf"it has schema {schema}; this version reads 3, 4, 5, 6, 7 and {SCHEMA}"):
        as_current(old | {"schema": schema}, SCHEMA)


@pytest.mark.parametrize("broken", [{"compression": {"ratio": 3.5}}, {"throughput": 3}, {"accuracy": {"tasks": None}}])
def test_what_says_schema_3_and_is_not_of_it_is_no_record(old, broken, tmp_path):
    (tmp_path / "r.json").write_bytes(sealed(old | broken))
    with pytest.raises(RecordError, match=r"r\.json is no record of this tool: it says schema 3, and is not of it"):
        read(tmp_path / "r.json")


def test_a_record_of_schema_4_is_read_as_it_is(tmp_path):
    """Nothing of it has changed its meaning, and there were no candidates."""
    now = make_record(verdicts=(make_verdict("perplexity_delta", p_good=0.01, p_bad=0.99),))
    values = json.loads(sealed(now))
    before = {key: value for key, value in values.items() if key not in ("candidate", "sha256")} | {"schema": 4}
    for verdict in before["verdicts"]:
        del verdict["p_better"]
    (tmp_path / "old.json").write_bytes(sealed(before))
    assert read(tmp_path / "old.json") == now


def test_a_record_of_schema_5_is_read_as_it_is_and_what_came_later_is_null():
    written, record = json.loads(LATER.read_text()), json.loads(msgspec.json.encode(read(LATER)))
    assert (written["schema"], record["schema"]) == (5, SCHEMA)
    for part, fields in [*NEW_IN_6.items(), *NEW_IN_7.items(), *NEW_IN_8.items()]:
        of = record[part] if part else record
        assert {name: of.pop(name) for name in fields} == fields
    for task in record["accuracy"]["tasks"].values():
        assert task.pop("accuracy_interval") is None
    for verdict in record["verdicts"]:
        assert verdict.pop("baseline") == []
    del written["sha256"]
    assert record == written | {"schema": SCHEMA}


def test_what_a_record_of_schema_5_lacks_is_told():
    found = missing(read(LATER))
    assert found[0].startswith("Parameters and architecture of the model: `quantbench run -k Tiny-int4` writes them")
    assert any("Times between tokens" in sentence for sentence in found)
    assert not any("revision" in sentence for sentence in found)  # its weights are the package's own


def test_a_cell_of_schema_5_is_gone_on_with_and_gets_what_is_new(tmp_path):
    (tmp_path / "Tiny_4bit.json").write_bytes(LATER.read_bytes())
    before = read(LATER)
    timed = throughput_summary.throughput(make_throughput([[2.0], [4.0]]), None)
    after = read(folder.save(dataclasses.replace(before, throughput=timed), {}, tmp_path))
    assert after.throughput.gap_sec["50"].estimate == 0.0
    assert after.perplexity == before.perplexity
