"""docs/add-a-measure.md, as whoever follows it would: one file, one row, and every cell has the measure."""

import re
from pathlib import Path

import numpy as np
import pytest

from pytest_quantbench import measures
from pytest_quantbench.bench.subject import Subject
from pytest_quantbench.catalog.models import user_model
from pytest_quantbench.catalog.settings import Settings

DOCUMENT = Path(__file__).parents[2] / "docs" / "add-a-measure.md"
FILE, USE = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)


@pytest.fixture
def added(tmp_path, monkeypatch):
    """The file and the row that the document names."""
    (name,) = re.findall(r"# pytest_quantbench/measures/(\w+\.py)", FILE)
    (row,) = re.findall(r'is `"(\w+)": "(\w+:\w+)"`', DOCUMENT.read_text())
    (tmp_path / name).write_text(FILE)
    monkeypatch.setattr(measures, "__path__", [*measures.__path__, str(tmp_path)])
    monkeypatch.setattr(measures, "MEMBERS", {**measures.MEMBERS, row[0]: row[1]})


@pytest.fixture
def open_subject(small_model, tmp_path):
    directory = str(small_model())
    return lambda: Subject(user_model(directory), Settings(cache=tmp_path / "cache"))


def test_the_document_adds_a_measure(added, open_subject):
    subject, names = open_subject(), {}
    exec(USE, names)
    names["test_zeros"](subject.cell("int4-rtn"))
    found, sound = (subject.cell(recipe).samples("zeros") for recipe in ("int3-rtn", "bf16"))
    matrix = found.names.index("model.layers.1.mlp.down_proj.weight")
    artifact, reference = (subject.cell(recipe).artifact for recipe in ("int3-rtn", "bf16"))
    after, before = (np.array(each.dense(found.names[matrix]).tolist()) for each in (artifact, reference))
    assert found.new_zeros[matrix] == np.count_nonzero((after == 0) & (before != 0)) > 0
    assert sound.new_zeros.sum() == 0


def test_its_samples_are_kept_and_lie_beside_the_record(added, open_subject):
    before = open_subject().cell("int3-rtn").samples("zeros")
    later = open_subject()
    cell = later.cell("int3-rtn")
    np.testing.assert_array_equal(cell.samples("zeros").new_zeros, before.new_zeros)
    assert later.reused == [f"zeros of {cell.id}"]
    assert set(cell.raw()) == {"zeros/new_zeros", "zeros/weights"}
    assert cell.record().weights is None
