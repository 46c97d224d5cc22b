"""docs/add-a-measure.md, as whoever follows it would: one file, one row, and every cell has the measure."""

import re
from pathlib import Path

import mlx.core as mx
import mlx_lm
import numpy as np
import pytest
from builders import make_record

from pytest_quantbench import engines, measures
from pytest_quantbench.bench.subject import Subject
from pytest_quantbench.catalog.models import MODELS, TINY_DIRECTORY, user_model
from pytest_quantbench.catalog.recipes import recipe
from pytest_quantbench.catalog.settings import Settings
from pytest_quantbench.engines.machine import describe
from pytest_quantbench.engines.mlx.walk import Walk
from pytest_quantbench.plan.duration import forecast, work

DOCUMENT = Path(__file__).parents[2] / "docs" / "add-a-measure.md"
BLOCKS = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
FILES = {name: block for block in BLOCKS for name in re.findall(r"# pytest_quantbench/measures/(\w+\.py)", block)}
USES = "".join(block for block in BLOCKS if block not in FILES.values())
HITS_TOKENS = 256


@pytest.fixture
def added(tmp_path, monkeypatch):
    """The files and the rows that the document names."""
    rows = dict(re.findall(r'is `"(\w+)": "(\w+:\w+)"`', DOCUMENT.read_text()))
    assert set(rows) == {"zeros", "hits"}
    for name, content in FILES.items():
        (tmp_path / name).write_text(content)
    monkeypatch.setattr(measures, "__path__", [*measures.__path__, str(tmp_path)])
    monkeypatch.setattr(measures, "MEMBERS", {**measures.MEMBERS, **rows})


@pytest.fixture
def uses(pytestconfig):
    """The tests that the document shows, by name."""
    pytestconfig.addinivalue_line("markers", "t4: of the measure that the document adds")
    names = {"pytest": pytest}
    exec(USES, names)
    return names


@pytest.fixture
def tiny(tmp_path):
    return Subject(MODELS["Tiny"], Settings(cache=tmp_path / "cache", tokens=128, fixed=True))


@pytest.fixture
def open_subject(small_model, tmp_path):
    directory = str(small_model())
    return lambda: Subject(user_model(directory), Settings(cache=tmp_path / "cache"))


def test_the_document_adds_a_measure(added, uses, open_subject):
    subject = open_subject()
    uses["test_zeros"](subject.cell("int4-rtn"))
    found, sound = (subject.cell(recipe).samples("zeros") for recipe in ("int3-rtn", "bf16"))
    matrix = found.names.index("model.layers.1.mlp.down_proj.weight")
    artifact, reference = (subject.cell(recipe).artifact for recipe in ("int3-rtn", "bf16"))
    after, before = (each.float32(found.names[matrix]) for each in (artifact, reference))
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


def test_one_along_a_walk_shares_it_with_the_others(added, uses, tiny, monkeypatch):
    """Though nothing judges it: it has no limit, and no noise floor."""
    walked, run = [], Walk.run
    monkeypatch.setattr(
        Walk, "run", lambda self, batches, what: (walked.append(len(batches)), run(self, batches, what))
    )
    cell = tiny.cell("int4-rtn")
    tiny.expect([(cell.recipe, name) for name in ("hits", "perplexity")])
    uses["test_hits"](cell)
    walks = len(walked)
    assert cell.judge("perplexity").items == 128
    assert len(walked) == walks
    assert cell.raw()["hits/hits"].shape == (HITS_TOKENS,)


def test_its_samples_are_what_mlx_lm_finds_likeliest(added, tiny):
    model, _ = mlx_lm.load(str(TINY_DIRECTORY))
    model.set_dtype(mx.float32)
    ids = np.array(tiny.inputs.tokenizer.encode(tiny.inputs.texts[0].content)[: HITS_TOKENS + 1])
    guessed = np.array(model(mx.array(ids[None, :-1])).argmax(-1))[0]
    np.testing.assert_array_equal(tiny.reference.samples("hits").hits, guessed == ids[1:])


def test_how_long_it_takes_is_not_known_from_records(added):
    """They hold no part of it that says so."""
    machine = describe(engines.get())
    planned = work([(MODELS["Tiny"], recipe("bf16"))], {"t4"})
    assert [each.part for each in planned] == ["t4"]
    assert forecast(planned, [make_record(recipe="bf16", machine=machine)], machine).unknown == 1
