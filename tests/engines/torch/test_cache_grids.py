"""What a cache gives back, computed on tensors, against its definition in numpy: bit for bit."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from pytest_quantbench.engines import held_caches
from pytest_quantbench.engines.batches import PADDING
from pytest_quantbench.engines.torch.cache_grids import given_back
from pytest_quantbench.quantizers.kv.grid import Grid
from pytest_quantbench.quantizers.kv.protocol import CacheForm, Stage

pytestmark = pytest.mark.unit
POSITIONS = np.array([np.arange(11), [0, 1, 2, 2**30, *range(3, 9), 2**30]])
GRIDS = [
    *(Grid(bits=bits, group=group, kind=kind) for bits in (2, 4, 8) for group in (8, 16) for kind in ("mlx", "range")),
    *(Grid(bits=bits, group=5, kind=kind) for bits in (2, 8) for kind in ("symmetric", "range")),
    *(Grid(bits=bits, group=4, kind=kind, along="tokens") for bits in (2, 4, 8) for kind in ("symmetric", "range")),
    Grid(bits=1, group=8),
]


def drawn(scale=1.0):
    numbers = np.random.default_rng(0).standard_normal((2, 3, 11, 16)).astype(np.float32) * np.float32(scale)
    numbers[0, 0, :, 3] *= 40  # an outlier channel
    numbers[0, 1, 2] = 0
    numbers[1, 2, 4] = 1.5
    return numbers


def form_of(rounding, **how):
    stages = (Stage(rounding=rounding, chunk=rounding.token_group),)
    return CacheForm(keys=stages, values=stages, **how)


@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.parametrize("scale", [1.0, 1e-9, 1e6])
def test_a_grid_gives_back_what_its_definition_does(grid, scale):
    form, numbers = form_of(grid), drawn(scale)
    expected = held_caches.given_back(form, "keys", 0, numbers, POSITIONS)
    found = given_back(form, "keys", 0, torch.from_numpy(numbers), POSITIONS).numpy()
    there = POSITIONS < PADDING
    assert np.array_equal(found.swapaxes(1, 2)[there], expected.swapaxes(1, 2)[there])


@pytest.mark.parametrize("kind", ["range", "symmetric", "mlx"])
@pytest.mark.parametrize("bits", [2, 3, 8])
def test_a_grid_is_its_definition_over_many_groups(kind, bits):
    """100,000 of them: a scale whose last bit in float32 is another one is seldom another in float16."""
    numbers = np.random.default_rng(1).standard_normal((1, 4, 6250, 16)).astype(np.float32)
    form, places = form_of(Grid(bits=bits, group=4, kind=kind)), np.arange(6250)[None]
    expected = held_caches.given_back(form, "keys", 0, numbers, places)
    assert np.array_equal(given_back(form, "keys", 0, torch.from_numpy(numbers), places).numpy(), expected)


def test_rotated_keys_come_back_to_within_a_step_that_float32_moves():
    form, numbers = form_of(Grid(bits=4, group=16), rotates=True), drawn()
    expected = held_caches.given_back(form, "keys", 0, numbers, POSITIONS)
    found = given_back(form, "keys", 0, torch.from_numpy(numbers), POSITIONS).numpy()
    there = POSITIONS < PADDING
    differences = np.abs(found - expected).swapaxes(1, 2)[there]
    assert np.quantile(differences, 0.95) < 1e-4
    values = given_back(form, "values", 0, torch.from_numpy(numbers), POSITIONS).numpy()
    assert np.array_equal(values[0], held_caches.given_back(form, "values", 0, numbers, POSITIONS)[0])  # not rotated


class Halved:
    """A rounding that no engine knows."""

    token_group, looks = 1, True

    def rounded(self, numbers, queries=None, keys=None):
        return numbers / 2 + queries[: len(numbers)] + keys

    def stored_bits(self, tokens, channels):
        return 0.0


def test_any_other_rounding_is_computed_in_numpy_in_the_type_of_the_states():
    numbers = torch.from_numpy(drawn()).bfloat16()
    form, positions = form_of(Halved()), np.tile(np.arange(11), (2, 1))
    found = given_back(form, "values", 0, numbers, positions, 3 * numbers, 5 * numbers)
    assert found.dtype == torch.bfloat16
    expected = numbers.float() / 2 + (3 * numbers).float() + (5 * numbers).float()
    assert torch.equal(found, expected.bfloat16())


def test_what_a_stage_leaves_as_it_is_is_handed_back():
    numbers = torch.from_numpy(drawn())
    assert given_back(CacheForm(keys=(Stage(rounding=None),), values=()), "keys", 0, numbers, POSITIONS) is numbers
