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
from pytest_quantbench.engines.output_head import HEAD, TIED
from pytest_quantbench.errors import ModelError

Weights = Mapping[str, mx.array]

# What looks at pictures or hears; of a model that does, only the text model is evaluated.
OTHER_SENSES = ("vision", "visual", "multi_modal", "mm_", "audio", "embed_vision", "embed_audio", "image")
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
        renamed = {name: _renamed(name, prefixes) for name in weights}
        for drop_senses in (False, True):
            for drop_head in (True, False) if tied else (False,):
                form = {
                    renamed[name]: array
                    for name, array in weights.items()
                    if not (drop_head and (name == HEAD or name.endswith("." + HEAD)))
                    and not (drop_senses and name.removeprefix("model.").startswith(OTHER_SENSES))
                }
                if (names := frozenset(form)) not in seen:
                    seen.add(names)
                    yield form


def _renamed(name: str, prefixes: Mapping[str, str]) -> str:
    found = max((old for old in prefixes if name.startswith(old)), key=len, default=None)
    return name if found is None else prefixes[found] + name.removeprefix(found)


def _compare_names(model: nn.Module, weights: Weights) -> None:
    wanted = shapes(model)
    missing, extra = sorted(wanted.keys() - weights.keys()), sorted(weights.keys() - wanted.keys())
    if missing or extra:
        problem = f"it lacks {missing[0]}" if missing else f"it has {extra[0]}, which the architecture does not"
        more = f" (and {len(missing) + len(extra) - 1} more)" if len(missing) + len(extra) > 1 else ""
        raise ModelError(f"{problem}{more}: config.json and weights do not belong together.")
