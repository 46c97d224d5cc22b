import pytest

from pytest_quantbench.cli.main import VERBS, main


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_says_what_it_is_for(verb, capsys):
    with pytest.raises(SystemExit) as end:
        main([verb, "--help"])
    assert end.value.code == 0
    assert f"usage: quantbench {verb}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "the following arguments are required: verb"),
        (["judged"], "invalid choice: 'judged'"),
        (["judge"], "the following arguments are required: CANDIDATE"),
        (["report", "results", "--out", "x"], "unrecognized arguments: --out x"),  # no abbreviations
        (["report", "results", "--nonsense"], "unrecognized arguments: --nonsense"),
        (["prune", "-m", "int4"], "unrecognized arguments: -m"),
    ],
)
def test_what_no_verb_takes_is_refused(arguments, told, capsys):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert told in capsys.readouterr().err


def test_the_readers_who_have_seen_enough_end_it_quietly(monkeypatch):
    def broken(chosen):
        raise BrokenPipeError

    monkeypatch.setattr(VERBS["prune"], "run", broken)
    monkeypatch.setattr("os.dup2", lambda *_: None)  # standard output is the test's
    monkeypatch.setattr("sys.stdout.fileno", lambda: 1, raising=False)
    assert main(["prune"]) == 0
