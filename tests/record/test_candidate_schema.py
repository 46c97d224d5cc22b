"""What a record keeps of a candidate, in its file and in the report."""

import pytest
import terminal_text
from builders import make_record, make_verdict

from pytest_quantbench.compress.candidate_facts import CandidateFacts, Difference, Identity
from pytest_quantbench.record.candidate_schema import candidate_file
from pytest_quantbench.record.schema import read
from pytest_quantbench.report import markdown, terminal
from pytest_quantbench.report.answers import answers
from pytest_quantbench.storage.files import write_atomically
from pytest_quantbench.storage.sealed_json import sealed

BASE = Difference(what="base of positions", candidate="50000.0", reference="10000.0")
TEMPLATE = Difference(what="chat template", candidate="9 characters | one", reference="not set")


def facts(*differences, own=False):
    identity = Identity(
        cosines={"a.weight": 0.99, "b.weight": 0.9, "c.weight": 0.95}, tokens=7, differences=differences
    )
    return CandidateFacts(
        name="q4",
        source="them/model@main:q4.gguf",
        format="gguf",
        files={"q4.gguf": "ab" * 32},
        bits_per_weight=4.8512,
        base_model="us/model",
        identity=identity,
        own_config=own,
    )


def test_facts_become_the_records_part_and_survive_the_file(tmp_path):
    record = make_record(recipe="q4", candidate=candidate_file(facts(BASE)))
    write_atomically(tmp_path / "r.json", sealed(record))
    found = read(tmp_path / "r.json").candidate
    assert found == record.candidate
    assert (found.median_cosine, found.least_cosine, found.least_cosine_tensor) == (0.95, 0.9, "b.weight")
    assert (found.files, found.stored_bits_per_weight, found.compared_tokens) == ({"q4.gguf": "ab" * 32}, 4.8512, 7)
    assert found.differences == (BASE,)


def test_a_recipe_of_our_own_has_none():
    assert candidate_file(None) is None
    assert terminal.candidate_lines([make_record()]) == []
    assert "## Candidates" not in markdown.markdown([make_record()], ["c"])


def test_the_report_has_a_row_for_every_candidate():
    record = make_record(recipe="q4", candidate=candidate_file(facts(BASE, TEMPLATE)))
    text = markdown.markdown([record, make_record()], ["c"])
    section = text.partition("## Candidates")[2].partition("\n## ")[0]
    (row,) = [line for line in section.splitlines() if line.startswith("| Tiny-")]
    assert row.replace("\u00a0", " ") == (
        "| Tiny-q4 | gguf | us/model | `b.weight` (cosine 0.9000) | base of positions 50000.0 (reference: 10000.0); "
        "chat template 9 characters &#124; one (reference: not set) |"
    )
    assert "| bits per weight, encoded tensors | 4.85 | – |" in text
    assert "| cosine of sampled rows: median | 0.95000 | – |" in text


@pytest.mark.parametrize(("own", "judged"), [(False, "judged with the reference's"), (True, "run with its own config")])
def test_the_terminal_has_a_line_for_every_difference(own, judged):
    record = make_record(recipe="q4", candidate=candidate_file(facts(BASE, own=own)))
    told = f"candidate Tiny-q4: base of positions: 50000.0, the reference's 10000.0 ({judged})"
    assert terminal.candidate_lines([record]) == [told]
    assert told in terminal_text.shown([record])
    assert ("its own config was run" in markdown.markdown([record], ["c"])) == own


def test_without_differences_there_is_a_row_and_no_line():
    record = make_record(recipe="q4", candidate=candidate_file(facts()))
    assert terminal.candidate_lines([record]) == []
    assert "(cosine\u00a00.9000) | – |" in markdown.markdown([record], ["c"])


def test_a_candidate_has_an_answer_of_its_own_and_no_count_of_models():
    """What was left out is named, and the worst comes first."""
    verdicts = (
        make_verdict("size_reduction_percent", "fail"),
        make_verdict("perplexity_delta", "pass"),
        make_verdict("accuracy_drop_points", "undecided"),
    )
    record = make_record(recipe="q4", candidate=candidate_file(facts()), verdicts=verdicts)
    (told, *_) = answers([record])
    assert told.startswith("Tiny-q4 may not ship: its files are ")
    text = markdown.markdown([record], ["c"])
    assert told in text
    assert "|  | q4 |" in text  # as its file is called


@pytest.mark.parametrize(
    ("outcomes", "word"),
    [
        (("pass", "pass"), "is undecided: it meets the two criteria"),  # and no more were measured
        (("pass", "undecided"), "is undecided: "),
        (("fail", "undecided"), "may not ship: "),
        (("anomalous", "pass"), "is undecided: "),
        (("informational", "informational"), "is not judged: "),
        ((), "is not judged: size, "),
    ],
)
def test_the_answer_is_that_of_the_worst_criterion(outcomes, word):
    metrics = ("perplexity_delta", "accuracy_drop_points")
    verdicts = tuple(make_verdict(*each) for each in zip(metrics, outcomes, strict=False))
    line = answers([make_record(recipe="q4", candidate=candidate_file(facts()), verdicts=verdicts)])[0]
    assert line.startswith(f"Tiny-q4 {word}")
