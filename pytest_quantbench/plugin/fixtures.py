"""The fixtures: `cell`, what a test judges; `suite`, the verdict over models; `settle`, verdict to outcome.

Registered by the plugin, and as light as it: everything else is imported when a test asks for a cell.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_quantbench.bench.cell import Cell
    from pytest_quantbench.bench.selftest import Finding
    from pytest_quantbench.bench.subject import Subject
    from pytest_quantbench.judge.verdict import Verdict
    from pytest_quantbench.measures.load.samples import LoadSamples
    from pytest_quantbench.measures.runtime.samples import RuntimeSamples
    from pytest_quantbench.plugin.run import Run
    from pytest_quantbench.record.schema import Record
    from pytest_quantbench.record.suite import SuiteVerdict
    from pytest_quantbench.workbench.side_by_side import CodecFigures

CODEC_SIZES = (64, 256)  # `quantbench weights` takes others


@pytest.fixture(scope="session")
def quantbench_run(request: pytest.FixtureRequest) -> Run:
    """This session's options, choice and results. Every fixture here stands on it: by its name the plugin tells items
    of ours from others.
    """
    from pytest_quantbench.plugin.run import run_of

    return run_of(request.config)


@pytest.fixture(scope="session")
def quantbench_subject(request: pytest.FixtureRequest, quantbench_run: Run) -> Iterator[Subject]:
    """A model of the catalogue or the user's own, fetched when a measure first needs it."""
    from pytest_quantbench.bench.subject import Subject
    from pytest_quantbench.fetch.download import in_use
    from pytest_quantbench.plugin.closing import close_model
    from pytest_quantbench.storage import cache
    from pytest_quantbench.storage.locks import shared

    subject, folder = Subject(request.param, quantbench_run.settings), quantbench_run.settings.cache
    subject.expect(quantbench_run.expected.get(request.param.name, ()))
    with shared(cache.in_use(folder), f"working in {folder}"), ExitStack() as working:
        working.enter_context(in_use(request.param))
        quantbench_run.models_in_use[subject.model.name] = subject, working
        yield subject
        close_model(request.session, subject.model.name)  # of a session that was stopped, else it is done already


@pytest.fixture(scope="session")
def cell(request: pytest.FixtureRequest, quantbench_subject: Subject, quantbench_run: Run) -> Iterator[Cell]:
    """One model × one recipe. What was measured of it is written to the results folder when its last test is done."""
    from pytest_quantbench.plugin.closing import close_cell

    quantbench_subject.refuse_strangers([each.recipe for each in quantbench_run.candidates])
    opened = quantbench_subject.cell(request.param)
    quantbench_run.opened[opened.id] = opened
    yield opened
    close_cell(quantbench_run, opened.id)


@pytest.fixture
def deployed(cell: Cell) -> RuntimeSamples:
    """A candidate's files on the runtime that they are made for: its losses on T2's tokens, and its times."""
    runtime = cell.runtime
    if runtime is None:
        pytest.skip("no runtime is known here for files of this format: T2 and T3 judge what they hold")
    if runtime.missing:
        pytest.skip(runtime.missing)
    found: RuntimeSamples = cell.samples("runtime")
    return found


@pytest.fixture
def loading(cell: Cell) -> LoadSamples:
    """A cell's files, loaded again and again in fresh processes."""
    from pytest_quantbench.measures.load.measure import LOAD

    if lacking := LOAD.lacks(cell.artifact):
        pytest.skip(lacking)
    found: LoadSamples = cell.samples("load")
    return found


@pytest.fixture
def quantbench_codec(request: pytest.FixtureRequest, quantbench_run: Run) -> list[CodecFigures]:
    """One quantizer at all its widths on synthetic matrices; the figures also go to `codecs/` in the results folder."""
    from pytest_quantbench.workbench import codec_report, matrices, side_by_side

    rows = [
        side_by_side.compare(name, width, quantizer, case)
        for case in matrices.synthetic(CODEC_SIZES)
        for name, width, quantizer in side_by_side.methods([request.param])
    ]
    codec_report.add(rows, quantbench_run.settings.results / "codecs")
    return rows


@pytest.fixture(scope="session")
def selftest(cell: Cell, quantbench_run: Run) -> list[Finding]:
    """What the checks say of a cell's model under known damage; the table also goes to the results folder."""
    from pytest_quantbench.bench.selftest import as_table, findings
    from pytest_quantbench.report import markdown_table
    from pytest_quantbench.storage.files import write_atomically

    found = list(findings(cell))
    lines = markdown_table.table(*as_table(found))
    quantbench_run.selftests += lines
    write_atomically(quantbench_run.settings.results / f"selftest_{cell.id}.md", "\n".join([*lines, ""]).encode())
    return found


@pytest.fixture
def quantbench_records(request: pytest.FixtureRequest, quantbench_run: Run) -> list[Record]:
    """The records that this session has written so far."""
    if hasattr(request.config, "workerinput"):
        pytest.skip("under pytest-xdist no worker sees all models; the summary and `quantbench report` say it")
    from pytest_quantbench.plugin.closing import save
    from pytest_quantbench.record.schema import read

    for opened in quantbench_run.opened.values():  # the last cell's own teardown is still to come
        save(quantbench_run, opened)
    return [read(path) for path in dict.fromkeys(quantbench_run.written)]


@pytest.fixture
def suite(request: pytest.FixtureRequest, quantbench_records: list[Record]) -> SuiteVerdict:
    """The verdict over all models of one recipe, by its level's criterion."""
    from pytest_quantbench.record.suite import judge_suite

    if not any(record.recipe == request.param for record in quantbench_records):
        pytest.skip(f"no cell of {request.param} was measured in this session")
    return judge_suite(request.param, quantbench_records)


@pytest.fixture
def settle(
    request: pytest.FixtureRequest, quantbench_run: Run
) -> Callable[[Verdict | SuiteVerdict | Sequence[Verdict]], None]:
    """Turn a verdict, or several, into the test's outcome, which is the worst of theirs: fail fails with a sentence for
    each that did not pass, what is worse than the baseline with another; undecided and anomalous are outcomes of their
    own.
    """
    from pytest_quantbench.judge.verdict import Verdict
    from pytest_quantbench.plugin.option_names import as_typed
    from pytest_quantbench.plugin.outcomes import NEITHER, OUTCOME
    from pytest_quantbench.plugin.telling import settled
    from pytest_quantbench.record.suite import severity
    from pytest_quantbench.report import junit
    from pytest_quantbench.report.terminal import explain

    def settle_it(verdicts: Verdict | SuiteVerdict | Sequence[Verdict]) -> None:
        several = sorted(verdicts if isinstance(verdicts, Sequence) else [verdicts], key=severity)
        worst = several[0].outcome
        request.node.user_properties.append((OUTCOME, worst))
        for each in several:
            request.node.user_properties += junit.properties(each)
            settled(request.node, each)
        failed = worst == "fail" or (worst in NEITHER and quantbench_run.undecided_fails)
        told = [f"{each.outcome}: {explain(each)}" for each in several if failed and each.outcome in ("fail", *NEITHER)]
        for each in several:
            if isinstance(each, Verdict):
                baseline = quantbench_run.settings.baseline
                told += [f"regression against the baseline {baseline}: {one.sentence}" for one in each.regressions]
        if told:
            pytest.fail(as_typed(request.config, "\n".join(told)), pytrace=False)

    return settle_it
