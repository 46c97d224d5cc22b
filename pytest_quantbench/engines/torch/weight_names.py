"""The names under which the Hub publishes an architecture's tensors, and those of the model that Transformers builds.

Transformers has a table of its own for that: renamings, and conversions that stack the experts of a mixture or take
apart and join what is published otherwise. It is asked here what it would do, tensor by tensor, and does it when a
parameter is wanted.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from pytest_quantbench.engines.torch.skeleton import shapes

Tensors = Mapping[str, torch.Tensor]
Shapes = Mapping[str, tuple[int, ...]]
# What looks at pictures or hears; of a model that does, only the text model is evaluated.
PREFIXES: tuple[Mapping[str, str], ...] = (
    {},
    {"model.language_model.": "model."},
    {"language_model.model.": "model.", "language_model.lm_head.": "lm_head."},
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Making:
    """How parameters are made of published tensors: `sources` are (pattern of the converter, published name), and the
    converter is None for one tensor that is taken as it is.
    """

    target: str
    sources: Sequence[tuple[str | None, str]]
    converter: Any

    def made(self, model: nn.Module, tensors: Tensors) -> dict[str, torch.Tensor]:
        """The parameters by their paths."""
        if self.converter is None:
            return {self.target: tensors[self.sources[0][1]]}
        converter: Any = copy.deepcopy(self.converter)
        for pattern, name in self.sources:
            converter.add_tensor(self.target, name, pattern, tensors[name])
        made = converter.convert(self.target, model=model, config=model.config)
        return {path: each[0] if isinstance(each, list) else each for path, each in made.items()}


class Names:
    """Of a model and the published tensors' shapes: what each parameter is made of."""

    def __init__(self, model: nn.Module, published: Shapes) -> None:
        self._model = model
        self.unused: list[str] = []
        self._makings = self._grouped(published)
        self._of: dict[str, Making] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        for making in self._makings:
            empty = {name: torch.empty(published[name], device="meta") for _, name in making.sources}
            for path, tensor in making.made(model, empty).items():
                self._of[path] = making
                self.shapes[path] = tuple(tensor.shape)

    def _grouped(self, published: Shapes) -> list[Making]:
        from transformers.conversion_mapping import get_model_conversion_mapping
        from transformers.core_model_loading import (
            WeightConverter,
            WeightRenaming,
            dot_natural_key,
            rename_source_key,
        )

        model: Any = self._model
        mapping = get_model_conversion_mapping(model)
        renamings = [each for each in mapping if isinstance(each, WeightRenaming)]
        converters = [each for each in mapping if isinstance(each, WeightConverter)]
        by_pattern = {pattern: each for each in converters for pattern in each.source_patterns}
        wanted = model.state_dict()
        groups: dict[str, list[tuple[str | None, str]]] = {}
        for name in sorted(published, key=dot_natural_key):
            for prefixes in PREFIXES:
                asked = _renamed(name, prefixes)
                path, pattern = rename_source_key(asked, renamings, converters, model.base_model_prefix, wanted)
                if path not in wanted and asked in wanted:
                    path, pattern = rename_source_key(asked, [], [], model.base_model_prefix, wanted)
                if path in wanted:
                    groups.setdefault(path, []).append((pattern, name))
                    break
            else:
                self.unused.append(name)
        return [
            Making(target=path, sources=sources, converter=None if sources[0][0] is None else by_pattern[sources[0][0]])
            for path, sources in groups.items()
        ]

    def making(self, path: str) -> Making:
        """How a parameter is made."""
        return self._of[path]

    @property
    def missing(self) -> list[str]:
        """Parameters that nothing makes."""
        return [path for path in shapes(self._model) if path not in self._of]


def _renamed(name: str, prefixes: Mapping[str, str]) -> str:
    found = max((old for old in prefixes if name.startswith(old)), key=len, default=None)
    return name if found is None else prefixes[found] + name.removeprefix(found)
