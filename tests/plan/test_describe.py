import pytest

from pytest_quantbench.catalog.models import MODELS
from pytest_quantbench.catalog.recipes import recipe
from pytest_quantbench.catalog.settings import Settings
from pytest_quantbench.plan.describe import Selection, outlook


@pytest.fixture
def lines(monkeypatch, tmp_path):
    """What `quantbench plan` says of cells of phi-4 on an empty machine with so many bytes of disk."""

    def made(*levels, checks=(), free=10**12, prefix="--"):
        monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
        for module in ("disk", "describe"):
            monkeypatch.setattr(f"pytest_quantbench.plan.{module}.free_bytes", lambda _: free)
        selection = Selection(
            settings=Settings(cache=tmp_path / "cache", results=tmp_path / "none", memory_bytes=2_000_000_000),
            cells=[(MODELS["phi-4"], recipe(level)) for level in levels],
            checks=frozenset(checks),
            option_prefix=prefix,
        )
        return list(outlook(selection))

    return made


def test_a_selection_is_told_with_what_it_fetches_and_what_it_is_compared_with(lines):
    found = lines("int4", "int3")
    assert found[:2] == ["selection: 2 cells, 1 models at int4, int3", "to fetch: phi-4 29.3 GB"]
    assert found[-1] == "time: unknown: there are no records of such a machine to go by"
    assert not any("T1 loads" in line for line in found)
    assert any("memory: T1 loads whole models: 29.3 GB for phi-4-bf16" in line for line in lines("int4", checks=["t1"]))


def test_each_plan_says_how_many_cells_it_takes_and_whether_it_fits(lines):
    found = {line.split()[0]: line.split()[1:] for line in lines("int4", "int3", free=35 * 10**9)}
    assert [found[plan][0] for plan in "ABCDS"] == ["2", "2", "1", "1", "2"]
    assert found["A"][5] == "no"
    assert found["S"][5] == "yes"
    assert found["fits:"] == ["--disk-plan", "S"]
    assert any("no plan fits: choose fewer models with -k" in line for line in lines("int4", free=10**9))


@pytest.mark.parametrize("prefix", ["--", "--qb-"])
def test_options_are_named_as_the_selections_command_line_has_them(lines, prefix):
    found = lines("int4", prefix=prefix)
    assert f"  fits: {prefix}disk-plan A or B or C or D or S" in found
    assert any(f"up to 2 GB ({prefix}memory)" in line for line in found)
