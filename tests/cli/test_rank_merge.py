"""`quantbench rank` and `merge` on generated suites: answers, exit codes, files."""

import json

import pytest
from generated_suite import cells, write

from pytest_quantbench.cli.main import main
from pytest_quantbench.record.schema import read


@pytest.fixture(scope="module")
def suite():
    return cells(models=2, recipes=("int8", "int4", "int4-gptq"), tokens=1024)


@pytest.fixture
def base(tmp_path, suite):
    write(tmp_path / "base", suite)
    return tmp_path / "base"


def test_rank_orders_every_model(base, capsys):
    assert main(["rank", str(base)]) == 0
    printed = capsys.readouterr().out
    assert printed.count("  nats behind") == 2
    assert max(map(len, printed.splitlines())) <= 80
    assert main(["rank", str(base), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 2
    assert main(["rank", str(base), "--model", "Nobody"]) == 2
    assert "Unknown model 'Nobody'. Choose from: Llama-3.2-3B-Instruct, " in capsys.readouterr().err


def test_a_folder_without_any_ranking_is_2_and_says_of_every_cell_why(base, capsys):
    for samples in base.glob("*.npz"):
        samples.unlink()
    assert main(["rank", str(base)]) == 2
    printed = " ".join(capsys.readouterr().out.split())
    assert printed.count("nothing to rank, since no two cells have T2 on the same text.") == 2
    assert printed.count("Left out: ") == 8
    assert printed.count("raw samples of") == 8


@pytest.mark.slow
def test_merge_writes_one_folder_with_its_report(base, tmp_path, suite, capsys):
    for place, cell in enumerate(suite):
        write(tmp_path / f"shard{place % 2}", [cell])
    shards = [str(tmp_path / f"shard{place}") for place in (0, 1)]
    assert main(["merge", *shards, "--output", str(tmp_path / "all")]) == 0
    assert "8 records of 2 folders" in capsys.readouterr().out
    assert (tmp_path / "all" / "combined.json").is_file()
    assert (tmp_path / "all" / "benchmark_int_quant.md").is_file()
    assert main(["compare", str(base), str(tmp_path / "all")]) == 0
    damaged = next((tmp_path / "shard0").glob("*bit.json"))
    damaged.write_text("{}")
    assert main(["merge", *shards, "--output", str(tmp_path / "rest")]) == 1
    assert f"left out: {damaged}" in capsys.readouterr().err
    assert len([path for path in (tmp_path / "rest").glob("*_*bit*.json") if read(path)]) == 7
    assert main(["merge", *shards, "--output", str(tmp_path / "rest")]) == 2


def test_merge_says_why_nothing_can_be_taken(base, tmp_path, capsys):
    for samples in base.glob("*.npz"):
        samples.unlink()
    assert main(["merge", str(base), "--output", str(tmp_path / "all")]) == 2
    told = capsys.readouterr().err
    assert f"Nothing of {base} can be taken. " in told
    assert told.count(".npz is not there, or not what") == 8
    assert not (tmp_path / "all").exists()
