"""The forms in which the Hub publishes the tensors of one architecture, and the model that takes them.

A text model may lie there alone, below `language_model.` or `model.language_model.`, beside the tensors that look at
pictures; a tied output head may be stored all the same. mlx-lm's modules each take some of these forms. Here each form
is tried on a model of its own, because `sanitize` changes some models: Gemma 3 drops its head when it sees no tensor of
one, and cannot do so twice.
"""

from collections.abc import Iterator, Mapping

import mlx.core as mx
import mlx.nn as nn

from pytest_quantbench.checkpoints.rope import text_table
from pytest_quantbench.engines.mlx.config_reads import Config
from pytest_quantbench.engines.mlx.skeleton import built, sanitized, shapes
from pytest_quantbench.engines.published_names import HEAD, TIED, is_of_other_senses, refuse_unlike, renamed
from pytest_quantbench.errors import ModelError

Weights = Mapping[str, mx.array]

# Prefixes as published → as mlx-lm's modules take them. The first that fits is used.
FORMS: tuple[Mapping[str, str], ...] = (
    {},
    {"model.language_model.": "language_model.model.", "lm_head.": "language_model.lm_head."},
    {"model.language_model.": "model.", "language_model.": ""},
    {"model.": "language_model.model.", "lm_head.": "language_model.lm_head."},
    {"": "model.", "lm_head.": "lm_head."},
    {"transformer.": ""},
)


def fitted(config: Config, weights: Weights) -> tuple[nn.Module, dict[str, mx.array]]:
    """A fresh model and its weights by its own names, from the first form of the stored names that fits.

    Raises ModelError where none does, saying what is missing or too much in the form as it lies there.
    """
    problems: list[ModelError] = []
    for form in _forms(config, weights):
        model = built(config)
        try:
            taken = sanitized(model, form, config)
            _compare_names(model, taken)
        except ModelError as error:
            problems.append(error)
        else:
            return model, taken
    raise problems[0]


def _forms(config: Config, weights: Weights) -> Iterator[dict[str, mx.array]]:
    """The weights as they are named, without a head that is the embeddings, and in the other forms."""
    tied = text_table(config).get(TIED) is True
    seen = set()
    for prefixes in FORMS:
        by_name = {name: renamed(name, prefixes) for name in weights}
        for drop_senses in (False, True):
            for drop_head in (True, False) if tied else (False,):
                form = {
                    by_name[name]: array
                    for name, array in weights.items()
                    if not (drop_head and (name == HEAD or name.endswith("." + HEAD)))
                    and not (drop_senses and is_of_other_senses(name))
                }
                if (names := frozenset(form)) not in seen:
                    seen.add(names)
                    yield form


def _compare_names(model: nn.Module, weights: Weights) -> None:
    wanted = shapes(model)
    refuse_unlike(wanted.keys() - weights.keys(), weights.keys() - wanted.keys())
