"""The fixtures: `cell`, what a test judges; `suite`, the verdict over models; `settle`, verdict to outcome.

Registered by the plugin, and as light as it: everything else is imported when a test asks for a cell.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from pytest_quantbench.plugin.items import parameters

if TYPE_CHECKING:
    from pytest_quantbench.bench.cell import Cell, Subject
    from pytest_quantbench.bench.selftest import Finding
    from pytest_quantbench.judge.verdict import Verdict
    from pytest_quantbench.plugin.run import Run
    from pytest_quantbench.record.schema import Record
    from pytest_quantbench.record.suite import SuiteVerdict
    from pytest_quantbench.workbench.side_by_side import CodecFigures

OUTCOME = "quantbench_outcome"
CODEC_SIZES = (64, 256)  # `quantbench weights` takes others


def run_of(config: pytest.Config) -> Run:
    """This session's Run, made from the options and `[tool.quantbench]` when first asked for."""
    from pytest_quantbench.plugin import run as selection

    return selection.run_of(config)


@pytest.fixture(scope="session")
def quantbench_subject(request: pytest.FixtureRequest) -> Iterator[Subject]:
    """A model of the catalogue or the user's own, fetched when a measure first needs it."""
    from pytest_quantbench.bench.cell import Subject
    from pytest_quantbench.fetch.download import in_use
    from pytest_quantbench.storage import cache
    from pytest_quantbench.storage.locks import shared

    run = run_of(request.config)
    subject = Subject(request.param, run.settings)
    subject.expect(run.expected.get(request.param.name, ()))
    with shared(cache.in_use(run.settings.cache), f"working in {run.settings.cache}"), ExitStack() as working:
        working.enter_context(in_use(request.param))
        run.models_in_use[subject.model.name] = subject, working
        yield subject
        close_model(request.session, subject.model.name)  # of a session that was stopped, else it is done already


@pytest.fixture(scope="session")
def cell(request: pytest.FixtureRequest, quantbench_subject: Subject) -> Iterator[Cell]:
    """One model × one recipe. What was measured of it is written to the results folder when its last test is done."""
    opened = quantbench_subject.cell(request.param)
    run_of(request.config).opened[opened.id] = opened
    yield opened
    close_cell(request.config, opened.id)


def close_after(item: pytest.Item, following: pytest.Item | None) -> None:
    """Close the cell and the model of an item that no item behind it needs any more: the next one that has a cell has
    another.
    """
    items = item.session.items
    behind = items[items.index(following) :] if following in items else []
    needed, wanted = parameters(item), next(filter(None, map(parameters, behind)), None)
    if needed is None:
        return
    (model, recipe), (next_model, next_recipe) = needed, wanted or (None, None)
    with ExitStack() as closing:  # all of it, whatever one of them raises
        if next_model is not model:
            closing.callback(close_model, item.session, model.name)
        if next_model is not model or next_recipe != recipe:
            closing.callback(close_cell, item.config, f"{model.name}-{recipe.id}")


def close_cell(config: pytest.Config, name: str) -> None:
    """Write what was measured of a cell and let its samples go: a session goes over many models."""
    opened = run_of(config).opened.pop(name, None)
    if opened is not None:
        _save(config, opened)


def close_model(session: pytest.Session, name: str) -> None:
    """Write the reference's record, which others' measures may have needed, and delete what a disk plan deletes."""
    run = run_of(session.config)
    if name not in run.models_in_use:
        return
    subject, working = run.models_in_use.pop(name)
    with working:
        run.reused += subject.reused
        _save(session.config, subject.reference)
    if session.exitstatus == pytest.ExitCode.OK and not (session.shouldstop or session.shouldfail):
        run.freed += subject.delete_weights()  # a session that was stopped goes on here next time


def _save(config: pytest.Config, opened: Cell) -> None:
    """Write what was measured of a cell, unless that is written already."""
    from pytest_quantbench.record import folder

    run = run_of(config)
    if opened.unsaved and not run.selftests:  # a self-test's samples are not a benchmark's
        run.written.append(folder.save(opened.record(), opened.raw(), run.settings.results))
        opened.saved()


@pytest.fixture
def quantbench_codec(request: pytest.FixtureRequest) -> list[CodecFigures]:
    """One quantizer at all its widths on synthetic matrices; the figures also go to `codecs/` in the results folder."""
    from pytest_quantbench.workbench import figures, matrices, side_by_side

    rows = [
        side_by_side.compare(name, width, quantizer, case)
        for case in matrices.synthetic(CODEC_SIZES)
        for name, width, quantizer in side_by_side.methods([request.param])
    ]
    figures.add(rows, run_of(request.config).settings.results / "codecs")
    return rows


@pytest.fixture(scope="session")
def selftest(request: pytest.FixtureRequest, cell: Cell) -> list[Finding]:
    """What the checks say of a cell's model under known damage; the table also goes to the results folder."""
    from pytest_quantbench.bench.selftest import as_table, findings
    from pytest_quantbench.report import tables
    from pytest_quantbench.storage.files import write_atomically

    found = list(findings(cell))
    run, lines = run_of(request.config), tables.table(*as_table(found))
    run.selftests += lines
    write_atomically(run.settings.results / f"selftest_{cell.id}.md", "\n".join([*lines, ""]).encode())
    return found


@pytest.fixture
def quantbench_records(request: pytest.FixtureRequest) -> list[Record]:
    """The records that this session has written so far."""
    if hasattr(request.config, "workerinput"):
        pytest.skip("under pytest-xdist no worker sees all models; the summary and `quantbench report` say it")
    from pytest_quantbench.record.schema import read

    run = run_of(request.config)
    for opened in run.opened.values():  # the last cell's own teardown is still to come
        _save(request.config, opened)
    return [read(path) for path in dict.fromkeys(run.written)]


@pytest.fixture
def suite(request: pytest.FixtureRequest, quantbench_records: list[Record]) -> SuiteVerdict:
    """The verdict over all models of one recipe, by its level's criterion."""
    from pytest_quantbench.record.suite import judge_suite

    if not any(record.recipe == request.param for record in quantbench_records):
        pytest.skip(f"no cell of {request.param} was measured in this session")
    return judge_suite(request.param, quantbench_records)


@pytest.fixture
def settle(request: pytest.FixtureRequest) -> Callable[[Verdict | SuiteVerdict], None]:
    """Turn a verdict into the test's outcome: fail fails with one sentence, undecided is an outcome of its own."""
    run = run_of(request.config)

    def settle_it(verdict: Verdict | SuiteVerdict) -> None:
        from pytest_quantbench.report.terminal import explain

        failed = verdict.outcome == "fail" or (verdict.outcome == "undecided" and run.undecided_fails)
        request.node.user_properties.append((OUTCOME, verdict.outcome))
        if failed:
            pytest.fail(f"{verdict.outcome}: {explain(verdict)}", pytrace=False)

    return settle_it
