"""How a cache is held, and what a walk saw of it → the record's part: bits, bytes and savings by depth."""

from collections.abc import Sequence

import numpy as np

from pytest_quantbench.catalog.recipes import Recipe
from pytest_quantbench.measures.samples import PerplexitySamples
from pytest_quantbench.quantizers import kv
from pytest_quantbench.record.cache_schema import Cache, CacheSize
from pytest_quantbench.record.perplexity_schema import Perplexity
from pytest_quantbench.record.publication import cache_parameters
from pytest_quantbench.record.schema import NoiseFloor
from pytest_quantbench.stats.depths import ends_for

FULL_BITS = 16
DEEPEST = 8192  # tokens: as far as sizes are told in any record
Shape = tuple[int, int, int]  # of a layer: heads, channels of a head's key and of its value


def cache(
    recipe: Recipe, samples: PerplexitySamples | None, judged: Perplexity | None, floor: NoiseFloor | None
) -> Cache | None:
    """The part of a recipe that quantizes the cache; None of another. `judged`: what T2 found of it."""
    if recipe.cache is None:
        return None
    method, shapes = kv.make(recipe.cache), () if samples is None else samples.cache_shapes
    depth = 0 if samples is None else int(samples.depths.max(initial=0))
    ends = ends_for(max(depth, DEEPEST))
    return Cache(
        method=recipe.cache.quantizer,
        parameters=cache_parameters(recipe.cache),
        layers=len(shapes) or None,
        size=_size(method, shapes, depth) if shapes and depth else None,
        sizes=tuple(_size(method, shapes, end) for end in ends) if shapes else (),
        within_noise=_within(judged, floor),
    )


def _within(judged: Perplexity | None, floor: NoiseFloor | None) -> bool | None:
    found = None if judged is None else judged.divergence
    if found is None or floor is None or floor.kl_nats is None:
        return None
    return found.kl_nats <= floor.kl_nats


def _size(method: kv.KVQuantizer, shapes: Sequence[Shape], tokens: int) -> CacheSize:
    """What so many tokens take in all layers."""
    stored = sum(_layer_bits(method, shape, tokens) for shape in shapes) / 8
    values = tokens * sum(heads * (key + value) for heads, key, value in shapes)
    full = values * FULL_BITS // 8
    return CacheSize(
        tokens=tokens,
        stored_bytes=stored,
        bf16_bytes=full,
        bits_per_token=8 * stored / tokens,
        bits_per_value=8 * stored / values,
        reduction_percent=100 * (1 - stored / full),
    )


def _layer_bits(method: kv.KVQuantizer, shape: Shape, tokens: int) -> float:
    heads, key_channels, value_channels = shape
    parts: tuple[tuple[kv.Part, int], ...] = (("keys", key_channels), ("values", value_channels))
    return heads * sum(part_bits(method.form(channels), part, tokens, channels) for part, channels in parts)


def part_bits(form: kv.CacheForm, part: kv.Part, tokens: int, channels: int) -> float:
    """What one head's keys or values take when so many tokens have been stored, each in the stage that it has reached;
    what is in none is in 16 bits.
    """
    reached = form.reached(part, np.array([tokens - 1]), np.arange(tokens))[0]
    bits = 0.0
    for stage, count in zip(*np.unique(reached, return_counts=True), strict=True):
        rounding = None if stage < 0 else form.stages(part)[stage].rounding
        held = FULL_BITS * channels * count if rounding is None else rounding.stored_bits(int(count), channels)
        bits += float(held)
    return bits
