"""What is measured in memory: any measure that says how, not T1 alone."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from numpy.typing import NDArray

from pytest_quantbench.bench.subject import Subject
from pytest_quantbench.bench.wants import Want
from pytest_quantbench.catalog.models import user_model
from pytest_quantbench.catalog.settings import Settings
from pytest_quantbench.measures import ResidentMeasure, Trial

PROMPT, NEW_TOKENS = [5, 6, 7], 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Echoes:
    tokens: NDArray[np.int64]  # (items, NEW_TOKENS)


class EchoTrial(Trial[Echoes]):
    """The same few tokens again and again."""

    def __init__(self, engine, artifact, log):
        self.engine, self.artifact, self.log, self.done, self.model = engine, artifact, log, [], None

    def start(self):
        self.log.append(f"load {self.artifact.recipe_id}")
        self.model = self.engine.load(self.artifact, "timed")

    def finish(self, items):
        if self.model is None:
            self.start()
        while len(self.done) < (items or 1):
            self.done.append(self.model.timed(PROMPT, NEW_TOKENS).tokens)
        self.let_go()
        return Echoes(tokens=np.array(self.done))

    def let_go(self):
        self.model = None


class Echo(ResidentMeasure[Echoes]):
    name, label, version = "echo", "T5", 1
    samples = Echoes

    def __init__(self):
        self.log = []

    def work(self, inputs, items):
        return {"version": self.version, "items": items}

    def lacks(self, inputs, items, before):
        return items is not None and len(before.tokens) < items

    def trial(self, artifact, reference, inputs):
        assert reference is None  # on a CPU nothing is run beside it
        return EchoTrial(inputs.engine, artifact, self.log)


@pytest.fixture
def open_subject(small_model, tmp_path):
    model = user_model(str(small_model()))
    return lambda **changes: Subject(model, replace(Settings(cache=tmp_path / "cache"), **changes))


def test_a_measure_of_ones_own_is_taken_of_the_cell_and_its_reference(open_subject):
    echo, subject = Echo(), open_subject()
    cell = subject.cell("int4-rtn")
    found = cell.samples(echo)
    assert found.tokens.shape == (1, NEW_TOKENS)
    assert echo.log == ["load int4-rtn", "load bf16"]
    assert cell.samples(echo) is found
    np.testing.assert_array_equal(cell.raw()["echo/tokens"], found.tokens)


def test_more_items_go_on_with_the_same_trial(open_subject):
    echo, subject = Echo(), open_subject()
    cell = subject.cell("int4-rtn")
    first = cell.samples(echo)
    subject.schedule.ensure([Want(target=cell.target, measure=echo, items=3)])
    more = cell.samples(echo).tokens
    np.testing.assert_array_equal(more, np.repeat(first.tokens, 3, axis=0))  # greedily, it says the same again
    assert echo.log.count("load int4-rtn") == 2


def test_what_an_earlier_session_took_is_not_loaded_again(open_subject):
    before = open_subject().cell("int4-rtn").samples(Echo())
    echo, later = Echo(), open_subject()
    np.testing.assert_array_equal(later.cell("int4-rtn").samples(echo).tokens, before.tokens)
    assert (echo.log, later.reused[0]) == ([], f"T5 of {later.model.name}-int4-rtn")


def test_what_an_earlier_session_had_to_leave_out_is_taken_where_it_can_be(open_subject):
    class Partly(Echo):
        def lacks(self, inputs, items, before):
            return can_be_more

    can_be_more, first = False, Partly()
    open_subject().cell("int4-rtn").samples(first)
    kept = Partly()
    open_subject().cell("int4-rtn").samples(kept)
    can_be_more, more = True, Partly()
    open_subject().cell("int4-rtn").samples(more)
    assert set(more.log) == set(first.log)
    assert not kept.log


@pytest.mark.parametrize(("what", "other"), [("threads", 64), ("device_name", "another card")])
def test_what_was_timed_on_other_threads_or_another_card_is_timed_anew(open_subject, monkeypatch, what, other):
    open_subject().cell("int4-rtn").samples(Echo())
    echo, later = Echo(), open_subject()
    monkeypatch.setattr(type(later.inputs.engine), what, other)
    later.cell("int4-rtn").samples(echo)
    assert echo.log == ["load int4-rtn", "load bf16"]
    assert later.reused == []
