"""Recipes of the key-value cache side by side on the same keys and values: what they store, and what attention then
answers otherwise.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pytest_quantbench import quantizers
from pytest_quantbench.catalog.recipes import CACHES, recipe
from pytest_quantbench.errors import QuantbenchError
from pytest_quantbench.measures.weights import snr_db
from pytest_quantbench.quantizers import kv
from pytest_quantbench.quantizers.kv.held_bits import HeldLayer, bits_per_number
from pytest_quantbench.quantizers.kv.protocol import Floats, KVQuantizer
from pytest_quantbench.workbench.cache_conformance import seen

HEADS, EACH, CHANNELS = 2, 2, 64  # heads of keys, of queries for each, and their channels
OUTLIERS = (3, 40)  # channels
ASKED = 12  # positions whose queries are answered, over the second half of the text


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """(heads, tokens, channels) keys and values, and (query heads, tokens, channels) queries, under a name."""

    name: str
    keys: Floats
    values: Floats
    queries: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheFigures:
    """One recipe on one scene. `answer_error`: of what attention answers, as a share of it, over some queries; SNRs of
    what the last query sees.
    """

    recipe: str
    scene: str
    tokens: int
    bits_per_number: float
    answer_error: float
    key_snr_db: float
    value_snr_db: float


def white(tokens: int, seed: int = 0) -> Scene:
    """Gaussian numbers throughout."""
    rng = np.random.default_rng(seed)
    keys, values = rng.standard_normal((2, HEADS, tokens, CHANNELS)).astype(np.float32)
    queries = 1.5 * rng.standard_normal((HEADS * EACH, tokens, CHANNELS)).astype(np.float32)
    return Scene(name="Gaussian", keys=keys, values=values, queries=queries)


def with_outliers(tokens: int, seed: int = 0) -> Scene:
    """The same with two channels of the keys 20 times the others and of one sign, as models have them; queries are as
    much smaller there, so that scores are about what they were.
    """
    plain = white(tokens, seed)
    keys, queries = plain.keys.copy(), plain.queries.copy()
    keys[..., OUTLIERS] = 20 * (1 + 0.2 * keys[..., OUTLIERS])
    queries[..., OUTLIERS] /= 20
    return Scene(name="outlier channels in the keys", keys=keys, values=plain.values, queries=queries)


SCENES: Mapping[str, Callable[[int], Scene]] = {"white": white, "outliers": with_outliers}


def answers(queries: Floats, keys: Floats, values: Floats) -> Floats:
    """(query heads, channels) and (heads, tokens, channels) → (query heads, channels): what attention answers."""
    keys, values = (np.repeat(each, len(queries) // len(each), 0) for each in (keys, values))
    scores = (keys @ queries[..., None])[..., 0] / math.sqrt(queries.shape[1])  # (query heads, tokens)
    weights = np.exp(scores - scores.max(1, keepdims=True))
    found: Floats = (weights[:, None] @ values)[:, 0] / weights.sum(1, keepdims=True)
    return found


def methods(names: Sequence[str] | None = None) -> Iterator[tuple[str, KVQuantizer]]:
    """Recipes of the cache with their methods; all of the catalogue where none is named.

    Raises UnknownNameError for a recipe that does not exist, QuantbenchError for one of weights.
    """
    for name in names or CACHES:
        part = quantizers.recipe_of(name).cache
        if part is None or recipe(name).kind != "cache":
            raise QuantbenchError(f"{name} is no recipe of the key-value cache alone, such as kv8 or kivi2.")
        yield name, kv.make(part)


def compare(name: str, method: KVQuantizer, scene: Scene) -> CacheFigures:
    """What queries over the second half of the scene are answered, and what the last one sees."""
    tokens, form = scene.keys.shape[1], method.form(CHANNELS)
    lost = whole = 0.0
    given = (scene.keys, scene.values, scene.queries)
    back = given[:2]
    for position in np.linspace(tokens // 2, tokens - 1, ASKED).astype(int):
        query = scene.queries[:, position]
        right = answers(query, scene.keys[:, : position + 1], scene.values[:, : position + 1])
        back = seen(form, given, int(position))
        lost += float(np.square(answers(query, *back) - right).sum())
        whole += float(np.square(right).sum())
    layer = HeldLayer(heads=HEADS, key_channels=CHANNELS, value_channels=CHANNELS)
    keys, values = (
        snr_db(numbers.ravel(), (found - numbers).ravel()) for numbers, found in zip(given, back, strict=False)
    )
    return CacheFigures(
        recipe=name,
        scene=scene.name,
        tokens=tokens,
        bits_per_number=bits_per_number(method, [layer], tokens),
        answer_error=math.sqrt(lost / whole),
        key_snr_db=keys,
        value_snr_db=values,
    )
