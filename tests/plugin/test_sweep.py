"""A sweep of Tiny through the plugin: only where it is asked for, into the record and the report."""

import json

import pytest

from pytest_quantbench.measures.sweep import points, trial

GATE = """
    import pytest

    @pytest.mark.size
    def test_other(cell):
        pass

    @pytest.mark.sweep
    def test_swept(cell):
        assert any(each.runs for each in cell.samples("sweep").points)
"""


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [((), False), (("--sweep",), True), (("-m", "sweep"), True), (("-m", "size and not sweep", "--sweep"), False)],
)
def test_a_sweep_runs_only_where_it_is_asked_for(suite, arguments, wanted):
    result = suite(GATE, "--collect-only", "-q", "-k", "Tiny and int4", *arguments)
    assert any("::test_swept" in line for line in result.outlines) == wanted


@pytest.mark.slow
def test_a_sweep_of_tiny_stands_in_the_record_and_the_report(suite, pytester, monkeypatch):
    for name, few in {"BATCHES": (1, 2), "DEPTHS": (0,), "PREFILLS": (16, 600), "REQUESTS": (3,)}.items():
        monkeypatch.setattr(points, name, few)
    monkeypatch.setattr(points, "batch_depth", lambda positions: 8)
    monkeypatch.setattr(trial, "MOST_PAIRS", 3)
    monkeypatch.setattr(trial, "MOST_PROMPTS", 1)
    result = suite(GATE, "-k", "Tiny and int4", "-m", "sweep", "--results", "found", "--new-tokens", "8")
    assert result.parseoutcomes()["passed"] == 1
    record = json.loads((pytester.path / "found" / "Tiny_4bit.json").read_text())
    found = {(each["kind"], each["rows"], each["depth"]): each for each in record["sweep"]["points"]}
    assert len(found) == 7
    assert found["decode", 2, 8]["step"] == "module by module"
    assert found["decode", 2, 8]["rate"]["count"] == 3
    assert found["decode", 2, 8]["ratio"] or found["decode", 2, 8]["ratio_suppressed"]
    assert "positions" in found["prefill", 1, 600]["skipped"]
    assert found["end to end", 1, found_depth(found)]["rate"]["mean"] > 0
    assert not record["sweep"]["interleaved"]  # nobody deploys MLX on a CPU
    assert "### Tiny: decode" in (pytester.path / "found" / "benchmark_int_quant.md").read_text()


def found_depth(found):
    return next(depth for kind, _, depth in found if kind == "end to end")
