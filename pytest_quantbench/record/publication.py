"""A model's config and a recipe → what a publication says of them: sizes and parameters. Runs nothing."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from pytest_quantbench import quantizers
from pytest_quantbench.catalog.recipes import MIXES, Part, Recipe
from pytest_quantbench.checkpoints.rope import TEXT_TABLES
from pytest_quantbench.compress.manifest import Manifest
from pytest_quantbench.quantizers import kv
from pytest_quantbench.record.publication_schema import ModelFacts

# The names that configs have for a figure: the first that is there counts.
LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
HIDDEN_SIZE = ("hidden_size", "n_embd", "d_model", "dim")
VOCABULARY = ("vocab_size", "padded_vocab_size")
CONTEXT_TOKENS = ("max_position_embeddings", "n_positions", "n_ctx", "max_sequence_length", "max_seq_len", "seq_length")


def facts(config: Mapping[str, Any], manifest: Manifest) -> ModelFacts:
    """Of the model: its parameters as an artifact counts them, a tied head once, and the sizes that config.json says,
    of its text part where it has several.
    """
    tables = [config, *(config[name] for name in TEXT_TABLES if isinstance(config.get(name), Mapping))]
    named = config.get("architectures")
    return ModelFacts(
        parameters=manifest.bf16_bytes // 2,
        architecture=str(named[0]) if isinstance(named, list) and named else str(config.get("model_type", "")),
        layers=_figure(tables, LAYERS),
        hidden_size=_figure(tables, HIDDEN_SIZE),
        vocabulary=_figure(tables, VOCABULARY),
        context_tokens=_figure(tables, CONTEXT_TOKENS),
    )


def _figure(tables: list[Any], names: tuple[str, ...]) -> int | None:
    """The first whole number by one of these names, in the text part before the config itself."""
    found = [table.get(name) for table in reversed(tables) for name in names]
    return next((value for value in found if isinstance(value, int) and not isinstance(value, bool)), None)


def recipe_parameters(recipe: Recipe) -> dict[str, str]:
    """Every field of a recipe's quantizers, defaults included, as text: `rtn.bits` of the decoder layers' method,
    `outer.rtn.bits` of that of embeddings and head, `lm_head.kquant.bits` of what a mix says of single matrices, and
    `cache.affine.key_bits` of the method that holds the cache. Empty for the reference, and for a candidate, which
    nothing here encodes.
    """
    if recipe.candidate is not None:
        return {}
    held = {} if recipe.cache is None else _cache_fields(recipe.cache)
    mixed = MIXES[recipe.mix].rules if recipe.mix else ()
    parts = {"": recipe.inner, "outer.": recipe.outer, **{f"{'/'.join(rule.names)}.": rule.part for rule in mixed}}
    return {f"{place}{name}": value for place, part in parts.items() for name, value in _fields(part).items()} | {
        f"cache.{part}": value for part, value in held.items()
    }


def cache_parameters(part: Part) -> dict[str, str]:
    """Every field of the method that holds a cache so, defaults included, as text."""
    made: Any = kv.make(part)
    return {each.name: str(getattr(made, each.name)) for each in dataclasses.fields(made)}


def _cache_fields(part: Part) -> dict[str, str]:
    return {f"{part.quantizer}.{name}": value for name, value in cache_parameters(part).items()}


def _fields(part: Part) -> dict[str, str]:
    """Of the quantizer that a part makes, by its name and theirs."""
    made: Any = quantizers.make(part)
    return {f"{part.quantizer}.{each.name}": str(getattr(made, each.name)) for each in dataclasses.fields(made)}
