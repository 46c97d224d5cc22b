from pytest_quantbench.catalog.models import TINY_DIRECTORY
from pytest_quantbench.cli.main import main


def test_it_compares_and_says_where_the_files_are(tmp_path, capsys):
    assert main(["weights", "--method", "rtn", "--size", "64", "--results", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "Gaussian 64²: rtn 2: 2.500 bpw" in printed
    assert str(tmp_path / "codecs.svg") in printed


def test_a_matrix_without_room_for_anything_is_refused(tmp_path, capsys):
    assert main(["weights", "--method", "rtn", "--size", "64", "--size", "1", "--results", str(tmp_path)]) == 2
    assert capsys.readouterr().err == "quantbench: --size 1: give a number of at least 2.\n"


def test_the_engine_that_runs_a_model_can_be_named(tmp_path, capsys):
    wrong = ["--model", str(TINY_DIRECTORY), "--engine", "jax", "--results", str(tmp_path)]
    assert main(["weights", "--method", "rtn", *wrong]) == 2
    assert "Unknown engine 'jax'" in capsys.readouterr().err
