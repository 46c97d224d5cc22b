"""A model's cells in order, on the tokens that all of them have read."""

from dataclasses import replace

import numpy as np
import pytest
from builders import make_divergence, make_losses, make_record
from generated_suite import MACHINE, cells, write

from pytest_quantbench.record import folder, perplexity_summary
from pytest_quantbench.record.ranking import ALONE, rank
from pytest_quantbench.record.raw import raw
from pytest_quantbench.record.schema import NoiseFloor, read
from pytest_quantbench.report import ranks
from pytest_quantbench.stats.window_sampling import Drawn


def cell(recipe, losses, drawn=None, bits=4, **changes):
    samples = make_losses(losses, drawn=drawn, **changes)
    record = make_record(
        recipe=recipe, bits=bits, machine=MACHINE, perplexity=perplexity_summary.perplexity(samples, None)
    )
    return record, raw({"perplexity": samples})


def with_kl(measured, kl_nats):
    record, arrays = measured
    return replace(record, perplexity=replace(record.perplexity, divergence=make_divergence(kl_nats))), arrays


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
    (ranking,) = rank(tmp_path)
    assert (ranking.cells, ranking.left_out) == ((), {"Tiny-int4-a": ALONE})
    assert ranks.answer(ranking) == "Tiny: nothing to rank, since no two cells have T2 on the same text."


def test_models_are_ranked_apart_and_one_may_be_chosen(tmp_path):
    write(tmp_path, cells(models=2, recipes=("int4", "int2")))
    found = rank(tmp_path)
    assert len(found) == 2
    assert [each.model for each in rank(tmp_path, [found[1].model])] == [found[1].model]
    assert all(len(line) <= 80 for line in ranks.terminal(found))
    first = found[0].cells[0]
    assert ranks.answer(
        replace(found[0], cells=(replace(first, letters="a"), replace(found[0].cells[1], letters="b")))
    ) == (f"{found[0].model}: {first.recipe} is the best of 2 on the same 2,048 tokens of wikitext2.")


def test_lost_samples_of_the_cell_that_read_most_leave_the_others_ranked(tmp_path, shared):
    write(tmp_path, [cell("int4-a", shared), *(cell(f"int4-{n}", shared[:320] + by) for n, by in (("b", 0), ("c", 1)))])
    (tmp_path / "Tiny_4bit_a.npz").unlink()
    (ranking,) = rank(tmp_path)
    assert [each.recipe for each in ranking.cells] == ["int4-b", "int4-c"]
    assert "raw samples of Tiny-int4-a are not there" in ranking.left_out["Tiny-int4-a"]


def test_of_two_texts_the_one_that_more_cells_have_read_is_ranked_on(tmp_path, shared):
    longer = np.concatenate([shared, shared])
    other = cell("int4-a", longer, protocol_sha256="q", corpus="other", corpus_sha256="x")
    write(tmp_path, [other, cell("int4-b", shared), cell("int4-c", shared + 1)])
    (ranking,) = rank(tmp_path)
    assert ([each.recipe for each in ranking.cells], ranking.tokens) == (["int4-b", "int4-c"], 640)
    assert "different texts" in ranking.left_out["Tiny-int4-a"]


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_a_cell_whose_losses_are_no_numbers_is_named_and_the_others_ranked(tmp_path, shared, broken):
    losses = shared.copy()
    losses[3:5] = broken
    write(tmp_path, [cell("int4-a", shared), cell("int4-b", shared + 1), cell("int4-z", shared + 2)])
    record = read(tmp_path / "Tiny_4bit_z.json")
    folder.save(record, {**folder.read_arrays(record, tmp_path), "perplexity/nll_nats": losses}, tmp_path)
    (ranking,) = rank(tmp_path)
    assert [each.recipe for each in ranking.cells] == ["int4-a", "int4-b"]
    assert ranking.left_out["Tiny-int4-z"].startswith("2 of its 640 losses are infinite or no numbers")


def test_a_bad_cell_changes_nothing_between_the_others(tmp_path, shared):
    """Its own noise floor is wide, since a rerun moves a cell the more the farther it is from the reference."""
    floor = NoiseFloor(perplexity_points=0.0, kl_nats=1e-4, drop_points=0.0, flipped_points=0.0)
    good = [with_kl(cell(f"int4-{n}", noisy(shared, by, ord(n))), 0.001) for n, by in (("a", 0.0), ("b", 0.01))]
    reference = cell("bf16", shared, bits=16)
    write(tmp_path, [(replace(reference[0], noise_floor=floor, level="bf16"), reference[1]), *good])
    (ranking,) = rank(tmp_path)
    before = {each.recipe: each for each in ranking.cells}
    assert not set(before["int4-a"].letters) & set(before["int4-b"].letters)
    write(tmp_path, [with_kl(cell("int2", noisy(shared, 1.0, 2), bits=2), 9.0)])
    (ranking,) = rank(tmp_path)
    after = {each.recipe: each for each in ranking.cells}
    assert not set(after["int4-a"].letters) & set(after["int4-b"].letters)
    assert after["int4-a"].floor_nats == before["int4-a"].floor_nats == pytest.approx(1e-4 + 2 * (1e-7) ** 0.5)
    assert after["int2"].floor_nats == pytest.approx(1e-4 + 2 * 0.03)
    printed = " ".join("\n".join(ranks.terminal([ranking])).split())
    assert "A rerun may move a mean loss by 0.0001 nats (bf16) to 0.06 (int2)." in printed
