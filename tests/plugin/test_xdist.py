import pytest
from gates import GATE
from xdist.scheduler import LoadGroupScheduling

from pytest_quantbench.plugin.xdist import ByModel

MODELS = ["Tiny", "Qwen3-8B", "Qwen3-8B-int4-mine"]


def scope(config, nodeid, models=lambda: MODELS):
    """How an id is grouped, by us and by xdist."""
    options = {"tx": ["popen"], "maxschedchunk": 0}
    for name, value in options.items():
        setattr(config.option, name, value)
    return ByModel(config, None, models)._split_scope(nodeid), LoadGroupScheduling(config, None)._split_scope(nodeid)


@pytest.mark.parametrize(
    ("inside", "model"),
    [
        ("Tiny-int4", "Tiny"),
        ("Tiny-int4-rtn", "Tiny"),
        ("Tiny-bf16-90.0", "Tiny"),
        ("Qwen3-8B-int4", "Qwen3-8B"),
        ("Qwen3-8B-int4-mine-int4", "Qwen3-8B-int4-mine"),
    ],
)
def test_the_model_in_an_items_id_is_its_group(pytester, inside, model):
    assert scope(pytester.parseconfig(), f"test_gate.py::test_size[{inside}]")[0] == model


@pytest.mark.parametrize(
    "nodeid",
    [
        "test_own.py::test_it",
        "test_own.py::test_it[Tiny]",
        "test_own.py::test_it[Tiny-int48]",
        "test_own.py::test_it[their-int4]",
        "test_own.py::test_it[Tiny-int4]@theirs",
        "test_own.py::test_it@theirs",
    ],
)
def test_all_other_items_are_grouped_as_xdist_does(pytester, nodeid):
    ours, theirs = scope(pytester.parseconfig(), nodeid)
    assert ours == theirs


@pytest.mark.parametrize("nodeid", ["test_own.py::test_it", "test_own.py::test_it[3-int]", "test_own.py::test_it[a]@b"])
def test_models_are_not_asked_for_until_an_id_looks_like_a_cells(pytester, nodeid):
    scope(pytester.parseconfig(), nodeid, models=lambda: pytest.fail("asked"))


@pytest.mark.slow
def test_under_xdist_t1_refuses_and_the_rest_works(pytester):
    source = """
        def test_perplexity(cell, settle):
            delta = cell.judge("perplexity").estimate
            settle(cell.judge("perplexity", delta + 0.01))

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
    assert (outcomes["passed"], outcomes["skipped"], outcomes["undecided"]) == (1, 2, 1)
    result.stdout.fnmatch_lines(["Tiny-int4 │*", "*T1 refuses to run under pytest-xdist*"])


@pytest.mark.slow
def test_items_of_a_model_run_on_one_worker(pytester):
    source = """
        import os
        import pytest

        @pytest.mark.parametrize("number", range(4))
        @pytest.mark.quantbench(models=["Tiny", "phi-4"], recipes=["int4"])
        def test_where(quantbench_subject, cell, number):
            with open("workers", "a") as file:
                file.write(f"{cell.target.model.name} {os.environ['PYTEST_XDIST_WORKER']}\\n")
    """
    pytester.makepyfile(source)
    arguments = ("-n", "2", "--dist", "loadgroup", "--qb-disk-plan", "S", "-p", "no:cacheprovider", "-W", "ignore")
    pytester.runpytest_subprocess(*arguments)
    workers = set((pytester.path / "workers").read_text().splitlines())
    assert len(workers) == 2
    assert {line.partition(" ")[0] for line in workers} == {"Tiny", "phi-4"}
