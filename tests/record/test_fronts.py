"""Where cells stand: paired on the same tokens where that can be done, else by their intervals."""

from dataclasses import replace

import numpy as np
import pytest
from builders import make_divergence, make_losses, make_perplexity, make_record
from generated_suite import MACHINE
from generated_suite import cells as generated

from pytest_quantbench.record import fronts, noise_floor, perplexity_summary
from pytest_quantbench.record.publication_schema import Cost
from pytest_quantbench.record.schema import Compression, NoiseFloor
from pytest_quantbench.stats.estimates import Interval

TOKENS = 4096


def compression(size):
    return Compression(
        original_gb=16,
        compressed_gb=size,
        ratio=size / 16,
        times_smaller=16 / size,
        time_sec=1,
        bits_per_weight=size,
        inner_bits_per_weight=size,
        outer_bits_per_weight=size,
        quantized_fraction=1,
    )


def cell(recipe, size, losses, reference, **changes):
    samples = make_losses(losses)
    record = make_record(
        recipe=recipe,
        machine=MACHINE,
        compression=compression(size),
        perplexity=replace(perplexity_summary.perplexity(samples, make_losses(reference)), **changes),
    )
    return record, {"perplexity/nll_nats": samples.nll_nats}


@pytest.fixture(scope="module")
def pair():
    """Two cells whose losses differ by little, beside what both have in common."""
    rng = np.random.default_rng(1)
    reference = rng.gamma(1.2, 1.6, TOKENS)
    noise = rng.normal(0, 0.3, TOKENS)
    small = cell("small", 4.0, reference + 0.1 + noise, reference)
    large = cell("large", 5.0, reference + 0.104 + noise + rng.normal(0, 0.02, TOKENS), reference)
    return small, large


def words(placed):
    return {each.record.recipe: each.word for each in placed}


def test_on_the_same_tokens_a_small_difference_is_beyond_doubt(pair):
    found = fronts.front(pair)
    assert words(found) == {"small": "on the front", "large": "dominated beyond doubt"}
    assert found[1].by == "small"
    assert found[1].p < 0.05
    assert found[1].cost == fronts.exactly(5.0)
    assert found[1].loss == pair[1][0].perplexity.delta_interval


@pytest.mark.parametrize("lost", ["arrays", "protocol"])
def test_by_intervals_alone_it_is_not(pair, lost):
    small, large = pair
    if lost == "arrays":
        large = large[0], {}
    else:
        large = replace(large[0], perplexity=replace(large[0].perplexity, protocol_sha256="other")), large[1]
    assert words(fronts.front([small, large]))["large"] == "dominated by the estimate"


