"""Rough times: a cell's own record first, then others of such a machine by size, else it says that it does not know."""

import dataclasses
import typing

import pytest
from builders import make_perplexity, make_record
from record.test_load_summary import samples

from pytest_quantbench import engines
from pytest_quantbench.catalog.models import MODELS
from pytest_quantbench.catalog.recipes import recipe
from pytest_quantbench.engines.machine import describe
from pytest_quantbench.plan.duration import Forecast, Work, _parts, forecast, where_it_went, work
from pytest_quantbench.record.load_summary import load
from pytest_quantbench.record.schema import Compression, Record

SMALL, LARGE = MODELS["Qwen2.5-1.5B-Instruct"], MODELS["Qwen2.5-14B-Instruct"]
MACHINE = describe(engines.get())


def measured(model, level, seconds, machine=MACHINE):
    compression = Compression(
        original_gb=model.bf16_gb,
        compressed_gb=1.0,
        ratio=0.25,
        times_smaller=4.0,
        time_sec=9.0,
        bits_per_weight=4.5,
        inner_bits_per_weight=4.5,
        outer_bits_per_weight=None,
        quantized_fraction=0.9,
    )
    losses = dataclasses.replace(make_perplexity(), time_sec=seconds)
    return make_record(
        model_id=model.name, level=level, recipe=level, machine=machine, compression=compression, perplexity=losses
    )


def piece(model, level="int4"):
    return Work(model=model, recipe=recipe(level), part="t2")


def test_a_session_is_compression_and_checks_of_every_cell():
    cells = [(SMALL, recipe("bf16")), (SMALL, recipe("int4"))]
    parts = [(each.recipe.id, each.part) for each in work(cells, {"t2", "t3", "int4", "size"})]
    assert parts == [("bf16", "t2"), ("bf16", "t3"), ("int4", "compression"), ("int4", "t2"), ("int4", "t3")]


def test_the_very_cells_record_counts_before_all_others():
    records = [measured(SMALL, "int4", 40.0), measured(LARGE, "int4", 1000.0)]
    assert forecast([piece(SMALL)], records, MACHINE) == Forecast(seconds=40, own=1, scaled=0, unknown=0)


def test_others_are_scaled_by_size_those_of_the_same_recipe_first():
    records = [measured(SMALL, "int4", 40.0), measured(SMALL, "int2", 400.0)]
    found = forecast([piece(LARGE)], records, MACHINE)
    assert found.seconds == pytest.approx(40 * LARGE.bf16_gb / SMALL.bf16_gb)
    assert (found.own, found.scaled) == (0, 1)
    assert forecast([piece(LARGE, "int3")], records, MACHINE).seconds == pytest.approx(
        220 * LARGE.bf16_gb / SMALL.bf16_gb
    )


@pytest.mark.parametrize("change", [{"chip": "another"}, {"cores": 999}, {"backend": "metal"}])
def test_other_machines_say_nothing(change):
    other = dataclasses.replace(MACHINE, **change)
    found = forecast([piece(SMALL)], [measured(SMALL, "int4", 40.0, other)], MACHINE)
    assert found == Forecast(seconds=0, own=0, scaled=0, unknown=1)
    assert found.line().startswith("unknown")


def test_other_libraries_do():
    other = dataclasses.replace(MACHINE, versions={"mlx": "0.1"})
    assert forecast([piece(SMALL)], [measured(SMALL, "int4", 40.0, other)], MACHINE).own == 1


def test_what_is_not_known_is_not_in_the_sum_and_is_told():
    found = forecast(
        [piece(SMALL), Work(model=SMALL, recipe=recipe("int4"), part="t3")],
        [measured(SMALL, "int4", 40.0)],
        MACHINE,
    )
    assert (found.seconds, found.unknown) == (40, 1)
    assert found.line().startswith("about 40 s if nothing is reused (1 pieces")
    assert "1 more are not in it" in found.line()


@pytest.mark.parametrize("part", sorted(_parts()))
def test_every_part_that_a_record_may_have_is_forecast_or_unknown(part):
    """Records lie in the folder of results when a later session looks how long its own cells may take."""
    kind = typing.get_args(typing.get_type_hints(Record).get(_parts()[part], int | None))[0]
    bare = kind.__new__(kind)
    for each in dataclasses.fields(kind) if dataclasses.is_dataclass(kind) else ():
        object.__setattr__(bare, each.name, 12.0)
    record = dataclasses.replace(measured(SMALL, "int4", 40.0), **({_parts()[part]: bare} if bare else {}))
    planned = Work(model=SMALL, recipe=recipe("int4"), part=part)
    found = forecast([planned], [record], MACHINE)
    assert (found.seconds, found.unknown) == ((0, 1) if part in ("runtime", "calibration text") else (12, 0))


def test_a_session_of_loads_is_told_by_records_of_loads():
    record = dataclasses.replace(measured(SMALL, "int4", 40.0), load=load(samples(seconds=30.0)))
    planned = Work(model=SMALL, recipe=recipe("int4"), part="load")
    assert forecast([planned], [record], MACHINE).seconds == 30
    older = dataclasses.replace(record, load=load(samples()))
    assert forecast([planned], [older], MACHINE).unknown == 1


SPENT = {("T2+T3", "a-int4"): 60.0, ("compress", "a-int4"): 10.0, ("T2+T3", "a-bf16"): 62.0, ("report", ""): 0.1}


def test_stages_and_cells_are_told_the_longest_first():
    assert where_it_went(SPENT, 140.0) == [
        "time: 2 min in all, of which T2+T3 2 min, compress 10 s",
        "most of it for: a-int4 70 s, a-bf16 62 s",
    ]


def test_a_short_session_has_nothing_to_tell():
    assert where_it_went(SPENT, 9.9) == where_it_went({}, 100.0) == []


def test_several_processes_are_named_and_few_cells():
    lines = where_it_went({("T2", f"m{place}"): 10.0 + place for place in range(9)}, 50.0, 3)
    assert lines[0].startswith("time: 50 s in all, counted over 3 processes, of which T2 2 min")
    assert lines[1] == "most of it for: m8 18 s, m7 17 s, m6 16 s, m5 15 s, m4 14 s"
