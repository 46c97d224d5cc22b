import shutil
from types import SimpleNamespace

import pytest
from gates import GATE
from xdist.scheduler import LoadGroupScheduling

from pytest_quantbench.catalog.models import TINY_DIRECTORY
from pytest_quantbench.plugin.refusals import REFUSED
from pytest_quantbench.plugin.suite import COMMAND, typed_command
from pytest_quantbench.plugin.xdist import FOLDER, ByModel, Controller, tell_groups

OURS = "test_gate.py::test_size[Tiny-int4]"
IDS = [
    OURS,
    "test_own.py::test_it",
    "test_own.py::test_it[Tiny]",
    "test_own.py::test_it[Tiny-int4]",
    "test_own.py::test_it[Tiny-int4]@theirs",
    "test_own.py::test_it@theirs",
]


@pytest.fixture
def config(pytester):
    """As pytest-xdist's controller has it."""
    config = pytester.parseconfig("-n", "2", "--dist", "loadgroup", "-p", "xdist")
    config.option.tx = ["popen"]
    return config


def item(nodeid, *groups, ours=True):
    marks = [
        pytest.mark.xdist_group(name=group).mark if group == "mine" else pytest.mark.xdist_group(group).mark
        for group in groups
    ]
    fixtures = ["quantbench_run"] if ours else ["tmp_path"]
    return SimpleNamespace(nodeid=nodeid, fixturenames=fixtures, iter_markers=lambda name: iter(marks))


@pytest.mark.parametrize("nodeid", IDS)
def test_items_go_together_as_workers_say_and_all_others_as_xdist_has_them(config, nodeid):
    theirs = LoadGroupScheduling(config, None)._split_scope(nodeid)
    ours = ByModel(config, None, lambda: {OURS: "Tiny"})._split_scope(nodeid)
    assert ours == ("Tiny" if nodeid == OURS else theirs)


def test_the_controller_reads_what_a_worker_told(config):
    controller, node = Controller(config), SimpleNamespace(workerinput={"workerid": "gw1"})
    controller.pytest_configure_node(node)
    items = [
        item(OURS, "Tiny"),
        item("test_gate.py::test_two[Tiny-int4]", "Tiny", "mine"),
        item("test_gate.py::test_suite[int4]"),
        item("test_own.py::test_it[Tiny-int4]", "theirs", ours=False),
    ]
    tell_groups(SimpleNamespace(workerinput=node.workerinput), items)
    scheduler = controller.pytest_xdist_make_scheduler(config, None)
    scopes = [scheduler._split_scope(each.nodeid) for each in items]
    assert scopes == ["Tiny", "Tiny_mine", items[2].nodeid, items[3].nodeid]


def test_a_worker_is_told_what_the_user_typed(config):
    node = SimpleNamespace(workerinput={"workerid": "gw1"})
    Controller(config).pytest_configure_node(node)
    worker = SimpleNamespace(workerinput=node.workerinput, invocation_params=SimpleNamespace(args=("other",)))
    told = typed_command(worker)
    assert told == typed_command(config)
    assert told.startswith("pytest -n 2 --dist loadgroup -p xdist")


def test_a_worker_that_does_not_see_the_folder_tells_nothing(tmp_path):
    given = {FOLDER: str(tmp_path / "elsewhere"), "workerid": "gw0"}
    tell_groups(SimpleNamespace(workerinput=given), [item(OURS, "Tiny")])
    assert list(tmp_path.iterdir()) == []


def test_without_groups_xdist_shares_out_by_itself(pytester):
    config = pytester.parseconfig("-n", "2", "-p", "xdist")
    controller, node = Controller(config), SimpleNamespace(workerinput={})
    controller.pytest_configure_node(node)
    assert set(node.workerinput) == {COMMAND}
    assert controller.pytest_xdist_make_scheduler(config, None) is None


@pytest.mark.slow
def test_under_xdist_t1_refuses_and_the_rest_works(pytester):
    source = """
        import dataclasses

        def test_perplexity(cell, settle):
            delta = cell.judge("perplexity").estimate
            settle(cell.judge("perplexity", delta + 0.01))

        def test_better(cell, settle):
            settle(dataclasses.replace(cell.judge("size"), outcome="anomalous"))

        def test_all(suite, settle):
            settle(suite)

        @pytest.mark.t1
        def test_speed(cell):
            raise AssertionError
    """
    pytester.makepyfile(GATE + pytest.importorskip("textwrap").dedent(source))
    arguments = ("-n", "1", "-k", "Tiny", "-m", "int4", "-rs", "-W", "ignore", "-p", "no:cacheprovider", "--fixed")
    result = pytester.runpytest_subprocess(*arguments)
    outcomes = result.parseoutcomes()
    assert (outcomes["passed"], outcomes["skipped"]) == (1, 2)
    assert (outcomes["undecided"], outcomes["anomalous"]) == (1, 1)
    result.stdout.fnmatch_lines(["  int4 *", "*T1 refuses to run under pytest-xdist*"])


@pytest.mark.slow
def test_items_of_a_model_run_on_one_worker(pytester):
    source = """
        import os
        import pytest

        @pytest.mark.parametrize("number", range(4))
        @pytest.mark.quantbench(models=["Tiny", "Other"], recipes=["int4"])
        def test_where(quantbench_subject, cell, number):
            with open("workers", "a") as file:
                file.write(f"{cell.target.model.name} {os.environ['PYTEST_XDIST_WORKER']}\\n")
    """
    pytester.makepyfile(source)
    shutil.copytree(TINY_DIRECTORY, pytester.path / "Other")
    arguments = ("-n", "2", "--dist", "loadgroup", "--qb-model", "Other", "-p", "no:cacheprovider", "-W", "ignore")
    pytester.runpytest_subprocess(*arguments)
    workers = set((pytester.path / "workers").read_text().splitlines())
    assert len(workers) == 2
    assert {line.partition(" ")[0] for line in workers} == {"Tiny", "Other"}


def test_the_controller_says_why_a_worker_refused(config):
    node = SimpleNamespace(workeroutput={REFUSED: "too little disk"})
    with pytest.raises(pytest.UsageError, match="too little disk"):
        Controller(config).pytest_testnodedown(node)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("-m", "int5"), "Unknown marker 'int5'"),
        (("-k", "Tiny", "--qb-results", "test_refused.py"), "test_refused.py"),  # a file, where a folder must be
    ],
)
def test_what_workers_refuse_is_told_as_without_them(options, words, pytester):
    pytester.makepyfile(test_refused="def test_it(cell): pass")
    result = pytester.runpytest_subprocess("-n", "2", *options, "-p", "no:cacheprovider", "-W", "ignore")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    (line,) = [line for line in result.errlines if line.startswith("ERROR")]
    assert words in line
    assert "INTERNALERROR" not in result.stdout.str()