def test_a_shorter_reading_is_compared_on_its_own_tokens(pair):
    small, large = pair
    shorter = large[0], {"perplexity/nll_nats": large[1]["perplexity/nll_nats"][: TOKENS // 2]}
    assert words(fronts.front([small, shorter]))["large"] == "dominated beyond doubt"


def test_equal_losses_are_no_reason(pair):
    small, _ = pair
    same = replace(small[0], recipe="same"), small[1]
    assert set(words(fronts.front([small, same])).values()) == {"on the front"}


def test_windows_that_were_drawn_are_compared_as_such(pair):
    small, large = (
        (
            replace(record, perplexity=replace(record.perplexity, sampling="windows", text_windows=640, windows=64)),
            arrays | {"perplexity/window_begins": np.arange(64) * 640, "perplexity/window_counts": np.full(64, 64)},
        )
        for record, arrays in pair
    )
    assert words(fronts.front([small, large]))["large"] == "dominated beyond doubt"
    elsewhere = large[0], large[1] | {"perplexity/window_begins": np.arange(64) * 640 + 1}
    assert words(fronts.front([small, elsewhere]))["large"] == "dominated by the estimate"


def test_divergences_stand_in_for_perplexities():
    found = [(record, arrays) for record, arrays in generated(1) if record.level in ("int4", "int3")]
    placed = fronts.front(found, "kl")
    assert {each.loss.estimate for each in placed} == {record.perplexity.divergence.kl_nats for record, _ in found}
    assert "on the front" in words(placed).values()


def test_the_price_is_an_axis_too(pair):
    def priced(record, low, high):
        price = Interval(estimate=(low + high) / 2, low=low, high=high)
        return replace(record, cost=Cost(price_per_hour=1, currency="EUR", per_million_tokens=price, compression=0))

    (small, arrays), (large, other) = pair
    cheap, dear = priced(small, 1, 1.1), priced(large, 1.5, 1.6)
    found = fronts.front([(cheap, arrays), (dear, other)], cost="price")
    assert words(found) == {"small": "on the front", "large": "dominated beyond doubt"}
    vague = priced(large, 0.5, 1.9)
    assert words(fronts.front([(cheap, arrays), (vague, other)], cost="price"))["large"] == "dominated by the estimate"


def test_cells_without_a_figure_and_references_are_left_out(pair):
    bare = make_record(perplexity=make_perplexity())
    assert fronts.front([(bare, {}), (replace(pair[0][0], level="bf16"), {}), (make_record(), {})]) == []
    assert fronts.cost_of(bare, "price") is None


def test_without_intervals_and_samples_nothing_is_beyond_doubt(pair):
    """Two losses of which the errors are unknown are not two exact ones, however far apart they are."""
    for losses in ((0.1, 0.1001), (0.1, 5.0)):
        alone = [
            (replace(record, perplexity=replace(record.perplexity, delta=loss, delta_interval=None)), {})
            for (record, _), loss in zip(pair, losses, strict=True)
        ]
        placed = fronts.front(alone)
        assert words(placed) == {"small": "on the front", "large": "dominated by the estimate"}
        assert [each.p for each in placed] == [1.0, 1.0]


def moved(pair, nats):
    """The larger of two cells with the losses of the smaller one, all of them higher by so much, and its own noise."""
    (small, arrays), (large, _) = pair
    noise = np.random.default_rng(5).normal(0, nats / 4, TOKENS)
    higher = arrays["perplexity/nll_nats"] + nats + noise - noise.mean()
    return [(small, arrays), (large, {"perplexity/nll_nats": higher})]


def test_what_another_order_of_summing_changes_is_not_beyond_doubt(pair):
    """2e-6 nats are below what the order of summing in float32 changes; 2e-4 are not, without any other noise."""
    assert words(fronts.front(moved(pair, 2e-4)))["large"] == "dominated beyond doubt"
    assert words(fronts.front(moved(pair, 2e-6)))["large"] != "dominated beyond doubt"


def test_the_noise_floor_of_the_reference_is_what_a_loss_has_to_be_beyond(pair):
    noise = NoiseFloor(perplexity_points=0.0, kl_nats=1e-4, drop_points=0.0, flipped_points=0.0)
    reference = make_record(level="bf16", recipe="bf16", machine=MACHINE, noise_floor=noise), {}
    assert words(fronts.front([reference, *moved(pair, 1e-4)]))["large"] != "dominated beyond doubt"
    assert words(fronts.front([reference, *moved(pair, 1e-3)]))["large"] == "dominated beyond doubt"


@pytest.mark.parametrize("quality", ["delta", "kl"])
def test_equal_cells_that_a_rerun_moved_are_called_dominated_in_at_most_five_percent(pair, quality):
    """Each is moved by up to its own floor, as far apart as may be, which no interval sees."""
    noise = NoiseFloor(perplexity_points=0.0, kl_nats=1e-4, drop_points=0.0, flipped_points=0.0)
    reference = make_record(level="bf16", recipe="bf16", machine=MACHINE, noise_floor=noise), {}
    none = make_divergence(0.0)
    records = [replace(each, perplexity=replace(each.perplexity, divergence=none)) for each, _ in pair]
    rng, repeats, called, without = np.random.default_rng(6), 200, 0, 0
    name, floor = fronts.ARRAYS[quality], noise_floor.floor_nats(noise, 0.0, None, "float32")
    for _ in range(repeats):
        shared = rng.gamma(1.2, 1.6, 1024)
        down, up = (shared + by + rng.normal(0, 1e-3, 1024) for by in (-floor, floor))
        arrays = [{"perplexity/nll_nats": losses, name: losses} for losses in (down, up)]
        found = list(zip(records, arrays, strict=True))
        called += words(fronts.front([reference, *found], quality))["large"] == "dominated beyond doubt"
        without += words(fronts.front(found, quality))["large"] == "dominated beyond doubt"
    assert called / repeats <= 0.05 + 2 * (0.05 * 0.95 / repeats) ** 0.5
    assert without / repeats > 0.5


def test_losses_that_are_no_numbers_dominate_nothing(pair):
    small, large = pair
    broken = {"perplexity/nll_nats": np.full(TOKENS, np.nan), "perplexity/kl_nats": np.full(TOKENS, np.nan)}
    for cells in ([(small[0], broken), large], [small, (large[0], broken)]):
        assert "dominated beyond doubt" not in words(fronts.front(cells)).values()
