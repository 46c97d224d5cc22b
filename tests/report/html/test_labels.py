"""Labels name fields that records have, so that none outlives its field."""

import dataclasses
import typing

from pytest_quantbench.record.schema import Record
from pytest_quantbench.report.html import labels, names


def places(kind, path=""):
    """Every place in a record of this class: fields by their names, those of mappings' values behind a star."""
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        place = f"{path}.{field.name}".lstrip(".")
        yield place
        for star, inner in classes(hints[field.name]):
            yield from places(inner, f"{place}{star}")


def classes(hint):
    """The record classes in a type: of itself, of a union's members, of a mapping's values (which have a star)."""
    if dataclasses.is_dataclass(hint):
        yield "", hint
    for inner in typing.get_args(hint):
        star = ".*" if "Mapping" in str(typing.get_origin(hint)) else ""
        yield from ((f"{star}{more}", found) for more, found in classes(inner))


ALL = set(places(Record))


def test_the_walk_finds_fields_of_fields():
    assert {"perplexity.divergence.kl_nats", "accuracy.tasks.*.questions", "runtime.speed.runs"} <= ALL


def test_each_label_is_of_a_field():
    for table in (names.NAMES, labels.UNITS_OF, labels.SHARES, labels.MAPPINGS, labels.MILLISECONDS):
        assert set(table) <= ALL, set(table) - ALL
    assert set(labels.PARTS) - {""} <= ALL
    assert set(labels.ABSENT) <= set(labels.PARTS)


def test_each_count_is_a_field_of_its_part():
    assert {f"{part}.{field}" for part, (field, _) in labels.COUNTS.items()} <= ALL


def test_the_parts_of_a_record_have_titles():
    """All that are records of their own, or tables; verdicts have a section for themselves."""
    parts = {place.partition(".")[0] for place in ALL if "." in place}
    assert parts - {"verdicts"} <= set(labels.PARTS)


def test_the_table_is_plain_json():
    import msgspec

    assert msgspec.json.decode(msgspec.json.encode(labels.table()))["metrics"]["perplexity_delta"]["better"] == "lower"
