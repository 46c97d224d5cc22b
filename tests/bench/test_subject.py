"""What a program begins with: README's lines as they stand there, and what a subject takes for a model and a recipe."""

import re
from pathlib import Path

import pytest
from mlx_models import as_mlx

from pytest_quantbench import Settings, Subject
from pytest_quantbench.catalog.candidates import Candidate
from pytest_quantbench.catalog.models import MODELS, Model
from pytest_quantbench.catalog.recipes import recipe_of_candidate
from pytest_quantbench.errors import ModelError, QuantbenchError, UnknownNameError
from pytest_quantbench.record import folder

README = Path(__file__).parents[2] / "README.md"


@pytest.mark.slow
def test_the_lines_of_the_readme_do_what_they_say(tmp_path, monkeypatch, capsys):
    (lines,) = re.findall(r"## From Python\n\n```python\n(.*?)```", README.read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    written, reading = lines.split("records = ")
    names = {}
    exec(written, names)
    folder.save(names["record"], names["cell"].raw(), tmp_path / "results")
    exec(f"records = {reading}", names)
    verdict, record = names["verdict"], names["record"]
    outcome, *figures = capsys.readouterr().out.split()
    assert (outcome, verdict.limit) == ("pass", 1.0)
    assert float(figures[0]) == verdict.estimate == pytest.approx(record.perplexity.delta)
    assert verdict.low < verdict.estimate < verdict.high < verdict.limit
    assert figures[-2:] == [str(record.perplexity.ppl), str(record.perplexity.bf16_ppl)]
    assert [each.recipe for each in names["records"]] == ["int4"]


def test_a_model_is_a_name_a_path_or_a_hub_id(small_model, tmp_path):
    directory = small_model()
    assert Subject("Tiny").model is MODELS["Tiny"]
    assert Subject(str(directory)).model.source == str(directory)
    assert Subject("someone/model").model == Model(name="model", source="someone/model")
    assert Subject(MODELS["Tiny"], Settings(seed=3)).inputs.settings.seed == 3


@pytest.mark.parametrize(
    ("given", "told"),
    [("Tyni", "Unknown model 'Tyni'. Choose from: .*Tiny.* a Hub id"), ("./nowhere", "no such directory")],
)
def test_what_is_no_model_is_refused_at_once(given, told):
    with pytest.raises(QuantbenchError, match=told):
        Subject(given)


def test_a_cell_is_one_object_for_a_recipe_and_for_its_id():
    subject = Subject("Tiny")
    assert subject.cell("bf16") is subject.reference
    assert subject.cell(subject.cell("int4-rtn").recipe) is subject.cell("int4-rtn")
    with pytest.raises(UnknownNameError, match="Unknown recipe 'int4-gqtp'"):
        subject.cell("int4-gqtp")


def test_where_no_candidate_is_the_models_nothing_is_measured(small_model, tmp_path):
    """A stranger is named before the model itself is walked; beside one that is the model's, it is told by itself."""
    original, other = small_model(), small_model(seed=1)
    recipes = [
        recipe_of_candidate(Candidate(name=name, source=str(as_mlx(of, tmp_path / name, bits=4))), 4.5)
        for name, of in (("stranger", other), ("own", original))
    ]
    subject = Subject(str(original), Settings(cache=tmp_path / "cache"))
    subject.refuse_strangers([])
    subject.refuse_strangers(recipes)
    with pytest.raises(ModelError, match="weights are not the reference's"):
        subject.refuse_strangers(recipes[:1])
