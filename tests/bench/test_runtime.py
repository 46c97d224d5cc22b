"""A candidate on its own runtime, through the bench: MLX's files by mlx-lm, beside T2 of their decoded weights."""

import dataclasses

import numpy as np
import pytest
from mlx_models import as_mlx

from pytest_quantbench.bench.subject import Subject
from pytest_quantbench.catalog.candidates import Candidate
from pytest_quantbench.catalog.corpora import PROMPTS
from pytest_quantbench.catalog.models import TINY_DIRECTORY, user_model
from pytest_quantbench.catalog.recipes import recipe_of_candidate
from pytest_quantbench.catalog.settings import Settings
from pytest_quantbench.engines.runtimes.process import Process
from pytest_quantbench.measures.perplexity.measure import PERPLEXITY

CANDIDATE = "q4"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return as_mlx(TINY_DIRECTORY, tmp_path_factory.mktemp("candidates") / CANDIDATE, bits=4)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("samples")


@pytest.fixture(scope="module")
def cell(folder, cache):
    return cell_in(cache, folder)


def cell_in(cache, folder):
    model = dataclasses.replace(user_model(str(TINY_DIRECTORY)), corpus="tiny-heldout")
    subject = Subject(model, Settings(cache=cache, tokens=96, context=64, stride=32, runs=1, new_tokens=4))
    return subject.cell(recipe_of_candidate(Candidate(name=CANDIDATE, source=str(folder)), 4.5))


@pytest.mark.slow
def test_file_error_and_engine_error_stand_in_the_record(cell):
    found = cell.samples("runtime")
    assert (cell.runtime.name, found.runtime) == ("mlx-lm", "mlx-lm")
    assert len(found.nll_nats) == 96
    assert len(found.runs) == len(PROMPTS)
    losses, before = (cell.schedule.samples.need(each, PERPLEXITY) for each in (cell.target, cell.target.reference))
    part = cell.record().runtime
    assert part.tokens == 96
    assert part.file_error.mean_nats == pytest.approx(float((losses.nll_nats - before.nll_nats).mean()), abs=1e-6)
    assert part.engine_error.mean_nats == pytest.approx(float((found.nll_nats - losses.nll_nats).mean()), abs=1e-6)
    # one and the same weights: sums in bfloat16, as MLX has them on a CPU, move them less than four bits did
    assert 0 < part.engine_error.rms_nats < float(np.sqrt(np.square(losses.nll_nats - before.nll_nats).mean()))
    assert part.engine_error.same_top.estimate > 0.7
    assert 0 < part.walk_kl_nats < part.kl_nats < 5 * part.walk_kl_nats
    assert "activations in" in part.how
    assert cell.raw()["runtime/nll_nats"].shape == (96,)


@pytest.mark.slow
def test_what_was_run_once_is_taken_from_there(cell, folder, cache, monkeypatch):
    before = cell.samples("runtime")
    monkeypatch.setattr(Process, "ask", lambda *_: pytest.fail("a process was asked"))
    later = cell_in(cache, folder)
    after = later.samples("runtime")
    np.testing.assert_array_equal(after.nll_nats, before.nll_nats)
    np.testing.assert_array_equal(after.load_seconds, before.load_seconds)


def test_what_is_no_candidate_has_no_runtime(cell):
    reference = Subject("Tiny", cell.schedule.inputs.settings).reference
    assert reference.runtime is None
    assert reference.samples("runtime") is None
