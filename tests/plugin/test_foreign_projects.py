"""Projects that have the plugin installed and nothing else to do with it: all is as it would be without it."""

import json

import pytest
from gates import run_python

# What is loaded in every run, and what pytest-xdist's controller loads besides.
ALWAYS = {
    "pytest_quantbench",
    "pytest_quantbench.plugin",
    *(
        f"pytest_quantbench.plugin.{name}"
        for name in "fixtures hookspecs item_needs options option_form option_names option_values".split()
    ),
}
CONTROLLER = {
    "pytest_quantbench.errors",
    *(
        f"pytest_quantbench.plugin.{name}"
        for name in "badges github outcomes places refusals suite telling tracking unsettled xdist".split()
    ),
}
CONFTEST = """
import json
import sys
from pathlib import Path

OPTIONS = ("--model", "--limit", "--recipe", "--tokens", "--runs")


def pytest_addoption(parser):
    for option in OPTIONS:
        parser.addoption(option, default=None)


def pytest_collection_finish(session):
    told = [[item.nodeid, [str(m) for m in item.iter_markers()], sorted(item.listnames())] for item in session.items]
    keywords = [sorted(map(str, item.keywords)) for item in session.items]
    keep(session.config, "items", [told, keywords])


def pytest_unconfigure(config):
    keep(config, "loaded", sorted(name for name in sys.modules if name.startswith("pytest_quantbench")))
    plugins = [name for name, _ in config.pluginmanager.list_name_plugin() if "quantbench" in str(name)]
    keep(config, "registered", sorted(plugins))


def keep(config, what, told):
    where = getattr(config, "workerinput", {}).get("workerid", "main")
    Path(config.rootpath, f"{what}-{where}.json").write_text(json.dumps(told))
"""
TESTS = """
import pytest

pytestmark = [pytest.mark.size, pytest.mark.selftest, pytest.mark.quantbench(models=["mine"])]


@pytest.mark.t1
@pytest.mark.xdist_group("together")
@pytest.mark.parametrize("level", ["Tiny", "int4", "Tiny-foo"])
def test_with_our_markers(level, request):
    assert request.config.getoption("--model") == "theirs"


@pytest.mark.int4
@pytest.mark.t2
def test_more():
    pass


class TestOrder:
    def test_weights(self):
        pass

    @pytest.mark.weights
    @pytest.mark.bf16
    def test_before(self):
        pass
"""


@pytest.fixture
def project(pytester, monkeypatch):
    """A project with options, markers and ids of our names, and a table of ours that nobody has a reason to read."""
    monkeypatch.delenv("PYTEST_PLUGINS")
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(TESTS)
    markers = "\n".join(f"  {name}: theirs" for name in ("t1", "t2", "size", "weights", "selftest", "int4", "bf16"))
    pytester.makeini(f"[pytest]\naddopts = --strict-markers\nmarkers =\n{markers}\n  quantbench(models): theirs\n")
    (pytester.path / "pyproject.toml").write_text("[tool.quantbench]\nnonsense = 1")

    def run(*arguments):
        """What pytest printed, and what the project's conftest kept, by process."""
        result = pytester.runpytest_subprocess("--model", "theirs", "-p", "no:cacheprovider", *arguments)
        kept = {path.stem: json.loads(path.read_text()) for path in pytester.path.glob("*-*.json")}
        for path in pytester.path.glob("*-*.json"):
            path.unlink()
        return result, kept

    return run


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--collect-only", "-q"),
        ("-m", "t1 or int4"),
        pytest.param(("-n", "2"), marks=pytest.mark.slow),
        pytest.param(("-n", "2", "--dist", "loadgroup"), marks=pytest.mark.slow),
        pytest.param(("-n", "2", "--dist", "loadgroup", "--collect-only"), marks=pytest.mark.slow),
    ],
    ids=" ".join,
)
def test_items_and_markers_are_as_without_the_plugin(project, arguments):
    (result, kept), (plain, without) = project(*arguments), project(*arguments, "-p", "no:quantbench")
    assert result.ret == plain.ret == pytest.ExitCode.OK
    assert result.parseoutcomes() == plain.parseoutcomes()
    items = {where: told for where, told in kept.items() if where.startswith("items")}
    assert items
    assert items == {where: told for where, told in without.items() if where.startswith("items")}
    assert "quantbench:" not in result.stdout.str()
    distributed = "-n" in arguments and "--collect-only" not in arguments
    for where, loaded in kept.items():
        if where.startswith("loaded"):
            assert set(loaded) == ALWAYS | (CONTROLLER if distributed and where == "loaded-main" else set())
    for where, registered in kept.items():
        if where.startswith("registered") and where != "registered-main":
            assert registered == ["quantbench", "quantbench-fixtures"]
    assert not [told for where, told in without.items() if where.startswith("loaded") and told]


