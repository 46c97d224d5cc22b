"""Where the time went, in sentences."""

from pytest_quantbench.plan.time_spent import told

SPENT = {("T2+T3", "a-int4"): 60.0, ("compress", "a-int4"): 10.0, ("T2+T3", "a-bf16"): 62.0, ("report", ""): 0.1}


def test_stages_and_cells_are_told_the_longest_first():
    assert told(SPENT, 140.0) == [
        "time: 2 min in all, of which T2+T3 2 min, compress 10 s",
        "most of it for: a-int4 70 s, a-bf16 62 s",
    ]


def test_a_short_session_has_nothing_to_tell():
    assert told(SPENT, 9.9) == told({}, 100.0) == []


def test_several_processes_are_named_and_few_cells():
    lines = told({("T2", f"m{place}"): 10.0 + place for place in range(9)}, 50.0, 3)
    assert lines[0].startswith("time: 50 s in all, counted over 3 processes, of which T2 2 min")
    assert lines[1] == "most of it for: m8 18 s, m7 17 s, m6 16 s, m5 15 s, m4 14 s"
