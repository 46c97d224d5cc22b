import pytest

from pytest_quantbench.cli.main import main

KEY = "0ab1" * 8


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache that holds samples only."""
    monkeypatch.setenv("QUANTBENCH_CACHE", str(tmp_path))
    (tmp_path / "measurements").mkdir()
    (tmp_path / "measurements" / f"{KEY}.samples").write_bytes(bytes(2_000_000))
    return tmp_path


def test_it_shows_and_deletes(cache, capsys):
    assert main(["prune"]) == 0
    assert "samples: 1, 0.002 GB" in capsys.readouterr().out
    assert main(["prune", "samples", "damaged"]) == 0
    assert capsys.readouterr().out == f"0.002 GB freed at {cache}\n"
    assert not list(cache.rglob("*.samples"))


def test_a_kind_that_there_is_not_is_one_sentence_and_exit_2(cache, capsys):
    assert main(["prune", "nothing"]) == 2
    assert "Unknown kind" in capsys.readouterr().err
    assert list(cache.rglob("*.samples"))
