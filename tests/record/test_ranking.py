"""A model's cells in order, on the tokens that all of them have read."""

from dataclasses import replace

import numpy as np
import pytest
from builders import make_losses, make_record
from generated_suite import MACHINE, cells, write

from pytest_quantbench.record import folder, perplexity_summary
from pytest_quantbench.record.ranking import rank
from pytest_quantbench.record.raw import raw
from pytest_quantbench.report import ranks
from pytest_quantbench.stats.window_sampling import Drawn


def cell(recipe, losses, drawn=None, **changes):
    samples = make_losses(losses, drawn=drawn, **changes)
    record = make_record(
        recipe=recipe, level="int4", machine=MACHINE, perplexity=perplexity_summary.perplexity(samples, None)
    )
    return record, raw({"perplexity": samples})


@pytest.fixture
def shared():
    return np.random.default_rng(0).gamma(1.2, 1.6, 640)


def noisy(shared, nats, seed):
    return shared + np.random.default_rng(100 + seed).normal(nats, 0.02, len(shared))


def test_the_least_loss_stands_first_and_equal_ones_share_a_letter(tmp_path, shared):
    found = [
        cell(name, noisy(shared, nats, seed))
        for seed, (name, nats) in enumerate({"int4-c": 0.3, "int4-a": 0.0, "int4-b": 0.0}.items(), 1)
    ]
    write(tmp_path, found)
    (ranking,) = rank(tmp_path)
    assert ranking.tokens == 640
    *leaders, last = ranking.cells
    assert {each.name for each in leaders} == {"Tiny-int4-a", "Tiny-int4-b"}
    assert ([each.letters for each in leaders], last.letters) == (["a", "a"], "b")
    assert leaders[0].behind is None
    assert last.behind.low < 0.3 < last.behind.high


def test_cells_are_compared_on_what_all_of_them_have_read(tmp_path, shared):
    write(tmp_path, [cell("int4-a", shared), cell("int4-b", noisy(shared, 0.1, 1)[:320])])
    (ranking,) = rank(tmp_path)
    assert ranking.tokens == 320
    assert "Tiny-int4-b has read the fewest" in "\n".join(ranks.terminal([ranking])).replace("\n  ", " ")


def test_windows_are_matched_whatever_their_order(tmp_path, shared):
    counts, rows = np.full(10, 64), shared.reshape(10, 64)
    begins = np.arange(10) * 64
    one = cell("int4-a", shared, Drawn(population=99, tokens=64, begins=begins, counts=counts))
    turned = [3, 9, 1, 0, 2, 5]
    other = cell(
        "int4-b", rows[turned].reshape(-1), Drawn(population=99, tokens=64, begins=begins[turned], counts=counts[:6])
    )
    write(tmp_path, [one, other])
    (ranking,) = rank(tmp_path)
    assert ranking.tokens == 6 * 64
    assert [each.ppl for each in ranking.cells] == [pytest.approx(np.exp(rows[turned].mean()))] * 2
    assert {each.letters for each in ranking.cells} == {"a"}


def test_what_read_another_text_is_left_out_and_named(tmp_path, shared):
    other = cell("int4-c", shared, protocol_sha256="q", corpus="other", corpus_sha256="x")
    write(tmp_path, [cell("int4-a", shared), cell("int4-b", shared + 1), other])
    folder.save(make_record(recipe="int4-d", machine=MACHINE), {}, tmp_path)
    (ranking,) = rank(tmp_path)
    assert set(ranking.left_out) == {"Tiny-int4-c", "Tiny-int4-d"}
    assert "different texts" in ranking.left_out["Tiny-int4-c"]


def test_a_single_cell_is_no_ranking(tmp_path, shared):
    write(tmp_path, [cell("int4-a", shared)])
    assert rank(tmp_path) == []


def test_models_are_ranked_apart_and_one_may_be_chosen(tmp_path):
    write(tmp_path, cells(models=2, recipes=("int4", "int2")))
    found = rank(tmp_path)
    assert len(found) == 2
    assert [each.model for each in rank(tmp_path, [found[1].model])] == [found[1].model]
    assert all(len(line) <= 80 for line in ranks.terminal(found))
    first = found[0].cells[0]
    assert ranks.answer(
        replace(found[0], cells=(replace(first, letters="a"), replace(found[0].cells[1], letters="b")))
    ) == (f"{found[0].model}: {first.name} is the best of 2 on the same 2,048 tokens of wikitext2.")
