"""What a comparison says first, and that all of it stays within its columns."""

from pathlib import Path

from builders import make_record, make_verdict

from pytest_quantbench.judge.change import Pair, settle
from pytest_quantbench.record.folder_comparison import CellChange, Comparison
from pytest_quantbench.report import changes
from pytest_quantbench.report.text_width import columns
from pytest_quantbench.stats.estimates import Exact, Student

SAME = Pair(metric="size", identical=True)
LOST = Pair(metric="perplexity", why="the raw samples of Tiny-int4 are not there.")
FIRST = Pair(metric="accuracy", of="arc_easy", only_new=True, why="the base has not measured it.")
WORSE = Pair(metric="kl", estimate=Exact(value=0.5), base=0.1, new=0.6)


def comparison(*pairs, name="Tiny-int4", **fields):
    return Comparison(cells=(CellChange(name=name, base_name=name, changes=tuple(settle(pairs))),), **fields)


def test_the_same_to_the_last_bit_is_said_only_where_all_was_compared():
    assert changes.answer(comparison(SAME)) == [
        "No regression in 1 figure of 1 cell: all samples are the same to the last bit."
    ]
    assert changes.answer(comparison(SAME, FIRST))[0].endswith("the same to the last bit.")
    assert changes.answer(comparison(SAME, LOST)) == [
        "No regression in 1 figure of 1 cell; 1 figure could not be compared."
    ]
    assert changes.answer(comparison(SAME, only_base=("Tiny-int3", "Tiny-int2"))) == [
        "No regression in 1 figure of 1 cell; 2 cells of the base could not be found in the new run."
    ]
    assert changes.answer(comparison(SAME, WORSE, LOST))[0] == (
        "1 regression in 2 figures of 1 cell; 1 figure could not be compared:"
    )


def test_whole_is_what_compared_all_that_the_base_has():
    assert comparison(SAME, FIRST).whole
    for found in (comparison(SAME, LOST), comparison(SAME, only_base=("Tiny-int3",)), comparison(FIRST)):
        assert not found.whole


def test_a_baseline_without_samples_is_not_the_same_and_its_lines_fit():
    long = Student(value=1.0, standard_error=0.1, degrees=9)
    worse = Pair(metric="perplexity", of="text " * 40, estimate=long, base=4.0, new=5.0)
    verdict = make_verdict("perplexity_delta", baseline=tuple(settle([SAME, LOST, worse])))
    lines = changes.baseline_lines([make_record(verdicts=(verdict,))], Path("base"))
    assert lines[0] == "baseline base:"
    assert max(map(columns, lines)) <= changes.WIDTH
    told = " ".join(" ".join(lines).split())
    assert "1 regression in 2 figures of 1 cell; 1 figure could not be compared" in told
    assert "the raw samples of Tiny-int4 are not there." in told


def test_one_reason_for_several_figures_is_told_once_and_of_all_cells_it_holds_for():
    lost = [LOST, Pair(metric="kl", why=LOST.why)]
    found = Comparison(
        cells=tuple(
            CellChange(name=name, base_name=name, changes=tuple(settle([SAME, *lost, *more])))
            for name, more in (("Tiny-int4", ()), ("Tiny-int3", (FIRST,)), ("Tiny-int2", ()))
        )
    )
    assert changes.reasons(found) == [
        "All 3 cells: perplexity, KL divergence: the raw samples of Tiny-int4 are not there.",
        "Tiny-int3: accuracy drop of arc_easy: the base has not measured it.",
    ]
    on_a_cpu = Pair(metric="throughput", estimate=Exact(value=0.5), judged=False, why="on a CPU")
    assert changes.reasons(comparison(on_a_cpu)) == ["Tiny-int4: speed 0.500 ×: not judged, on a CPU."]


def test_wide_and_long_names_fit_and_are_whole():
    for name in ("Tiny-" + "very-long-" * 12, "模型" * 50):
        found = comparison(WORSE, Pair(metric="accuracy", of=name, estimate=Exact(value=3.0)), name=name)
        lines = changes.terminal(found)
        assert max(map(columns, lines)) <= changes.WIDTH
        assert "".join("".join(lines).split()).count(name) >= 4  # twice each in the answer and below
