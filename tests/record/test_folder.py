import dataclasses
import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from builders import make_perplexity, make_record, make_throughput, make_verdict

from pytest_quantbench.engines.accelerator import Accelerator
from pytest_quantbench.errors import DiskError
from pytest_quantbench.judge.coherence import Coherence
from pytest_quantbench.record import folder, throughput_summary
from pytest_quantbench.record.publication_schema import Cost
from pytest_quantbench.record.raw import as_bytes, texts_of
from pytest_quantbench.record.schema import SCHEMA, NoiseFloor, read
from pytest_quantbench.report import markdown, tables
from pytest_quantbench.storage.sealed_json import sealed


def test_a_part_measured_yesterday_is_kept(tmp_path):
    first = make_record(perplexity=make_perplexity(), verdicts=(make_verdict("perplexity_delta"),))
    folder.save(first, {"perplexity/nll_nats": np.ones(3)}, tmp_path)
    second = make_record(verdicts=(make_verdict("size_reduction_percent"),), timestamp="later")
    path = folder.save(second, {}, tmp_path)
    merged = read(path)
    assert merged.perplexity == first.perplexity
    assert {v.metric for v in merged.verdicts} == {"perplexity_delta", "size_reduction_percent"}
    assert merged.timestamp == "later"
    assert np.load(path.with_suffix(".npz"))["perplexity/nll_nats"].shape == (3,)


def test_a_record_tells_the_commands_of_all_its_parts(tmp_path):
    first = make_record(perplexity=make_perplexity(), commands=("pytest benches -m t2",))
    samples = {"perplexity/nll_nats": np.ones(3)}
    folder.save(first, samples, tmp_path)
    sizes = make_record(verdicts=(make_verdict("size_reduction_percent"),), commands=("pytest benches -m size",))
    for _ in range(2):  # again, it is told once
        both = read(folder.save(sizes, {}, tmp_path)).commands
        assert both == ("pytest benches -m t2", "pytest benches -m size")
    whole = dataclasses.replace(first, commands=("pytest benches",))  # nothing of the older ones is left
    assert read(folder.save(whole, samples, tmp_path)).commands == ("pytest benches",)


def test_a_new_verdict_replaces_the_old_one(tmp_path):
    folder.save(make_record(verdicts=(make_verdict("perplexity_delta", "fail"),)), {}, tmp_path)
    path = folder.save(make_record(verdicts=(make_verdict("perplexity_delta", "pass"),)), {}, tmp_path)
    assert [v.outcome for v in read(path).verdicts] == ["pass"]


def test_verdicts_by_several_limits_stay_beside_each_other(tmp_path):
    """Of one worker or session the strict gate, of another the cell's own criterion: a failure is not covered up."""
    samples = {"perplexity/nll_nats": np.ones(3)}
    strict = dataclasses.replace(make_verdict("perplexity_delta", "fail"), limit=1e-4, given=True, of="c")
    own = dataclasses.replace(make_verdict("perplexity_delta"), of="c")
    lax = dataclasses.replace(make_verdict("perplexity_delta"), limit=9.0, given=True, of="c")
    for each in (strict, own, lax, own):
        path = folder.save(make_record(perplexity=make_perplexity(), verdicts=(each,)), samples, tmp_path)
    record = read(path)
    assert [(v.limit, v.outcome) for v in record.verdicts] == [(2.0, "pass"), (1e-4, "fail"), (9.0, "pass")]
    assert tables.mark(record, "perplexity_delta") == "✗"
    text = markdown.markdown([record], ["c"])
    text = text.replace("\u00a0", " ")
    assert "| *limit* |  |  | < 2, < 0.0001, < 9 |" in text
    assert "| Tiny-int4 | perplexity on c | < 0.0001 | 1.000 [0.500, 1.500] | fail ✗ |" in text
    assert "| Tiny-int4 | perplexity on c | < 2 | 1.000 [0.500, 1.500] | pass ✓ |" in text
    moved = dataclasses.replace(own, limit=3.0)  # the criterion itself was changed: it is still one
    again = read(folder.save(make_record(perplexity=make_perplexity(), verdicts=(moved,)), samples, tmp_path))
    assert [v.limit for v in again.verdicts] == [3.0, 1e-4, 9.0]
    later = make_record(
        perplexity=make_perplexity(), verdicts=(), session="the next one"
    )  # its tests give no limits any more
    assert [v.limit for v in read(folder.save(later, samples, tmp_path)).verdicts] == [3.0]


