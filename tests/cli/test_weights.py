from pytest_quantbench.cli.main import main


def test_it_compares_and_says_where_the_files_are(tmp_path, capsys):
    assert main(["weights", "--method", "rtn", "--size", "64", "--results", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "Gaussian 64²: rtn 2: 2.500 bpw" in printed
    assert str(tmp_path / "codecs.svg") in printed


def test_a_matrix_without_room_for_anything_is_refused(tmp_path, capsys):
    assert main(["weights", "--method", "rtn", "--size", "64", "--size", "1", "--results", str(tmp_path)]) == 2
    assert capsys.readouterr().err == "quantbench: --size 1: give a number of at least 2.\n"
