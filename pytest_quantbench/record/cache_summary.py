"""How a cache is held, and what a walk saw of it → the record's part: bits, bytes and savings by depth."""

from collections.abc import Sequence

from pytest_quantbench.catalog.recipes import Recipe
from pytest_quantbench.measures.samples import PerplexitySamples
from pytest_quantbench.quantizers import kv
from pytest_quantbench.quantizers.kv.held_bits import HeldLayer, bits_per_number, bits_per_token, cache_bytes, reduction
from pytest_quantbench.record.cache_schema import Cache, CacheSize
from pytest_quantbench.record.perplexity_schema import Perplexity
from pytest_quantbench.record.publication import cache_parameters
from pytest_quantbench.record.schema import NoiseFloor
from pytest_quantbench.stats.depths import ends_for

DEEPEST = 8192  # tokens: as far as sizes are told in any record
# of a layer: heads, channels of a head's key and of its value, and how many tokens it keeps; 0: all
Shape = tuple[int, int, int, int]


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
        reached_percent=None if samples is None or not len(samples.engaged) else 100 * float(samples.engaged.mean()),
        kl_within_noise=_within(_kl_nats(judged), None if floor is None else floor.kl_nats),
        noise_nats=None if floor is None else floor.kl_nats,
        delta_within_noise=_within(
            None if judged is None else judged.delta, None if floor is None else floor.perplexity_points
        ),
    )


def _kl_nats(judged: Perplexity | None) -> float | None:
    return None if judged is None or judged.divergence is None else judged.divergence.kl_nats


def _within(figure: float | None, noise: float | None) -> bool | None:
    return None if figure is None or noise is None else abs(figure) <= noise


def _size(method: kv.KVQuantizer, shapes: Sequence[Shape], tokens: int) -> CacheSize:
    """What so many tokens take in all layers."""
    layers = [
        HeldLayer(heads=heads, key_channels=key, value_channels=value, window=window)
        for heads, key, value, window in shapes
    ]
    return CacheSize(
        tokens=tokens,
        stored_bytes=cache_bytes(method, layers, tokens),
        bf16_bytes=int(cache_bytes(None, layers, tokens)),
        bits_per_token=bits_per_token(method, layers, tokens),
        bits_per_value=bits_per_number(method, layers, tokens),
        reduction_percent=100 * reduction(method, layers, tokens),
    )