def judged(limit, outcome, session="s", tokens=3, **more):
    """What a worker writes that judged T2 by a test's own limit, on the first so many of the text's tokens."""
    verdict = dataclasses.replace(make_verdict("perplexity_delta", outcome), limit=limit, given=True, of="c", **more)
    record = make_record(perplexity=make_perplexity(tokens=tokens), verdicts=(verdict,), session=session)
    return record, {"perplexity/nll_nats": np.arange(tokens), "perplexity/d.txt/nll_nats": np.arange(2)}


@pytest.mark.parametrize("longer_last", [True, False])
def test_of_workers_of_one_session_the_longer_samples_stay_and_both_verdicts(tmp_path, longer_last):
    """A gate that is undecided goes on with more samples than another one on the same cell, whoever writes last."""
    parts = [judged(9.0, "pass", tokens=3), judged(1e-4, "fail", tokens=6)]
    for record, arrays in parts if longer_last else reversed(parts):
        path = folder.save(record, arrays, tmp_path)
    found = read(path)
    assert [(verdict.limit, verdict.outcome) for verdict in found.verdicts] == [(1e-4, "fail"), (9.0, "pass")]
    assert found.perplexity.tokens == 6
    with np.load(path.with_suffix(".npz")) as arrays:
        assert arrays["perplexity/nll_nats"].tolist() == [0, 1, 2, 3, 4, 5]
    shorter, arrays = judged(5.0, "pass", session="the next one", tokens=3)
    again = read(folder.save(shorter, arrays, tmp_path))  # another session measured what it says, and no more
    assert (again.perplexity.tokens, [verdict.limit for verdict in again.verdicts]) == (3, [5.0])


def test_a_verdict_of_the_same_session_stays_whatever_its_samples_became(tmp_path):
    """One worker read another text on, say, and neither one's samples are the beginning of the other's."""
    record, arrays = judged(1e-4, "fail")
    folder.save(record, arrays, tmp_path)
    other, _ = judged(9.0, "pass", tokens=2)
    found = read(folder.save(other, {"perplexity/nll_nats": np.ones(2)}, tmp_path))
    assert [(verdict.limit, verdict.outcome) for verdict in found.verdicts] == [(1e-4, "fail"), (9.0, "pass")]


def test_longer_samples_are_known_by_their_texts_and_single_numbers(tmp_path):
    """Texts lie in bytes, which do not begin alike where there are more of them; a warm-up has one rate."""
    record, _ = judged(1e-4, "fail")

    def arrays(tokens):
        texts = as_bytes([f"text {number}" for number in range(tokens)])
        return {"perplexity/nll_nats": np.arange(tokens), "perplexity/texts": texts, "perplexity/one": np.array(3.5)}

    folder.save(record, arrays(6), tmp_path)
    path = folder.save(record, arrays(3), tmp_path)
    with np.load(path.with_suffix(".npz")) as found:
        assert len(found["perplexity/nll_nats"]) == 6
        assert len(texts_of(found["perplexity/texts"])) == 6


@pytest.mark.parametrize(("session", "kept"), [("s", ["fail"]), ("the next one", ["pass"])])
def test_what_failed_once_in_a_session_stays_failed(tmp_path, session, kept):
    """Of two workers that judged by one limit, and only one of which had time for a second look."""
    first, arrays = judged(1.0, "fail")
    folder.save(first, arrays, tmp_path)
    second, arrays = judged(1.0, "pass", session=session)
    found = read(folder.save(second, arrays, tmp_path))
    assert [verdict.outcome for verdict in found.verdicts] == kept


def test_what_a_later_session_did_not_measure_is_kept(tmp_path):
    told = {"prefix": ("<s>",), "suffix_left_out": ()}
    folder.save(
        make_record(perplexity=make_perplexity(), tokenizer=told, integrity=("odd",)),
        {"perplexity/x": np.ones(1)},
        tmp_path,
    )
    kept = read(folder.save(make_record(), {}, tmp_path))
    assert (kept.tokenizer, kept.integrity) == (told, ("odd",))


