import pytest

from pytest_quantbench.catalog.corpora import HEAD_OF_TEXT
from pytest_quantbench.catalog.models import MODELS
from pytest_quantbench.catalog.settings import Settings
from pytest_quantbench.errors import QuantbenchError
from pytest_quantbench.plugin import option_values as values


@pytest.mark.parametrize(
    ("read", "text", "value"),
    [
        (values.whole(least=1), "12", 12),
        (values.whole(), "-3", -3),
        (values.one_of("head", "windows"), "head", "head"),
        (values.above_zero, "0.5", 0.5),
        (values.minutes, "1.5", 90.0),
        (values.gigabytes, "0.25", 250_000_000),
        (values.seed, str(2**32 - 1), 2**32 - 1),
        (values.token_count, "512", 512),
        (values.token_count, "all", None),
        (values.corpus, "ptb", "ptb"),
        (values.calibration, "self", "self"),
    ],
)
def test_values_are_read(read, text, value):
    assert read(text) == value


@pytest.mark.parametrize(
    ("read", "text", "told"),
    [
        (values.whole(least=1), "0", "give a number of at least 1."),
        (values.whole(least=2), "many", "give a whole number of at least 2."),
        (values.whole(), "1.5", "give a whole number."),
        (values.one_of("head", "windows"), "tail", "choose from head, windows."),
        (values.above_zero, "0", "give a number above 0."),
        (values.above_zero, "nan", "give a number above 0."),
        (values.minutes, "inf", "give a number above 0."),
        (values.gigabytes, "much", "give a number above 0."),
        (values.seed, "-1", "give a number from 0 to 4294967295."),
        (values.seed, str(2**32), "give a number from 0 to 4294967295."),
        *((values.token_count, text, "at least 2, or 'all'.") for text in ("1", "0", "-5", "many", "1.5", "")),
        (values.corpus, "self", "there is no such file, and the known names are wikitext2"),
        (values.calibration, "nowhere.txt", "there is no such file, and the known names are none, self, wikitext2"),
        *((values.name_and_file, text, "give NAME=FILE") for text in ("a", "=b", "a=")),
        (values.named_disk_plan, "E", "Unknown disk plan 'E'. Choose from: A, B, C, D, S."),
    ],
)
def test_values_that_cannot_be_are_refused_with_what_to_give(read, text, told):
    with pytest.raises(ValueError, match=r".") as error:
        read(text)
    assert told in str(error.value)


def test_texts_and_files_are_paths(tmp_path):
    file = tmp_path / "x=y.jsonl"
    file.write_text("{}")
    assert values.corpus(str(file)) == file
    assert values.calibration(str(file)) == file
    assert values.name_and_file(f"a={file}") == ("a", file)


def test_two_texts_of_one_name_are_refused(tmp_path):
    values.check_corpora([tmp_path / "one.txt", "ptb", tmp_path / "two.txt"])
    with pytest.raises(QuantbenchError, match=r"two texts are called one\.txt"):
        values.check_corpora([tmp_path / "one.txt"] * 2)
    with pytest.raises(QuantbenchError, match="no text may be called"):
        values.check_corpora([tmp_path / HEAD_OF_TEXT])


def test_questions_are_of_a_task_that_is_asked_and_are_there(tmp_path):
    file = tmp_path / "x.jsonl"
    with pytest.raises(QuantbenchError, match=rf"--task-data a={file}: there is no such file"):
        values.check_task_files([("a", file)], ["a"], [])
    file.write_text("{}")
    with pytest.raises(QuantbenchError, match="no such task is asked; those are arc_easy"):
        values.check_task_files([("arc_esay", file)], ["arc_easy"], [])
    with pytest.raises(QuantbenchError, match="those are tiny_endings, tiny_facts"):
        values.check_task_files([("x", file)], [], [MODELS["Tiny"]])
    values.check_task_files([("mmlu_anatomy", file), ("mmlu_virology", file)], ["mmlu"], [])
    values.check_task_files([("own", file)], ["some/own.yaml"], [])


@pytest.mark.parametrize(
    ("context", "stride", "sampling", "most"),
    [(None, 257, "windows", 256), (None, 2049, "head", 2048), (100, 101, "windows", 100), (64, 0, "head", 64)],
)
def test_a_stride_beyond_the_window_is_refused(context, stride, sampling, most):
    with pytest.raises(QuantbenchError, match=f"a number from 1 to the context, {most}"):
        values.check_windows(Settings(context=context, stride=stride, sampling=sampling))
    values.check_windows(Settings(context=context, stride=most, sampling=sampling))


@pytest.mark.parametrize(("tokens", "most", "told"), [(600, 512, "--tokens 600"), (None, 512, "--tokens all")])
def test_a_check_goes_on_to_no_less_than_it_begins_with(tokens, most, told):
    with pytest.raises(QuantbenchError, match=f"--max-tokens {most} is less than {told}"):
        values.check_growth(Settings(tokens=tokens, most_tokens=most))
    values.check_growth(Settings(tokens=512, most_tokens=512))
    values.check_growth(Settings(tokens=tokens, most_tokens=None))


def test_whose_config_candidates_are_run_with_is_one_of_two():
    assert values.whose_config("own") is True
    assert values.whose_config("reference") is False
    with pytest.raises(ValueError, match="reference"):
        values.whose_config("mine")


@pytest.mark.parametrize(
    ("text", "found"),
    [("0.5", ("", 0.5)), ("-1", ("", -1.0)), ("c4=0.8", ("c4", 0.8)), ("a=b.txt=1e-3", ("a=b.txt", 0.001))],
)
def test_a_limit_may_be_of_one_text(text, found):
    assert values.limit_of(text) == found


@pytest.mark.parametrize(
    ("text", "told"), [("=1", "NAME=NUMBER"), ("c4=", "give a number"), ("c4", "give a number"), ("c4=nan", "give a")]
)
def test_a_limit_of_one_text_that_is_none_is_refused(text, told):
    with pytest.raises(ValueError, match=told):
        values.limit_of(text)
