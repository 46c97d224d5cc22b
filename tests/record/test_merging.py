"""Shards put together: parts of a cell, what was measured twice, other weights, damaged files."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from generated_suite import MACHINE, cells

from pytest_quantbench.errors import ComparisonError, DiskError
from pytest_quantbench.record import folder
from pytest_quantbench.record.merging import merge
from pytest_quantbench.record.schema import read

OLD, NEW = "2026-01-01T00:00:00+00:00", "2026-01-02T00:00:00+00:00"
TORCH = replace(MACHINE, engine="torch")


@pytest.fixture(scope="module")
def suite():
    return {record.recipe: (record, arrays) for record, arrays in cells(models=1, recipes=("int4", "int2"))}


def shard(directory, cell, *parts, timestamp=OLD, **changes):
    """A results folder with these parts of one cell."""
    record, arrays = cell
    others = {name: None for name in folder.PARTS if name not in parts}
    checks = {"perplexity": "perplexity_delta", "accuracy": "accuracy_drop_points", "throughput": "throughput_ratio"}
    metrics = {"size_reduction_percent", *(checks[part] for part in parts if part in checks)}
    verdicts = tuple(each for each in record.verdicts if each.metric in metrics)
    kept = {name: array for name, array in arrays.items() if name.partition("/")[0] in parts}
    made = replace(record, **others, timestamp=timestamp, verdicts=verdicts, **changes)
    folder.save(made, kept, directory)
    return directory


def content(directory):
    """Every file but the report, to the byte."""
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.suffix in (".json", ".npz")}


def test_cells_of_different_folders_stand_side_by_side(tmp_path, suite):
    one, two = (shard(tmp_path / name, suite[name], "perplexity") for name in ("int4", "int2"))
    found = merge([one, two], tmp_path / "all")
    assert (found.notes, found.lost) == ([], [])
    assert {record.recipe for record in folder.read_all(tmp_path / "all")} == {"int4", "int2"}
    for source in (one, two):
        for name, raw in content(source).items():
            assert (tmp_path / "all" / name).read_bytes() == raw or name.endswith(".npz")


def test_parts_of_one_cell_become_one_record_whatever_the_order(tmp_path, suite):
    parts = (("perplexity", "weights"), ("accuracy",), ("throughput",))
    shards = [
        shard(tmp_path / each[0], suite["int4"], *each, timestamp=f"2026-01-0{day}T00:00:00+00:00", session=f"s{day}")
        for day, each in enumerate(parts, 1)
    ]
    outputs = []
    for number, order in enumerate(itertools.permutations(shards)):
        output = tmp_path / f"all{number}"
        assert merge(order, output).lost == []
        outputs.append(content(output))
    assert all(each == outputs[0] for each in outputs)
    (path,) = (tmp_path / "all0").glob("*.json")
    record, whole = read(path), suite["int4"][0]
    for part in ("perplexity", "weights", "accuracy", "throughput"):
        assert getattr(record, part) == getattr(whole, part)
    assert set(record.verdicts) == set(whole.verdicts)
    arrays = folder.read_arrays(record, tmp_path / "all0")
    assert all(np.array_equal(arrays[name], each) for name, each in suite["int4"][1].items())


def test_of_a_part_that_was_measured_twice_the_newest_is_taken_and_that_is_said(tmp_path, suite):
    other = replace(suite["int4"][0].perplexity, ppl=99.0)
    old = shard(tmp_path / "old", suite["int4"], "perplexity", "accuracy")
    new = shard(tmp_path / "new", suite["int4"], "perplexity", timestamp=NEW)
    record, arrays = suite["int4"]
    folder.save(replace(read(next(new.glob("*.json"))), perplexity=other), arrays, new)
    for number, order in enumerate(([old, new], [new, old])):
        found = merge(order, tmp_path / f"all{number}")
        assert found.notes == [f"{record.file_stem}: perplexity measured more than once; the newest was taken."]
        merged = read(found.written[0])
        assert (merged.perplexity.ppl, merged.accuracy) == (99.0, record.accuracy)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"weights_sha256": "bb"}, "different evaluated weights"),
        ({"source_sha256": "bb"}, "different originals"),
        ({"seed": 1}, "different seeds"),
    ],
)
def test_other_weights_are_an_error_that_names_both_and_nothing_is_written(tmp_path, suite, changes, told):
    one = shard(tmp_path / "one", suite["int4"], "perplexity")
    two = shard(tmp_path / "two", suite["int4"], "accuracy", **changes)
    messages = set()
    for order in ([one, two], [two, one]):
        with pytest.raises(ComparisonError, match=told) as raised:
            merge(order, tmp_path / "all")
        messages.add(str(raised.value))
    (message,) = messages
    assert str(one) in message
    assert str(two) in message
    assert not list((tmp_path / "all").glob("*"))


def test_of_weights_that_two_engines_compressed_the_engines_are_named(tmp_path, suite):
    record, _ = suite["int4"]
    other = replace(record.compression, artifact="bb")
    one = shard(tmp_path / "one", suite["int4"], "perplexity")
    two = shard(tmp_path / "two", suite["int4"], "accuracy", timestamp=NEW, machine=TORCH, compression=other)
    told = "different compressed weights .*, made by (MLX|PyTorch) on cuda and by (PyTorch|MLX) on cuda"
    with pytest.raises(ComparisonError, match=told):
        merge([one, two], tmp_path / "all")
    same = shard(tmp_path / "same", suite["int4"], "accuracy", timestamp=NEW, compression=other)
    with pytest.raises(ComparisonError, match=r"different compressed weights \([^)]*\)\. Merge"):
        merge([one, same], tmp_path / "all")


def test_another_machines_parts_are_not_mixed_in_and_what_is_lost_is_said(tmp_path, suite):
    one = shard(tmp_path / "one", suite["int4"], "perplexity", "accuracy")
    elsewhere = replace(MACHINE, chip="B Chip")
    two = shard(tmp_path / "two", suite["int4"], "perplexity", timestamp=NEW, machine=elsewhere)
    found = merge([one, two], tmp_path / "all")
    assert "was measured on another machine" in found.lost[0]
    assert "its accuracy is lost" in found.lost[0]
    assert read(found.written[0]).accuracy is None
    torch = shard(tmp_path / "torch", suite["int4"], "perplexity", timestamp=NEW, machine=TORCH)
    assert "was measured by another engine (MLX on cuda) than" in merge([one, torch], tmp_path / "engines").lost[0]
    three = shard(tmp_path / "three", suite["int4"], "perplexity", timestamp=OLD)
    found = merge([two, three], tmp_path / "both")
    assert found.lost == []  # the newest has all that it had
    assert "was measured on another machine" in found.notes[0]


def test_damaged_files_are_named_and_left_out(tmp_path, suite):
    one = shard(tmp_path / "one", suite["int4"], "perplexity")
    two = shard(tmp_path / "two", suite["int2"], "perplexity")
    three = shard(tmp_path / "three", suite["bf16"], "perplexity")
    (damaged,), (raw,) = one.glob("*.json"), two.glob("*.npz")
    damaged.write_text("{")
    raw.write_bytes(b"")
    found = merge([one, two, three], tmp_path / "all")
    assert len(found.lost) == 2
    assert str(damaged) in found.lost[0]
    assert str(raw) in found.lost[1]
    assert [path.stem for path in found.written] == [suite["bf16"][0].file_stem]


def test_what_cannot_be_merged_at_all_is_an_error(tmp_path, suite):
    one = shard(tmp_path / "one", suite["int4"], "perplexity")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DiskError, match="holds no records"):
        merge([one, tmp_path / "empty"], tmp_path / "all")
    with pytest.raises(DiskError, match=r"holds records already\. Give --output a new folder"):
        merge([one], one)
    for path in one.glob("*.json"):
        path.write_text("{")
    with pytest.raises(DiskError, match=r"Nothing of .*one can be taken\. .*4bit\.json is no record of this tool"):
        merge([one], tmp_path / "all")


def test_the_same_folder_twice_is_read_once(tmp_path, suite):
    one = shard(tmp_path / "one", suite["int4"], "perplexity")
    assert merge([one, tmp_path / "." / "one"], tmp_path / "all").notes == []


def shorter(cell, tokens, outcome):
    """The cell with the first tokens of its text, and a verdict on them."""
    record, arrays = cell
    cut = {name: each[:tokens] if name.startswith("perplexity/") else each for name, each in arrays.items()}
    text = replace(record.perplexity, tokens=tokens)
    verdicts = tuple(
        replace(each, outcome=outcome, items=tokens, sentence=f"{outcome} on {tokens} tokens")
        for each in record.verdicts
        if each.metric == "perplexity_delta"
    )
    return replace(record, perplexity=text, verdicts=verdicts), cut


@pytest.mark.parametrize("newest", [256, 1024])
def test_of_a_text_that_one_shard_read_for_longer_the_longer_one_is_taken_and_what_failed_stays_failed(
    tmp_path, suite, newest
):
    """The one on 1,024 tokens failed, the one on 256 passed."""
    times = {newest: NEW, 1024 + 256 - newest: OLD}
    folders = [
        shard(tmp_path / outcome, shorter(suite["int4"], tokens, outcome), "perplexity", timestamp=times[tokens])
        for tokens, outcome in ((1024, "fail"), (256, "pass"))
    ]
    for number, order in enumerate((folders, folders[::-1])):
        found = merge(order, tmp_path / f"all{number}")
        record = read(found.written[0])
        if newest == 256:
            assert record.perplexity.tokens == 1024
            assert found.notes == [f"{record.file_stem}: perplexity measured more than once; the longest was taken."]
        assert [each.sentence for each in record.verdicts] == ["fail on 1024 tokens"]
        assert found.lost == []


def test_a_failure_by_a_limit_that_was_changed_is_named(tmp_path, suite):
    record, arrays = shorter(suite["int4"], 1024, "fail")
    one = shard(tmp_path / "one", (record, arrays), "perplexity")
    passed = tuple(replace(each, outcome="pass", limit=99.0) for each in record.verdicts)
    two = shard(tmp_path / "two", (replace(record, verdicts=passed), arrays), "perplexity", timestamp=NEW)
    found = merge([one, two], tmp_path / "all")
    assert read(found.written[0]).verdicts[0].outcome == "pass"
    assert "judged otherwise later, and is not in the merged record: fail on 1024 tokens" in found.lost[0]


def test_what_keeps_two_records_apart_is_said(tmp_path, suite):
    one = shard(tmp_path / "one", suite["int2"], "perplexity")
    newer = replace(MACHINE, versions={"python": "3.12.0"})
    two = shard(tmp_path / "two", suite["int2"], "perplexity", timestamp=NEW, machine=newer)
    three = shard(tmp_path / "three", suite["int2"], "perplexity", timestamp=NEW, compression=None)
    told = [merge([one, each], tmp_path / f"all-{each.name}") for each in (two, three)]
    notes = [[*found.notes, *found.lost][0] for found in told]
    assert "was measured with other versions (python) than" in notes[0]
    assert "has another record of what was compressed than" in notes[1]
