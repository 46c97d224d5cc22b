import dataclasses
import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from builders import make_perplexity, make_record

from pytest_quantbench.errors import DiskError
from pytest_quantbench.judge.coherence import Coherence
from pytest_quantbench.judge.verdict import Verdict
from pytest_quantbench.record import folder
from pytest_quantbench.record.schema import SCHEMA, Accuracy, Compression, NoiseFloor, TaskAccuracy, read
from pytest_quantbench.report import figures, markdown, terminal
from pytest_quantbench.storage.sealed import sealed


def verdict(metric, outcome="pass", estimate=1.0):
    return Verdict(
        metric=metric,
        outcome=outcome,
        limit=2.0,
        estimate=estimate,
        low=0.5,
        high=1.5,
        confidence=0.9,
        sentence="It is so.",
    )


def test_a_part_measured_yesterday_is_kept(tmp_path):
    first = make_record(perplexity=make_perplexity(), verdicts=(verdict("perplexity_delta"),))
    folder.save(first, {"perplexity/nll_nats": np.ones(3)}, tmp_path)
    second = make_record(verdicts=(verdict("size_reduction_percent"),), timestamp="later")
    path = folder.save(second, {}, tmp_path)
    merged = read(path)
    assert merged.perplexity == first.perplexity
    assert {v.metric for v in merged.verdicts} == {"perplexity_delta", "size_reduction_percent"}
    assert merged.timestamp == "later"
    assert np.load(path.with_suffix(".npz"))["perplexity/nll_nats"].shape == (3,)


def test_a_new_verdict_replaces_the_old_one(tmp_path):
    folder.save(make_record(verdicts=(verdict("perplexity_delta", "fail"),)), {}, tmp_path)
    path = folder.save(make_record(verdicts=(verdict("perplexity_delta", "pass"),)), {}, tmp_path)
    assert [v.outcome for v in read(path).verdicts] == ["pass"]


def test_verdicts_by_several_limits_stay_beside_each_other(tmp_path):
    """Of one worker or session the strict gate, of another the cell's own criterion: a failure is not covered up."""
    samples = {"perplexity/nll_nats": np.ones(3)}
    strict = dataclasses.replace(verdict("perplexity_delta", "fail"), limit=1e-4, given=True, of="c")
    own = dataclasses.replace(verdict("perplexity_delta"), of="c")
    lax = dataclasses.replace(verdict("perplexity_delta"), limit=9.0, given=True, of="c")
    for each in (strict, own, lax, own):
        path = folder.save(make_record(perplexity=make_perplexity(), verdicts=(each,)), samples, tmp_path)
    record = read(path)
    assert [(v.limit, v.outcome) for v in record.verdicts] == [(2.0, "pass"), (1e-4, "fail"), (9.0, "pass")]
    assert figures.mark(record, "perplexity_delta") == "✗"
    text = markdown.markdown([record], ["c"])
    assert "| *limit* | < 2, < 0.0001, < 9 |" in text
    assert "| Tiny-int4 | perplexity delta vs BF16, c | < 0.0001 | fail |" in text
    assert "| Tiny-int4 | perplexity delta vs BF16, c | < 2 | pass |" in text
    moved = dataclasses.replace(own, limit=3.0)  # the criterion itself was changed: it is still one
    again = read(folder.save(make_record(perplexity=make_perplexity(), verdicts=(moved,)), samples, tmp_path))
    assert [v.limit for v in again.verdicts] == [3.0, 1e-4, 9.0]
    later = make_record(
        perplexity=make_perplexity(), verdicts=(), session="the next one"
    )  # its tests give no limits any more
    assert [v.limit for v in read(folder.save(later, samples, tmp_path)).verdicts] == [3.0]


def test_what_a_later_session_did_not_measure_is_kept(tmp_path):
    told = {"prefix": ("<s>",), "suffix_left_out": ()}
    folder.save(
        make_record(perplexity=make_perplexity(), tokenizer=told, integrity=("odd",)),
        {"perplexity/x": np.ones(1)},
        tmp_path,
    )
    kept = read(folder.save(make_record(), {}, tmp_path))
    assert (kept.tokenizer, kept.integrity) == (told, ("odd",))


