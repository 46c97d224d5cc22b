"""Which published tensors a parameter of mlx-lm's model is made of, found by watching what its module does with them.

mlx-lm's modules rename most tensors, stack those of a mixture's experts, and split, join or turn a few. What they hand
through untouched is recognized by being the same array; of the rest, every tensor is given once as a constant of its
own, and the parameter is searched for these constants. Nothing is known here of any architecture.
"""

from collections.abc import Mapping

import mlx.core as mx
import numpy as np

from pytest_quantbench.engines.mlx.arrays import to_mlx, to_numpy
from pytest_quantbench.engines.mlx.config_reads import Config
from pytest_quantbench.engines.mlx.weight_names import fitted
from pytest_quantbench.engines.parameters import Origin
from pytest_quantbench.errors import ModelError
from pytest_quantbench.quantizers import Array

FIRST, STEP = 5, 7  # constants that no sum or product of a few of them gives by accident


class Origins:
    """Of a config and the tensors as they are published, read lazily."""

    def __init__(self, config: Config, published: Mapping[str, mx.array]) -> None:
        self._config, self._names = config, list(published)
        self._shapes = {name: tuple(array.shape) for name, array in published.items()}
        self._numbers = {name: FIRST + STEP * place for place, name in enumerate(self._names)}
        _, taken = fitted(config, published)
        by_array = {id(array): name for name, array in published.items()}
        self._same = {path: by_array[id(array)] for path, array in taken.items() if id(array) in by_array}
        self._marked: dict[str, mx.array] = {}
        self._known: dict[str, Origin] = {}

    def of(self, path: str, made: mx.array, published: Mapping[str, mx.array]) -> Origin:
        """Where a parameter comes from. `made`: the parameter as the module makes it of `published`.

        Raises ModelError for one whose values are computed with on the way.
        """
        if path in self._same:
            return Origin(form="same", sources=(self._same[path],))
        if path not in self._known:
            self._known[path] = self._traced(path, made, published)
        return self._known[path]

    def _traced(self, path: str, made: mx.array, published: Mapping[str, mx.array]) -> Origin:
        if not self._marked:
            _, self._marked = fitted(self._config, {name: self._constant(name) for name in self._names})
        marked = self._marked.pop(path)
        several = [other for other in range(marked.ndim) if marked.ndim > 1] or [0]
        marks = [self._marks(marked, axis) for axis in several]
        sources = tuple(dict.fromkeys(self._named(path, mark) for found in marks for mark in found.ravel().tolist()))
        if marked.ndim == 3 and (marks[0][0] == marks[0][1]).all() and self._is_stack(made, sources, published):
            return Origin(form="stack", sources=sources)
        if marked.ndim == 2 and len(sources) == 1 and self._is_turned(made, published[sources[0]]):
            return Origin(form="turned", sources=sources)
        return Origin(form="made", sources=sources)

    def _constant(self, name: str) -> mx.array:
        """A tensor's shape, filled with its number: no memory is taken."""
        number = mx.array(self._numbers[name], mx.uint32)
        return mx.broadcast_to(number, self._shapes[name])

    @staticmethod
    def _marks(marked: mx.array, axis: int) -> np.ndarray:
        """(2, length): the smallest and the largest mark of each slice along an axis."""
        others = [other for other in range(marked.ndim) if other != axis]
        return np.stack([np.array(mx.min(marked, axis=others)), np.array(mx.max(marked, axis=others))])

    def _named(self, path: str, mark: float) -> str:
        place, rest = divmod(mark - FIRST, STEP)
        if rest or not 0 <= place < len(self._names):
            raise ModelError(
                f"mlx-lm computes {path} from several published tensors, and not only by moving their values: what a "
                f"file in another format holds of it cannot be told. Judge the model in MLX's own format."
            )
        return self._names[int(place)]

    def _is_stack(self, made: mx.array, sources: tuple[str, ...], published: Mapping[str, mx.array]) -> bool:
        """Whether each matrix of the stack is a published tensor as it is, and not turned: the first and the last."""
        if len(sources) != made.shape[0]:
            return False
        ends = ((0, sources[0]), (-1, sources[-1]))
        return all(
            published[name].shape == made[place].shape and mx.array_equal(made[place], published[name]).item()
            for place, name in ends
        )

    @staticmethod
    def _is_turned(made: mx.array, published: mx.array) -> bool:
        """Whether a matrix is the other's transpose."""
        return published.ndim == 2 and bool(mx.array_equal(made, published.T).item())  # false for other shapes

    def made(self, path: str, tensors: Mapping[str, Array]) -> Array:
        """A parameter from its sources: {published name: values}."""
        given = {name: self._constant(name) for name in self._names if name not in tensors}
        _, taken = fitted(self._config, {**given, **{name: to_mlx(array) for name, array in tensors.items()}})
        return to_numpy(taken[path])
