"""How a cache is held, and what a walk saw of it → the record's part: bits, bytes and savings by depth."""

from collections.abc import Sequence

from pytest_quantbench.catalog.recipes import Recipe
from pytest_quantbench.measures.samples import PerplexitySamples
from pytest_quantbench.quantizers import kv
from pytest_quantbench.quantizers.kv.held_bits import HeldLayer, bits_per_token
from pytest_quantbench.record.cache_schema import Cache, CacheSize
from pytest_quantbench.record.perplexity_schema import Perplexity
from pytest_quantbench.record.publication import cache_parameters
from pytest_quantbench.record.schema import NoiseFloor
from pytest_quantbench.stats.depths import ends_for

FULL_BITS = 16  # of a number as computed
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
        noise_nats=None if floor is None else floor.kl_nats,
    )


def _within(judged: Perplexity | None, floor: NoiseFloor | None) -> bool | None:
    found = None if judged is None else judged.divergence
    if found is None or floor is None or floor.kl_nats is None:
        return None
    return found.kl_nats <= floor.kl_nats


def _size(method: kv.KVQuantizer, shapes: Sequence[Shape], tokens: int) -> CacheSize:
    """What so many tokens take in all layers."""
    layers = [HeldLayer(heads=heads, key_channels=key, value_channels=value) for heads, key, value in shapes]
    each = bits_per_token(method, layers, tokens)
    numbers = sum(layer.numbers for layer in layers)
    return CacheSize(
        tokens=tokens,
        stored_bytes=each * tokens / 8,
        bf16_bytes=tokens * numbers * FULL_BITS // 8,
        bits_per_token=each,
        bits_per_value=each / numbers,
        reduction_percent=100 * (1 - each / (numbers * FULL_BITS)),
    )