def test_a_line_shows_the_figures_of_the_look_that_decided():
    """The reference was read further for another cell; the verdict is of the first 2,048 tokens."""
    seen = dataclasses.replace(verdict("perplexity_delta"), value=3.476, reference_value=3.471, items=2048)
    record = make_record(perplexity=make_perplexity(tokens=8192, ppl=3.539, bf16_ppl=3.529), verdicts=(seen,))
    line = terminal.terminal_line(record)
    assert "3.476 against 3.471 (2,048 tokens), Δ +1.000 [+0.500, +1.500] ✓" in line
    assert "3.539" not in line
    assert "8,192" not in line
    old = dataclasses.replace(seen, value=None, reference_value=None)
    line = terminal.terminal_line(dataclasses.replace(record, verdicts=(old,)))
    assert "3.539 against 3.529 (8,192 tokens), Δ +1.000 [+0.500, +1.500] (of 2,048) ✓" in line


@pytest.mark.parametrize("change", [{"source_sha256": "bb"}, {"seed": 1}, {"weights_sha256": "other"}])
def test_parts_of_other_weights_are_not_kept(tmp_path, change):
    folder.save(make_record(perplexity=make_perplexity(), weights_sha256="w"), {}, tmp_path)
    assert read(folder.save(make_record(**change), {}, tmp_path)).perplexity is None


def test_a_damaged_record_is_replaced(tmp_path):
    (tmp_path / "Tiny_4bit.json").write_text("{")
    assert dataclasses.replace(read(folder.save(make_record(), {}, tmp_path)), raw_sha256=None) == make_record()


def test_all_records_come_in_the_catalogues_order(tmp_path):
    for model, level, bits in (("Qwen3-8B", "int4", 4), ("Tiny", "int2", 2), ("Tiny", "bf16", 16), ("mine", "int4", 4)):
        folder.save(make_record(model_id=model, level=level, recipe=level, bits=bits), {}, tmp_path)
    folder.write_combined(folder.read_all(tmp_path), tmp_path)
    found = [(record.model_id, record.level) for record in folder.read_all(tmp_path)]
    assert found == [("Tiny", "bf16"), ("Tiny", "int2"), ("Qwen3-8B", "int4"), ("mine", "int4")]
    combined = json.loads((tmp_path / "combined.json").read_text())
    assert [record["model_id"] for record in combined["records"]] == ["Tiny", "Tiny", "Qwen3-8B", "mine"]


def test_a_folder_without_records_is_named_and_what_is_no_record_left_out(tmp_path, caplog):
    (tmp_path / "x.json").write_text("nonsense")
    with pytest.raises(DiskError, match="holds no records"):
        folder.read_all(tmp_path)
    folder.save(make_record(), {}, tmp_path)
    old = json.loads((tmp_path / "Tiny_4bit.json").read_text())
    (tmp_path / "old.json").write_bytes(
        sealed({name: value for name, value in old.items() if name != "sha256"} | {"schema": 1})
    )
    assert [dataclasses.replace(record, raw_sha256=None) for record in folder.read_all(tmp_path)] == [make_record()]
    assert "x.json is no record of this tool" in caplog.text
    assert f"it has schema 1; this version reads 3 and {SCHEMA}" in caplog.text


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DiskError, match="--results"):
        folder.check_writable(tmp_path / "file")
    folder.check_writable(tmp_path / "new")
    assert list((tmp_path / "new").iterdir()) == []


def test_missing_figures_are_a_dash_and_never_a_guess():
    line = terminal.terminal_line(make_record())
    assert line == "Tiny-int4"
    text = markdown.markdown([make_record()], "pytest benches")
    assert "| Tiny | – |" in text
    assert "nan" not in text.lower()


def test_the_report_has_all_tables_with_a_column_per_level():
    records = [
        make_record(level=level, recipe=level, bits=bits) for level, bits in (("int4", 4), ("int2", 2), ("bf16", 16))
    ]
    text = markdown.markdown(records, ["pytest benches -k Tiny"])
    assert text.count("| model | BF16 | INT4 | INT2 |") == len(figures.TABLES)
    assert "    pytest benches -k Tiny" in text


