import re
from dataclasses import fields
from pathlib import Path

import pytest
from gates import GATE

from pytest_quantbench.catalog.settings import Settings
from pytest_quantbench.plugin.option_names import settings_given
from pytest_quantbench.plugin.options import OPTIONS
from pytest_quantbench.storage.files import GB

REPOSITORY = Path(__file__).parents[2]
TYPED = {  # by option: what a user may type, and what then stands in the setting
    "engine": ("mlx", "mlx"),
    "activations": ("bfloat16", "bfloat16"),
    "runs": ("5", 5),
    "new-tokens": ("32", 32),
    "tokens": ("all", None),
    "max-tokens": ("1024", 1024),
    "sampling": ("head", "head"),
    "context": ("100", 100),
    "stride": ("50", 50),
    "memory": ("2", 2_000_000_000),
    "calibration": ("none", "none"),
    "calibration-sequences": ("8", 8),
    "limit": ("20", 20),
    "retrieval-questions": ("8", 8),
    "retrieval-context": ("512", 512),
    "task": ("arc_easy", ("arc_easy",)),
    "sample-seed": ("7", 7),
    "time-budget": ("2", 120.0),
    "results": ("out", Path("out")),
}


def test_an_option_that_fills_a_setting_names_one_there_is():
    names = {field.name for field in fields(Settings)}
    assert {option.setting for option in OPTIONS.values() if option.setting} <= names


@pytest.mark.parametrize("name", TYPED)
def test_what_is_typed_stands_in_the_setting(pytester, name):
    typed, value = TYPED[name]
    assert settings_given(pytester.parseconfig(f"--qb-{name}", typed)) == {OPTIONS[name].setting: value}


@pytest.mark.parametrize("name", [name for name, option in OPTIONS.items() if option.switch is not None])
def test_a_switch_sets_its_value(pytester, name):
    option = OPTIONS[name]
    assert settings_given(pytester.parseconfig(f"--qb-{name}")) == {option.setting: option.switch}
    assert isinstance(getattr(Settings(), option.setting), bool)


def test_what_is_not_given_is_left_to_the_settings(pytester):
    assert settings_given(pytester.parseconfig()) == {}


def shown(setting):
    """A setting's default as a user types it."""
    value = getattr(Settings(), setting)
    spelled = {
        "memory_bytes": lambda: f"{value / GB:g}",
        "disk_plan": lambda: value.name,
    }
    return spelled.get(setting, lambda: str(value))()


@pytest.mark.parametrize("name", [name for name, option in OPTIONS.items() if "(default" in option.help])
def test_the_default_in_the_help_is_the_settings(name, monkeypatch):
    monkeypatch.delenv("QUANTBENCH_ENGINE")  # which tests set
    setting, told = OPTIONS[name].setting, re.search(r"\(default:? ?([^);]*)", OPTIONS[name].help).group(1)
    if setting is None:
        assert (name, told) in {("undecided", "report"), ("candidate-config", "reference")}
    elif name == "resume":
        assert Settings().fresh is OPTIONS[name].switch
    elif getattr(Settings(), setting) is None:  # the model's, the corpus's or the sampling's own
        assert name in ("context", "stride", "calibration-sequences", "time-budget", "retrieval-context")
    else:
        assert told == shown(setting)


def test_the_readme_has_every_option_and_no_other():
    table = (REPOSITORY / "README.md").read_text().partition("| option |")[2].partition("\n\n")[0]
    cells = [line.split(" | ")[0] for line in table.splitlines()[2:]]
    named = {name: value for cell in cells for name, value in re.findall(r"`--([a-z-]+) ?([^`]*)`", cell)}
    assert set(named) == set(OPTIONS)
    for name in ("runs", "limit", "tokens", "max-tokens"):
        assert named[name] == shown(OPTIONS[name].setting)


@pytest.mark.parametrize("page", sorted((REPOSITORY / "docs").glob("*.md")))
def test_a_page_names_no_option_of_the_plugin_that_there_is_not(page):
    told = set(re.findall(r"--qb-([a-z-]+)", page.read_text()))
    assert told <= set(OPTIONS)


@pytest.mark.parametrize(
    ("option", "value", "told"),
    [
        ("--tokens", "few", "--tokens few: give"),
        ("--runs", "0", "--runs 0: give"),
        ("--limit", "-3", "--limit -3: give"),
        ("--sample-seed", "-1", "--sample-seed -1: give a number from 0"),
        ("--disk-plan", "E", "Unknown disk plan 'E'. Choose from: A, B, C, D, S."),
        ("--time-budget", "0", "--time-budget 0: give a number above 0."),
        ("--max-tokens", "1", "--max-tokens 1: give a number of at least 2, or 'all'."),
        ("--max-tokens", "256", "--max-tokens 256 is less than --tokens 512."),
        ("--corpus", "nowhere.txt", "--corpus nowhere.txt: there is no such file, and the known names are wikitext2"),
        ("--calibration", "nowhere.txt", "--calibration nowhere.txt: there is no such file"),
        ("--model", ".", "--model .: this directory has no config.json, so it is not a model."),
        ("--stride", "4096", "--stride 4096: give a number from 1 to the context, 256."),
        ("--context", "1", "--context 1: give a number of at least 2."),
        ("--task-data", "arc_easy", "--task-data arc_easy: give NAME=FILE.jsonl"),
        ("--engine", "jax", "--engine jax: Unknown engine 'jax'. Choose from: auto, mlx, torch"),
        ("--engine", "mlx:gpu", "--engine mlx:gpu: The engine 'mlx' takes no device"),
        ("--engine", "nobodys:Engine", "The engine 'nobodys:Engine' cannot be imported: No module named 'nobodys'."),
        ("--activations", "float16", "--activations float16: choose from float32, bfloat16."),
        ("--activations", "bfloat16", "The engine 'mlx' walks with float32 activations only. Leave out --activations"),
    ],
)
def test_what_cannot_be_is_a_usage_error_before_anything_runs(suite, option, value, told):
    result = suite(GATE, option, value, "-k", "Tiny")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert told in result.stderr.str() + result.stdout.str()
