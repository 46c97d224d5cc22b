import math

from builders import make_record, make_verdict
from generated_suite import records as generated

from pytest_quantbench.report import runs


def test_a_generated_cell_has_all_its_figures():
    record = next(each for each in generated(1, recipes=("int4",)) if each.recipe == "int4")
    found = runs.figures(record)
    assert found["perplexity/value"] == record.perplexity.ppl
    assert found["perplexity/delta/low"] == record.perplexity.delta_interval.low
    assert found["accuracy/arc_easy/drop_points/high"] == record.accuracy.tasks["arc_easy"].drop_points.high
    assert found["size/reduction_percent"] == 100 * (1 - record.compression.ratio)
    assert found["throughput/ratio/estimate"] == record.throughput.ratio.estimate
    assert all(type(value) is float and math.isfinite(value) for value in found.values())


def test_what_was_not_measured_is_not_there():
    assert runs.figures(make_record()) == {}


def test_settings_are_text_and_name_the_recipes_parameters():
    found = runs.settings(make_record(recipe_parameters={"rtn.bits": "4"}))
    assert found["model"] == "Tiny"
    assert found["rtn.bits"] == "4"
    assert "revision" not in found
    assert all(isinstance(value, str) for value in found.values())


def test_the_cells_own_verdict_stands_where_a_test_gave_another_limit():
    record = make_record(
        verdicts=(
            make_verdict("perplexity_delta", "pass", of="wikitext2"),
            make_verdict("perplexity_delta", "fail", of="wikitext2", given=True, limit=0.1),
            make_verdict("size_reduction_percent", "undecided"),
        )
    )
    assert runs.words(record) == {
        "verdict/perplexity_delta/wikitext2": "pass",
        "verdict/size_reduction_percent": "undecided",
    }