def test_what_was_encoded_otherwise_is_named_where_it_is_of_few():
    notes = {"a.up_proj.weight": "expert 3", "a.gate_proj.weight": "expert 3", "b.up_proj.weight": "expert 7"}
    notes |= {f"c{k}.weight": "group 32" for k in range(5)}
    sizes = {"original_gb": 4.0, "compressed_gb": 1.0, "ratio": 0.25, "times_smaller": 4.0}
    sizes |= {"time_sec": 1.0, "quantized_fraction": 1.0}
    bits = dict.fromkeys(("bits_per_weight", "inner_bits_per_weight", "outer_bits_per_weight"), 4.0)
    part = Compression(**sizes, **bits, notes=notes)
    lines = markdown.markdown([make_record(compression=part)], ["c"]).splitlines()
    assert "  - `a.up_proj.weight` and `a.gate_proj.weight`: expert 3" in lines
    assert "  - `b.up_proj.weight`: expert 7" in lines
    assert "  - 5 matrices: group 32" in lines


def test_limits_are_those_that_were_judged_by():
    record = make_record(perplexity=make_perplexity(), verdicts=(verdict("perplexity_delta", "undecided"),))
    text = markdown.markdown([record], ["c"])
    assert "| *limit* | < 2 |" in text
    assert "| Tiny | 4.000 against 3.500 (512 tokens), Δ +1.000 [+0.500, +1.500] ? |" in text
    assert "- Tiny-int4 undecided: It is so." in text


def test_what_would_settle_it_is_said():
    told = terminal.explain(dataclasses.replace(verdict("perplexity_delta", "undecided"), needed="more tokens would"))
    assert told == "It is so. More tokens would."


def test_a_verdict_does_not_outlive_the_samples_that_it_is_of(tmp_path):
    """T2 measured anew without a verdict (its limit was refused, say): yesterday's is of other tokens."""
    yesterday = (verdict("perplexity_delta"), verdict("size_reduction_percent"), verdict("accuracy_drop_points"))
    folder.save(make_record(perplexity=make_perplexity(), verdicts=yesterday), {}, tmp_path)
    merged = read(folder.save(make_record(perplexity=make_perplexity(ppl=4.1), verdicts=()), {}, tmp_path))
    assert [each.metric for each in merged.verdicts] == ["size_reduction_percent"]


def test_a_verdict_stays_where_the_same_samples_were_measured_again(tmp_path):
    """By another worker, say, which had to compare with them; it does not where only the figures are the same."""
    samples = {"perplexity/nll_nats": np.ones(3)}
    judged = make_record(perplexity=make_perplexity(), verdicts=(verdict("perplexity_delta"),))
    folder.save(judged, samples, tmp_path)
    merged = read(
        folder.save(
            make_record(perplexity=make_perplexity(), verdicts=(verdict("size_reduction_percent"),)), samples, tmp_path
        )
    )
    assert [each.metric for each in merged.verdicts] == ["size_reduction_percent", "perplexity_delta"]
    merged = read(
        folder.save(make_record(perplexity=make_perplexity()), {"perplexity/nll_nats": np.zeros(3)}, tmp_path)
    )
    assert [each.metric for each in merged.verdicts] == ["size_reduction_percent"]


def test_two_workers_that_write_a_cell_at_once_lose_nothing(tmp_path):
    parts = [{"perplexity": make_perplexity()}, {"verdicts": (verdict("size_reduction_percent"),)}] * 8
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda part: folder.save(make_record(**part), {}, tmp_path), parts))
    found = read(tmp_path / "Tiny_4bit.json")
    assert (found.perplexity, len(found.verdicts)) == (make_perplexity(), 1)


