import generated_suite
import pytest
from builders import make_perplexity, make_record

from pytest_quantbench.cli.main import main
from pytest_quantbench.judge.verdict import Verdict
from pytest_quantbench.record import folder as results


@pytest.fixture
def folder(tmp_path):
    verdict = Verdict(
        metric="perplexity_delta", outcome="pass", limit=1, estimate=0.2, low=0.1, high=0.3, sentence="S."
    )
    for bits in (4, 3, 2):
        level = f"int{bits}"
        record = make_record(level=level, recipe=level, bits=bits, perplexity=make_perplexity(), verdicts=(verdict,))
        results.save(record, {}, tmp_path)
    return tmp_path


def test_the_report_is_rebuilt_from_the_json_files_alone(folder, capsys):
    for file in folder.glob("*.npz"):
        file.unlink()
    assert main(["report", str(folder)]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("Three cells are undecided: Tiny-int4, Tiny-int3 and Tiny-int2. Each meets ")
    rows = [line.split() for line in printed.splitlines()]
    assert ["int4", "–", "–", "–", "+0.200", "±0.100✓", "–", "undecided"] in rows
    assert (folder / "benchmark_int_quant.md").read_text().startswith("# Quantization benchmark")
    assert (folder / "combined.json").is_file()
    again = (folder / "combined.json").read_bytes()
    assert main(["report", str(folder)]) == 0
    assert (folder / "combined.json").read_bytes() == again


def test_a_folder_without_records_is_one_sentence_and_exit_2(tmp_path, capsys):
    assert main(["report", str(tmp_path)]) == 2
    assert "holds no records" in capsys.readouterr().err


def test_a_price_that_is_given_later_stands_in_the_report(tmp_path, capsys):
    generated_suite.write(tmp_path, generated_suite.cells(1, ("int4",)))
    assert main(["report", str(tmp_path), "--price-per-hour", "36EUR", "--cost-volume", "1000000"]) == 0
    capsys.readouterr()
    assert "EUR per million tokens" in (tmp_path / "benchmark_int_quant.md").read_text()
    assert (tmp_path / "benchmark_int_quant" / "pareto_price.svg").is_file()
    assert main(["report", str(tmp_path)]) == 0
    assert not (tmp_path / "benchmark_int_quant" / "pareto_price.svg").exists()
