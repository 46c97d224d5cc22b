import json

import pytest
from generated_suite import cells, write
from huggingface_hub import ModelCard

from pytest_quantbench.cli.main import main


@pytest.fixture
def results(tmp_path):
    write(tmp_path / "results", cells(1, recipes=("int4", "int3")))
    return tmp_path / "results"


def test_a_cells_files_are_written_and_named(results, tmp_path, capsys):
    model = json.loads(next(results.glob("*_4bit.json")).read_text())["model_id"]
    chosen = ["card", str(results), "--model", model, "--recipe", "int4", "--output", str(tmp_path / "clone")]
    assert main(chosen) == 0
    names = ["README.md", ".eval_results/arc_easy.yaml", ".eval_results/hellaswag.yaml"]
    names += [f"{model}-int4.svg", f"{model}-int4.json"]
    assert capsys.readouterr().out.splitlines() == [str(tmp_path / "clone" / name) for name in names]
    assert all((tmp_path / "clone" / name).is_file() for name in names)
    card = ModelCard.load(tmp_path / "clone/README.md")
    assert len(card.data.to_dict()["model-index"][0]["results"]) == 3
    (tmp_path / "clone/README.md").write_text("# Mine\n")
    assert main(chosen) == 0
    assert ModelCard.load(tmp_path / "clone/README.md").text.strip() == "# Mine"


@pytest.mark.parametrize(("model", "recipe"), [("nobody", "int4"), (None, "int2")])
def test_a_cell_that_there_is_not_is_named_with_those_that_there_are(results, tmp_path, capsys, model, recipe):
    known = json.loads(next(results.glob("*_4bit.json")).read_text())["model_id"]
    chosen = ["--model", model or known, "--recipe", recipe, "--output", str(tmp_path / "clone")]
    assert main(["card", str(results), *chosen]) == 2
    told = capsys.readouterr().err
    assert (model or recipe) in told
    assert (known if model else "int3") in told
    assert not (tmp_path / "clone").exists()