def test_coherence_and_noise_floor_are_completed_field_by_field(tmp_path):
    def coherence(**known):
        nothing = dict.fromkeys(each.name for each in dataclasses.fields(Coherence))
        return Coherence(**(nothing | known))

    folder.save(
        make_record(
            coherence=coherence(prompts=5, looping=5, only_here=5, loops=True),
            noise_floor=NoiseFloor(perplexity_points=0.1, kl_nats=0.01, drop_points=None, flipped_points=None),
        ),
        {},
        tmp_path,
    )
    later = NoiseFloor(perplexity_points=None, kl_nats=None, drop_points=0.5, flipped_points=1.0)
    merged = read(folder.save(make_record(coherence=coherence(guesses=False), noise_floor=later), {}, tmp_path))
    assert (merged.coherence.loops, merged.coherence.guesses, merged.coherence.collapsed) == (True, False, True)
    assert (merged.noise_floor.perplexity_points, merged.noise_floor.flipped_points) == (0.1, 1.0)


def test_the_interval_that_decided_is_shown():
    record = make_record(perplexity=make_perplexity(), verdicts=(verdict("perplexity_delta"),))
    assert "Δ +1.000 [+0.500, +1.500] ✓" in terminal.terminal_line(record)
    informational = dataclasses.replace(verdict("perplexity_delta", "informational"), limit=None)
    assert "Δ +0.500 [+0.400, +0.600] ·" in terminal.terminal_line(
        make_record(perplexity=make_perplexity(), verdicts=(informational,))
    )


def test_tasks_that_hardly_see_quantization_are_called_so():
    task = TaskAccuracy(
        accuracy=0.7,
        questions=200,
        chance=0.25,
        accuracy_raw=0.7,
        version="1",
        sha256="h",
        questions_for_one_point=3711,
    )
    both = {"combined": 0.7, "bf16_combined": 0.7, "delta": 0.0}
    accuracy = Accuracy(arc_easy=0.7, hellaswag=None, **both, tasks={"arc_easy": task})
    text = markdown.markdown([make_record(accuracy=accuracy)], ["c"])
    assert "insensitive to quantization (multiple choice): arc_easy." in text
    assert "Tiny-int4, arc_easy: 200 questions asked, 3,711 would tell a drop of 1 point" in text
    assert "What the tasks can see" not in markdown.markdown([make_record()], ["c"])


@pytest.mark.parametrize("content", [b"", b"PK", b"nonsense", None])
def test_raw_samples_that_cannot_be_read_are_lost_and_nothing_else(tmp_path, content):
    """What they belonged to is measured again: a record beside samples that are not its own would be worse."""
    folder.save(make_record(perplexity=make_perplexity()), {"perplexity/nll_nats": np.ones(3)}, tmp_path)
    raw = tmp_path / "Tiny_4bit.npz"
    whole = raw.read_bytes()
    raw.write_bytes(whole[: len(whole) // 2] if content is None else content)
    folder.save(make_record(), {"accuracy/t/gold": np.zeros(2)}, tmp_path)
    assert read(tmp_path / "Tiny_4bit.json").perplexity is None
    with np.load(raw) as arrays:
        assert arrays.files == ["accuracy/t/gold"]


def test_a_cell_that_read_another_text_than_its_reference_is_marked():
    reference = make_record(level="bf16", recipe="bf16", bits=16, perplexity=make_perplexity(bf16_ppl=None, delta=None))
    same = make_record(perplexity=make_perplexity())
    other = make_record(perplexity=make_perplexity(protocol_sha256="another"))
    assert "†" not in markdown.markdown([reference, same], ["c"])
    text = markdown.markdown([reference, other], ["c"])
    assert "(512 tokens), Δ +0.500 [+0.400, +0.600] † |" in text
    assert "†: read from another text or in other windows than the BF16 column" in text


def test_tasks_that_are_not_judged_have_a_table():
    task = TaskAccuracy(accuracy=0.5, questions=10, chance=0.25, accuracy_raw=0.5, version="1", sha256="h")
    tasks = {"arc_easy": task, "hellaswag": task}
    accuracy = Accuracy(arc_easy=0.5, hellaswag=0.5, combined=0.5, bf16_combined=None, delta=None, tasks=tasks)
    text = markdown.markdown([make_record(accuracy=accuracy)], ["c"])
    assert "| Tiny | arc_easy 50.0% (10) |" in text
    assert "| Tiny | hellaswag 50.0% (10) |" in text