@pytest.mark.slow
def test_ids_that_look_like_a_cells_load_nothing_more_under_loadgroup(project, pytester):
    """Nothing is asked of an id: neither the catalogue nor a table of ours, which nobody has a reason to read."""
    pytester.makepyfile(
        "import pytest\n@pytest.mark.parametrize('id', ['foo-int8', 'foo-int4', 'Tiny-int4'])\ndef test_it(id): pass"
    )
    result, kept = project("-n", "2", "--dist", "loadgroup")
    result.assert_outcomes(passed=3)
    assert set(kept["loaded-main"]) == ALWAYS | CONTROLLER
    assert "quantbench:" not in result.stdout.str() + result.stderr.str()


def test_importing_the_plugin_loads_nothing_but_the_standard_library_and_pytest(tmp_path):
    code = (
        "import pytest, sys; before = set(sys.modules); import pytest_quantbench.plugin; "
        "new = {name.partition('.')[0] for name in set(sys.modules) - before}; "
        "print(sorted(new - set(sys.stdlib_module_names)))"
    )
    assert run_python(code, tmp_path).stdout.strip() == "['pytest_quantbench']"


OWN_OPTIONS = ("--model", "--limit", "--recipe", "--tokens", "--runs", "--offline", "--results", "--task", "--resume")


@pytest.mark.parametrize("option", OWN_OPTIONS)
def test_another_project_may_have_options_of_our_short_names(pytester, monkeypatch, option):
    monkeypatch.delenv("PYTEST_PLUGINS")
    pytester.makeconftest(f"""
        def pytest_addoption(parser):
            parser.addoption("{option}", default=None)
    """)
    pytester.makepyfile(f"""
        def test_own(request):
            assert request.config.getoption("{option}") == "theirs"
    """)
    pytester.runpytest_inprocess(option, "theirs", "-p", "no:cacheprovider").assert_outcomes(passed=1)


def test_options_that_begin_alike_are_not_taken_for_ours(pytester, monkeypatch):
    monkeypatch.delenv("PYTEST_PLUGINS")
    pytester.makeconftest("def pytest_addoption(parser): parser.addoption('--runslow', action='store_true')")
    pytester.makepyfile("def test_own(request): assert request.config.getoption('--runslow')")
    pytester.makepyprojecttoml("[tool.quantbench]\nnonsense = 1")
    pytester.runpytest_inprocess("--runslow", "--color=no", "-p", "no:cacheprovider").assert_outcomes(passed=1)


@pytest.mark.parametrize("fixture", ["cell", "suite", "settle", "selftest"])
def test_a_fixture_of_the_users_with_a_name_of_ours_is_left_alone(pytester, fixture):
    pytester.makepyprojecttoml("[tool.quantbench]\nnonsense = 1")
    pytester.makepyfile(
        f"import pytest\n@pytest.fixture\ndef {fixture}(): return 1\ndef test_it({fixture}): assert {fixture} == 1"
    )
    pytester.runpytest_inprocess("-p", "no:cacheprovider").assert_outcomes(passed=1)


def test_items_of_others_beside_ours_keep_their_markers_and_their_traceback(suite):
    """One session with items of both kinds."""
    source = """
        import pytest
        from pytest_quantbench.errors import QuantbenchError

        @pytest.mark.selftest
        @pytest.mark.t1
        def test_own():
            raise QuantbenchError("theirs")

        @pytest.mark.size
        def test_size(cell, settle):
            settle(cell.judge("size"))
    """
    result = suite(source, "-k", "own or Tiny-int4", "-p", "xdist", "--recipe", "int4-rtn")
    result.assert_outcomes(passed=1, failed=1, deselected=result.parseoutcomes().get("deselected", 0))
    assert "raise QuantbenchError" in result.stdout.str()
