import pytest

from pytest_quantbench.cli.main import main


@pytest.mark.slow
def test_it_reports_every_check(capsys):
    assert main(["conform", "rtn"]) == 0
    printed = capsys.readouterr().out
    assert "ok     rtn at 4 bits: " in printed
    assert "FAILED" not in printed


def test_a_check_that_fails_is_named_and_fails_it(capsys):
    assert main(["conform", "bad_quantizers:FewLevels"]) == 2
    failed = capsys.readouterr()
    assert "FAILED" in failed.out
    assert "checks failed for bad_quantizers:FewLevels" in failed.err
