"""The terminal's lines: a cell's figures are those of the look that decided."""

import dataclasses

from builders import make_perplexity, make_record, make_verdict

from pytest_quantbench.report import terminal


def test_a_line_shows_the_figures_of_the_look_that_decided():
    """The reference was read further for another cell; the verdict is of the first 2,048 tokens."""
    seen = dataclasses.replace(make_verdict("perplexity_delta"), value=3.476, reference_value=3.471, items=2048)
    record = make_record(perplexity=make_perplexity(tokens=8192, ppl=3.539, bf16_ppl=3.529), verdicts=(seen,))
    line = terminal.terminal_line(record)
    assert "3.476 against 3.471 (2,048 tokens), Δ +1.000 [+0.500, +1.500] ✓" in line
    assert "3.539" not in line
    assert "8,192" not in line
    old = dataclasses.replace(seen, value=None, reference_value=None)
    line = terminal.terminal_line(dataclasses.replace(record, verdicts=(old,)))
    assert "3.539 against 3.529 (8,192 tokens), Δ +1.000 [+0.500, +1.500] (of 2,048) ✓" in line


def test_what_would_settle_it_is_said():
    told = terminal.explain(
        dataclasses.replace(make_verdict("perplexity_delta", "undecided"), needed="more tokens would")
    )
    assert told == "It is so. More tokens would."


def test_a_candidate_better_than_its_reference_is_told_with_its_sign():
    odd = dataclasses.replace(make_verdict("perplexity_delta", "anomalous"), sentence="It is better.")
    record = make_record(perplexity=make_perplexity(), verdicts=(odd, make_verdict("accuracy_drop_points", "fail")))
    lines = terminal.summary([record])
    assert "Δ +1.000 [+0.500, +1.500] !" in lines[1]
    assert "Tiny-int4 anomalous: It is better." in lines
    assert not any(" fail: " in line for line in lines)  # pytest has told that already
    assert [line.partition(":")[0] for line in terminal.sentences(record)] == ["Tiny-int4 anomalous", "Tiny-int4 fail"]


def test_the_interval_that_decided_is_shown():
    record = make_record(perplexity=make_perplexity(), verdicts=(make_verdict("perplexity_delta"),))
    assert "Δ +1.000 [+0.500, +1.500] ✓" in terminal.terminal_line(record)
    informational = dataclasses.replace(make_verdict("perplexity_delta", "informational"), limit=None)
    assert "Δ +0.500 [+0.400, +0.600] ·" in terminal.terminal_line(
        make_record(perplexity=make_perplexity(), verdicts=(informational,))
    )
