"""Codes and codebooks under the output error, against slow references that follow the definitions."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from pytest_quantbench.quantizers.numerics import codebook_fitting, error_feedback, vector_codes
from pytest_quantbench.quantizers.numerics.codebook_fitting import Coder
from pytest_quantbench.quantizers.numerics.vector_codes import Layout

ALONG = {
    "inputs": Layout(inputs=4, outputs=1, stages=2, width=4),
    "outputs": Layout(inputs=1, outputs=4, stages=2, width=4),
}


def matrices(outs=16, ins=24, seed=0):
    """An (out, in) weight and the Hessian of correlated inputs of very different size."""
    rng = np.random.default_rng(seed)
    inputs = rng.standard_normal((200, ins)) @ rng.standard_normal((ins, ins)) * np.exp(rng.standard_normal(ins))
    weight = 0.02 * rng.standard_normal((outs, ins))
    return weight.astype(np.float32), (inputs.T @ inputs / 200).astype(np.float32)


def setting(along, beam=16, **size):
    weight, hessian = matrices(**size)
    layout = ALONG[along]
    problem = codebook_fitting.prepare(weight, hessian, layout)
    scale = vector_codes.scales(problem.weight, rows=True)
    blocks = np.arange(len(problem.order))
    rng = np.random.default_rng(0)
    coder = codebook_fitting.start(problem, layout, blocks, scale, np.ones(len(blocks), np.float32), beam, rng)
    return problem, coder


def error_of(problem, decoded):
    error = (problem.weight - decoded).astype(np.float64)
    return float(np.einsum("io,ij,jo->", error, problem.hessian.astype(np.float64), error))


def words_of(coder):
    """Every sum of words there is: (256, 4), and its codes (256, 2)."""
    pairs = np.stack(np.divmod(np.arange(256), 16), axis=1)
    return vector_codes.lookup(pairs, coder.books), pairs


def nearest(coder, target, metric):
    """For each vector of (inputs, out) targets the best of all 256 sums, by tr(Eᵀ · metric · E) of the error it makes.

    The error is that of the decoded weights: each output's counts with its own scale.
    """
    everything, _ = words_of(coder)
    scale = np.broadcast_to(coder.scale, target.shape)
    best = np.empty(coder.codes.shape[1], int)
    for vector, first in enumerate(range(0, target.shape[1], coder.layout.outputs)):
        outputs = slice(first, first + coder.layout.outputs)
        words = everything.reshape(-1, coder.layout.inputs, coder.layout.outputs) * scale[:, outputs]
        error = target[:, outputs].astype(np.float64) - words  # (256, inputs, outputs)
        best[vector] = np.einsum("wio,ij,wjo->w", error, metric.astype(np.float64), error).argmin()
    return best


@pytest.mark.parametrize("along", ALONG)
def test_a_problem_is_the_matrix_in_another_order(along):
    weight, hessian = matrices(outs=16, ins=24)
    problem, layout = codebook_fitting.prepare(weight, hessian, ALONG[along]), ALONG[along]
    size = layout.inputs
    inputs = (problem.order[:, None] * size + np.arange(size)).ravel()
    np.testing.assert_array_equal(problem.weight * np.float32(problem.unit), weight.T[inputs])
    assert 1 <= np.abs(problem.weight).max() < 2
    damped = error_feedback.damped(hessian, codebook_fitting.DAMPING)
    np.testing.assert_allclose(problem.hessian, damped[np.ix_(inputs, inputs)], rtol=1e-6)
    sizes = np.diag(problem.hessian).reshape(-1, size).sum(1)
    assert (np.diff(sizes) <= 0).all()


def test_a_problem_is_padded_to_whole_vectors():
    weight, hessian = matrices(outs=7, ins=10)
    wide = codebook_fitting.prepare(weight, hessian, ALONG["inputs"])
    assert wide.weight.shape == (12, 7)
    assert wide.hessian.shape == (12, 12)
    assert np.linalg.eigvalsh(wide.hessian.astype(np.float64)).min() > 0
    tall = codebook_fitting.prepare(weight, hessian, ALONG["outputs"])
    assert tall.weight.shape == (10, 8)
    np.testing.assert_array_equal(tall.weight[:, 7], tall.weight[:, 0])


@pytest.mark.parametrize("loud", [0, 5])
def test_padding_counts_a_hundredth_of_an_ordinary_input_whichever_is_the_loudest(loud):
    weight, _ = matrices(ins=10)
    hessian = np.eye(10, dtype=np.float32)
    hessian[loud, loud] = 1000
    problem = codebook_fitting.prepare(weight, hessian, ALONG["inputs"])
    mean = np.trace(hessian) / 10
    assert np.sort(np.diag(problem.hessian))[:2] == pytest.approx(0.01 * mean, rel=0.05)


@pytest.mark.parametrize("value", [0.0, 1e-42, 3e38])
def test_a_problem_of_any_size_is_finite(value):
    problem = codebook_fitting.prepare(np.full((3, 8), value, np.float32), np.eye(8, dtype=np.float32), ALONG["inputs"])
    assert np.isfinite(problem.weight).all()
    assert np.abs(problem.weight).max() in (0, *np.unique(np.abs(problem.weight)))
    np.testing.assert_array_equal(problem.weight * np.float32(problem.unit), np.full((8, 3), value, np.float32))


def test_scales_are_root_mean_squares_in_bfloat16():
    weight = np.random.default_rng(0).standard_normal((64, 5)).astype(np.float32)
    weight[:, 2] = 0
    rows, one = vector_codes.scales(weight, rows=True), vector_codes.scales(weight, rows=False)
    expected = np.sqrt(np.square(weight).mean(0))
    np.testing.assert_allclose(rows[0], np.maximum(expected, vector_codes.LEAST), rtol=2**-8)
    np.testing.assert_allclose(one, [[np.sqrt(np.square(weight).mean())]], rtol=2**-8)
    assert not (rows.view(np.uint32) & 0xFFFF).any()


def test_outputs_count_as_their_scales_squared_but_none_for_more_than_sixteen():
    _, coder = setting("outputs")
    np.testing.assert_array_equal(coder.counts(), np.square(coder.scale))  # none is that much larger
    loud = replace(coder, scale=coder.scale * np.where(np.arange(16) == 5, np.float32(1000), np.float32(1)))
    ordinary = np.median(np.square(loud.scale))
    assert loud.counts()[0, 5] == 16 * ordinary
    np.testing.assert_array_equal(np.delete(loud.counts(), 5), np.delete(coder.counts(), 5))
    np.testing.assert_array_equal(loud.weights(), loud.counts().reshape(4, 4))
    assert replace(coder, scale=coder.scale[:, :1]).weights() is None


@pytest.mark.parametrize("along", ALONG)
def test_choose_takes_the_nearest_sum_of_words_in_the_metric(along):
    problem, coder = setting(along)
    size, rng = coder.layout.inputs, np.random.default_rng(1)
    target = rng.standard_normal((size, problem.weight.shape[1])).astype(np.float32)
    half = rng.standard_normal((size, size)).astype(np.float32)
    metric = half @ half.T + np.eye(size, dtype=np.float32)
    decoded = coder.choose(2, target, metric)
    everything, pairs = words_of(coder)
    best = nearest(coder, target, metric)
    np.testing.assert_array_equal(coder.codes[2], pairs[best])
    np.testing.assert_allclose(decoded, coder.layout.join(everything[best][None]) * coder.scale, rtol=1e-6)


@pytest.mark.parametrize("along", ALONG)
def test_choose_keeps_a_code_that_is_better_than_what_a_narrow_beam_finds(along):
    problem, coder = setting(along, beam=1, outs=64)
    target = problem.weight[: coder.layout.inputs]
    metric = np.eye(coder.layout.inputs, dtype=np.float32)
    wide = replace(coder, beam=16, codes=coder.codes.copy())
    best = wide.choose(0, target, metric)
    narrow = coder.choose(0, target, metric)
    assert np.square(best - target).sum() < np.square(narrow - target).sum()
    coder.codes[0] = wide.codes[0]
    np.testing.assert_array_equal(coder.choose(0, target, metric, keep=True), best)


def slow_feed(problem, coder):
    """Block after block: exhaustive search at the cost that the best later blocks leave, found by a fresh solve."""
    hessian, weight = problem.hessian.astype(np.float64), problem.weight.astype(np.float64)
    size, decoded = coder.layout.inputs, np.zeros_like(weight)
    everything, _ = words_of(coder)
    for begin in range(0, len(weight), size):
        done, here, free = slice(0, begin), slice(begin, begin + size), slice(begin + size, len(weight))
        rest = slice(begin, len(weight))
        target, metric = weight[here], hessian[here, here]
        if begin:
            shift = np.linalg.solve(hessian[rest, rest], hessian[rest, done] @ (weight[done] - decoded[done]))
            target = target + shift[:size]
        if begin + size < len(weight):
            metric = metric - hessian[here, free] @ np.linalg.solve(hessian[free, free], hessian[free, here])
        best = nearest(coder, target, metric)
        decoded[here] = coder.layout.join(everything[best][None]) * coder.scale
    return decoded


@pytest.mark.parametrize("along", ALONG)
def test_feeding_is_exhaustive_search_with_optimal_feedback(along):
    problem, coder = setting(along)
    decoded = codebook_fitting.feed(problem, problem.weight, [coder])
    np.testing.assert_allclose(decoded, coder.decoded(), rtol=1e-6)
    expected = slow_feed(problem, coder)
    assert (np.abs(decoded - expected) < 1e-5).mean() > 0.97  # float32 may fall to the other side of a near tie
    assert error_of(problem, decoded) == pytest.approx(error_of(problem, expected), rel=0.05)


@pytest.mark.parametrize("along", ALONG)
def test_descending_leaves_no_block_that_could_be_better_alone(along):
    """After enough passes, exhaustive search of any one block finds nothing."""
    problem, coder = setting(along)
    decoded = codebook_fitting.feed(problem, problem.weight, [coder])
    errors = []
    for _ in range(20):
        before = error_of(problem, decoded)
        errors.append(codebook_fitting.descend(problem, decoded, [coder]))
        assert errors[-1] == pytest.approx(before, rel=1e-4)
        np.testing.assert_allclose(decoded, coder.decoded(), rtol=1e-5, atol=1e-7)
    assert errors[1] < errors[0]
    assert all(after <= before * (1 + 1e-5) for before, after in pairwise(errors))
    everything, pairs = words_of(coder)
    for block in range(len(problem.order)):
        for vector in range(coder.codes.shape[1]):
            for word in range(0, 256, 5):
                trial = replace(coder, codes=coder.codes.copy())
                trial.codes[block, vector] = pairs[word]
                assert error_of(problem, trial.decoded()) >= errors[-1] * (1 - 1e-4)
    assert len(everything) == 256


@pytest.mark.parametrize("along", ALONG)
def test_refitted_codebooks_are_the_least_squares_solution(along, monkeypatch):
    monkeypatch.setattr(codebook_fitting, "STEPS", 400)
    problem, coder = setting(along)
    decoded = codebook_fitting.feed(problem, problem.weight, [coder])
    error = problem.weight - decoded
    codebook_fitting.refit(problem, error, [coder])
    np.testing.assert_allclose(error, problem.weight - coder.decoded(), atol=1e-5)
    # the same problem as one dense least squares: columns are what each entry of each word does to L^T Ŵ
    root = np.linalg.cholesky(problem.hessian.astype(np.float64)).T
    columns = []
    for entry in range(coder.books.size):
        unit = np.zeros(coder.books.size, np.float32)
        unit[entry] = 1
        columns.append((root @ replace(coder, books=unit.reshape(coder.books.shape)).decoded()).ravel())
    target = (root @ problem.weight).ravel()
    solution = np.linalg.lstsq(np.stack(columns, axis=1), target, rcond=None)[0]
    least = np.square(target - np.stack(columns, axis=1) @ solution).sum()
    assert error_of(problem, coder.decoded()) == pytest.approx(least, rel=1e-3)


def solved(problem, groups):
    """Coders for some blocks each, after `solve`, and the matrix that they decode to together."""
    rng, scale = np.random.default_rng(0), vector_codes.scales(problem.weight, rows=False)
    coders = [
        codebook_fitting.start(problem, layout, blocks, scale, np.ones(len(blocks), np.float32), 16, rng)
        for layout, blocks in groups
    ]
    codebook_fitting.solve(problem, coders, 2, 3, rng)
    decoded = np.empty_like(problem.weight)
    for coder in coders:
        decoded[coder.inputs] = coder.decoded()
        np.testing.assert_array_equal(coder.books, coder.books.astype(np.float16))
    return decoded


@pytest.mark.parametrize("seed", [0, 1])
def test_two_coders_share_a_matrix(seed):
    """Two of the inputs that count most get twice the bits: they are nearer, and the outputs are, than with one coder.

    Not nearer than any other input: a later one also takes up the errors of those before it.
    """
    problem, _ = setting("outputs", seed=seed)
    fine, blocks = Layout(inputs=1, outputs=2, stages=1, width=8), np.arange(len(problem.order))
    special = np.array([0, 3])
    one = solved(problem, [(ALONG["outputs"], blocks)])
    two = solved(problem, [(ALONG["outputs"], np.delete(blocks, special)), (fine, special)])
    assert error_of(problem, two) < 0.75 * error_of(problem, one)
    away_one, away_two = (np.square(problem.weight - decoded)[special].sum(1) for decoded in (one, two))
    assert (away_two < away_one / 2).all()


@pytest.mark.parametrize("along", ALONG)
def test_solving_lowers_the_error_round_by_round(along):
    errors = []
    for rounds in (0, 1, 4):
        problem, coder = setting(along, beam=4, outs=32, ins=32)
        codebook_fitting.solve(problem, [coder], 2, rounds, np.random.default_rng(0))
        errors.append(error_of(problem, coder.decoded()))
    assert errors == sorted(errors, reverse=True)


def test_codebooks_are_fitted_on_whole_vectors_of_a_sample(monkeypatch):
    monkeypatch.setattr(codebook_fitting, "SAMPLE", 10)
    outputs = codebook_fitting._sample(64, 4, np.random.default_rng(0))
    assert len(outputs) == 12
    assert (outputs.reshape(-1, 4) == outputs[::4, None] + np.arange(4)).all()
    problem, coder = setting("outputs", outs=64)
    part = coder.part(outputs)
    np.testing.assert_array_equal(part.decoded(), coder.decoded()[:, outputs])
    assert isinstance(part, Coder)
    codebook_fitting.solve(problem, [coder], 1, 1, np.random.default_rng(0))
    assert error_of(problem, coder.decoded()) < error_of(problem, np.zeros_like(problem.weight))


def test_conjugate_gradients_solve_a_linear_system():
    rng = np.random.default_rng(0)
    half = rng.standard_normal((12, 12))
    matrix, target = half @ half.T + np.eye(12), rng.standard_normal(12)
    solution = codebook_fitting.conjugate_gradients(lambda x: matrix @ x, target, np.diag(matrix), 60)
    np.testing.assert_allclose(matrix @ solution, target, atol=1e-8)
    zero = codebook_fitting.conjugate_gradients(lambda x: matrix @ x, np.zeros(12), np.diag(matrix), 5)
    np.testing.assert_array_equal(zero, 0)
