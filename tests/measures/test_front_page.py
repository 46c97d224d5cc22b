"""The table of measures: every row leads to a measure of that name, and asking for names loads none of them."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from pytest_quantbench import measures
from pytest_quantbench.errors import UnknownNameError
from pytest_quantbench.measures.samples import AccuracySamples, PerplexitySamples
from pytest_quantbench.measures.throughput_samples import ThroughputSamples

ROOT = Path(__file__).parents[2]


def test_every_row_leads_to_the_measure_of_its_name():
    found = list(measures.every())
    assert tuple(measure.name for measure in found) == measures.names()
    assert len({measure.label for measure in found}) == len(found)
    told = {measure.label: (measure.needs, measure.samples) for measure in found}
    assert told["T1"] == ("resident", ThroughputSamples)
    assert (told["T2"], told["T3"]) == (("walk", PerplexitySamples), ("walk", AccuracySamples))


def test_a_name_that_no_measure_has_lists_those_that_there_are():
    with pytest.raises(UnknownNameError, match=r"Unknown measure 'perplexty'. Choose from: accuracy, .*weights"):
        measures.get("perplexty")


def test_names_are_had_without_an_engine_and_without_members():
    code = (
        "import sys; from pytest_quantbench import measures; measures.names(); "
        "members = {'pytest_quantbench.measures.' + where.partition(':')[0] for where in measures.MEMBERS.values()}; "
        "print({'mlx.core', 'numpy', 'lm_eval'} & set(sys.modules) | members & set(sys.modules) or '')"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == ""


def test_the_contract_names_every_measure():
    """One that is added is held to it too: import-linter checks the modules that are listed."""
    told = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(each["layers"] for each in told if each.get("containers") == ["pytest_quantbench.measures"])
    reads_others, side_by_side, *_ = layers
    places = {where.partition(":")[0].partition(".")[0] for where in measures.MEMBERS.values()}
    assert {reads_others, *(name.strip() for name in side_by_side.split("|"))} == places
