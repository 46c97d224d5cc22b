"""The names under which the Hub publishes an architecture's tensors, and those of the model that Transformers builds.

Transformers has a table of its own for that: renamings, and conversions that stack the experts of a mixture or take
apart and join what is published otherwise. It is asked here what it would do, tensor by tensor, and does it when a
parameter is wanted. A text model may also lie beside the tensors that look at pictures; a tied output head may be
stored all the same.
"""

import copy
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from pytest_quantbench.engines.parameters import Origin
from pytest_quantbench.engines.published_names import HEAD, is_of_other_senses, refuse_unlike, renamed
from pytest_quantbench.engines.torch.config_reading import CANNOT
from pytest_quantbench.engines.torch.skeleton import shapes, stored_turned
from pytest_quantbench.errors import ModelError

Tensors = Mapping[str, torch.Tensor]
Shapes = Mapping[str, tuple[int, ...]]
# Where a text model lies in a model of several senses, and where it lies alone. The first that leads to a parameter.
PREFIXES: tuple[Mapping[str, str], ...] = (
    {},
    {"model.language_model.": "model."},
    {"language_model.model.": "model.", "language_model.": ""},
    {"language_model.": "model.", "model.language_model.lm_head.": "lm_head."},
)
STACKING, TURNING = ["MergeModulelist"], ["Transpose"]  # Transformers' names for it
MATRIX = 2  # dimensions
# What older versions of Transformers stored beside the weights, and what is computed now.
COMPUTED = re.compile(r".*(rotary_emb\.inv_freq|position_ids|(attn|attention)\.(masked_)?bias)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Making:
    """How parameters are made of published tensors: `sources` are (pattern of the converter, published name), in the
    order of the latter. `converter` is Transformers' own; None: one tensor is taken as it is. `target`: the parameter,
    or the first of several.
    """

    target: str
    sources: Sequence[tuple[str | None, str]]
    converter: Any

    @property
    def published(self) -> tuple[str, ...]:
        """The names of the sources."""
        return tuple(name for _, name in self.sources)

    @property
    def operations(self) -> list[str]:
        """The names of what the converter does, one after the other."""
        return [] if self.converter is None else [type(each).__name__ for each in self.converter.operations]

    def made(self, model: nn.Module, tensors: Tensors) -> dict[str, torch.Tensor]:
        """The parameters by their paths, as Transformers itself has them."""
        if self.converter is None:
            return {self.target: tensors[self.published[0]]}
        converter: Any = copy.deepcopy(self.converter)
        for pattern, name in self.sources:
            converter.add_tensor(self.target, name, pattern, tensors[name])
        try:
            made = converter.convert(self.target, model=model, config=model.config)
        except CANNOT as error:
            raise ModelError(
                f"Transformers cannot make {self.target} of {self.published[0]} and {len(self.sources) - 1} more: "
                f"{error!r:.200}. A tensor that it needs is missing, or has another shape."
            ) from error
        return {path: each[0] if isinstance(each, list) else each for path, each in made.items()}


class Names:
    """Of a model and the shapes of the published tensors: what each parameter is made of.

    Raises ModelError for parameters that nothing makes, and for tensors that belong to none.
    """

    def __init__(self, model: nn.Module, published: Shapes) -> None:
        self._model, self._turned = model, stored_turned(model)
        self._of: dict[str, Making] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        table, wanted = _Table(model), shapes(model)
        makings, unused = table.makings(published)
        for making in makings:
            empty = {name: torch.empty(published[name], device="meta") for name in making.published}
            for path, tensor in self._made(making, empty).items():
                self._of[path], self.shapes[path] = making, tuple(tensor.shape)
        extra = {*self._of, *unused} - wanted.keys()
        refuse_unlike(wanted.keys() - self._of.keys(), [name for name in extra if not table.may_stay_unused(name)])

    def making(self, path: str) -> Making:
        """How a parameter is made."""
        return self._of[path]

    def is_turned(self, path: str) -> bool:
        """Whether the last two dimensions are exchanged afterwards."""
        return path in self._turned

    def tensor(self, path: str, tensors: Tensors) -> torch.Tensor:
        """A parameter from published tensors."""
        return self._made(self._of[path], tensors)[path]

    def _made(self, making: Making, tensors: Tensors) -> dict[str, torch.Tensor]:
        made = making.made(self._model, tensors)
        return {path: each.mT.contiguous() if path in self._turned else each for path, each in made.items()}


class _Table:
    """Transformers' own conversions of one model."""

    def __init__(self, model: Any) -> None:
        from transformers.conversion_mapping import get_model_conversion_mapping
        from transformers.core_model_loading import WeightConverter, WeightRenaming

        mapping = get_model_conversion_mapping(model)
        self._renamings = [each for each in mapping if isinstance(each, WeightRenaming)]
        self._converters = [each for each in mapping if isinstance(each, WeightConverter)]
        self._of_pattern = {pattern: each for each in self._converters for pattern in each.source_patterns}
        self._wanted, self._prefix = model.state_dict(), model.base_model_prefix
        self._tied = set(getattr(model, "all_tied_weights_keys", {}))
        self._ignored = [re.compile(each) for each in model._keys_to_ignore_on_load_unexpected or ()]

    def makings(self, published: Iterable[str]) -> tuple[list[Making], list[str]]:
        """How parameters are made of these tensors, and which of them are not used."""
        from transformers.core_model_loading import dot_natural_key

        sources: dict[str, list[tuple[str | None, str]]] = {}
        unused = []
        for name in sorted(published, key=dot_natural_key):
            found = next(self._places(name), None)
            if found is None:
                unused.append(name)
            else:
                sources.setdefault(found[0], []).append((found[1], name))
        return [self._making(path, names) for path, names in sources.items()], unused

    def _places(self, name: str) -> Iterator[tuple[str, str | None]]:
        """The parameters that a tensor may be for, with the pattern of what converts it."""
        from transformers.core_model_loading import rename_source_key

        for prefixes in PREFIXES:
            asked = renamed(name, prefixes)
            for renamings, converters in ((self._renamings, self._converters), ([], [])):
                path, pattern = rename_source_key(asked, renamings, converters, self._prefix, self._wanted)
                if path in self._wanted:
                    yield path, pattern

    def _making(self, path: str, sources: list[tuple[str | None, str]]) -> Making:
        pattern = sources[0][0]
        if pattern is None and len(sources) > 1:
            names = " and ".join(name for _, name in sources[:2])
            raise ModelError(f"{names} are both {path}: which of them is meant is not known.")
        return Making(target=path, sources=sources, converter=None if pattern is None else self._of_pattern[pattern])

    def may_stay_unused(self, name: str) -> bool:
        """Whether a tensor may be left out: the model has the same, computes it, or it is of another sense."""
        is_head = name in self._tied or (HEAD in self._tied and name.endswith("." + HEAD))
        ignored = any(each.search(name) for each in self._ignored)
        return is_head or ignored or COMPUTED.fullmatch(name) is not None or is_of_other_senses(name)


def origin(making: Making, *, turned: bool, shapes: Mapping[str, tuple[int, ...]]) -> Origin:
    """Where a parameter comes from. `turned`: its last two dimensions are exchanged after Transformers made it;
    `shapes`: of the published tensors.

    A stack whose matrices are joined from several tensors each, such as gate and up projection, is `made`.
    """
    sources = making.published
    matrix = len(shapes[sources[0]]) == MATRIX
    if len(sources) == 1 and making.operations in ([], TURNING):
        if (making.operations == TURNING) == turned:
            return Origin(form="same", sources=sources)
        if matrix:
            return Origin(form="turned", sources=sources)
    if making.operations == STACKING and matrix and not turned:
        return Origin(form="stack", sources=sources)
    return Origin(form="made", sources=sources)