def test_samples_that_the_record_has_no_figures_of_are_kept_too(tmp_path):
    """Of a measure that was added, say: until it is measured anew, or the cell is another one."""

    def saved(arrays, **changes):
        path = folder.save(make_record(**changes), arrays, tmp_path)
        return dict(np.load(path.with_suffix(".npz")))

    saved({"hits/hits": np.ones(3), "hits/others": np.ones(1), "perplexity/nll_nats": np.ones(3)})
    later = saved({"perplexity/nll_nats": np.zeros(2)}, perplexity=make_perplexity())
    assert set(later) == {"hits/hits", "hits/others", "perplexity/nll_nats"}
    np.testing.assert_array_equal(later["perplexity/nll_nats"], np.zeros(2))
    assert set(saved({"hits/hits": np.zeros(2)})) == {"hits/hits", "perplexity/nll_nats"}
    assert saved({}, source_sha256="another") == {}


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
    assert f"it has schema 1; this version reads 3, 4, 5, 6, 7 and {SCHEMA}" in caplog.text


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DiskError, match="--results"):
        folder.check_writable(tmp_path / "file")
    folder.check_writable(tmp_path / "new")
    assert list((tmp_path / "new").iterdir()) == []


def test_a_verdict_does_not_outlive_the_samples_that_it_is_of(tmp_path):
    """T2 measured anew without a verdict (its limit was refused, say): yesterday's is of other tokens."""
    yesterday = (
        make_verdict("perplexity_delta"),
        make_verdict("size_reduction_percent"),
        make_verdict("accuracy_drop_points"),
    )
    folder.save(make_record(perplexity=make_perplexity(), verdicts=yesterday), {}, tmp_path)
    merged = read(folder.save(make_record(perplexity=make_perplexity(ppl=4.1), verdicts=()), {}, tmp_path))
    assert [each.metric for each in merged.verdicts] == ["size_reduction_percent"]


def test_a_verdict_stays_where_the_same_samples_were_measured_again(tmp_path):
    """By another worker, say, which had to compare with them; it does not where only the figures are the same."""
    samples = {"perplexity/nll_nats": np.ones(3)}
    judged = make_record(perplexity=make_perplexity(), verdicts=(make_verdict("perplexity_delta"),))
    folder.save(judged, samples, tmp_path)
    merged = read(
        folder.save(
            make_record(perplexity=make_perplexity(), verdicts=(make_verdict("size_reduction_percent"),)),
            samples,
            tmp_path,
        )
    )
    assert [each.metric for each in merged.verdicts] == ["size_reduction_percent", "perplexity_delta"]
    merged = read(
        folder.save(make_record(perplexity=make_perplexity()), {"perplexity/nll_nats": np.zeros(3)}, tmp_path)
    )
    assert [each.metric for each in merged.verdicts] == ["size_reduction_percent"]


def test_two_workers_that_write_a_cell_at_once_lose_nothing(tmp_path):
    parts = [{"perplexity": make_perplexity()}, {"verdicts": (make_verdict("size_reduction_percent"),)}] * 8
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


def test_arrays_are_read_only_where_they_are_the_records(tmp_path):
    folder.save(make_record(perplexity=make_perplexity()), {"perplexity/nll_nats": np.ones(3)}, tmp_path)
    (record,) = folder.read_all(tmp_path)
    assert folder.read_arrays(record, tmp_path)["perplexity/nll_nats"].tolist() == [1, 1, 1]
    np.savez(tmp_path / f"{record.file_stem}.npz", x=np.ones(1))
    assert folder.read_arrays(record, tmp_path) == {}
    (tmp_path / f"{record.file_stem}.npz").unlink()
    assert folder.read_arrays(record, tmp_path) == {}


def test_the_accelerator_at_work_and_the_cost_last_as_long_as_the_runs_that_they_are_of(tmp_path):
    def saved(**parts):
        return read(folder.save(make_record(**parts), {}, tmp_path))

    cost = Cost(price_per_hour=2.0, currency="EUR", per_million_tokens=None, compression=0.0)
    runs = throughput_summary.throughput(make_throughput([[2.0]]), None)
    saved(throughput=runs, accelerator=Accelerator(name="at work"), cost=cost)
    later = saved(accelerator=Accelerator(name="idle"))
    assert (later.accelerator.name, later.cost) == ("at work", cost)
    anew = saved(throughput=runs, accelerator=Accelerator(name="again"))
    assert (anew.accelerator.name, anew.cost) == ("again", None)
    other = make_record(throughput=runs, accelerator=None)
    assert saved(throughput=runs).accelerator is None
    assert read(folder.save(other, {}, tmp_path)).accelerator is None
    assert saved(accelerator=Accelerator(name="idle")).accelerator.name == "idle"
