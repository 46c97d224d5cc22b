"""A checkpoint as mlx-lm sees it: the model that its config asks for, and its tensors under that model's names."""

import warnings
from collections.abc import Mapping, Sequence
from functools import cached_property

import mlx.core as mx
import mlx.nn as nn

from pytest_quantbench.checkpoints.checkpoint import Checkpoint
from pytest_quantbench.checkpoints.config import remote_code
from pytest_quantbench.engines.mlx.arrays import to_numpy
from pytest_quantbench.engines.mlx.experts import is_stack, routers
from pytest_quantbench.engines.mlx.origins import Origins
from pytest_quantbench.engines.mlx.skeleton import Config, decoder_layers, shapes
from pytest_quantbench.engines.mlx.weight_names import fitted
from pytest_quantbench.engines.parameters import Kind, Origin, Parameter
from pytest_quantbench.engines.protocol import Engine
from pytest_quantbench.engines.published_names import with_head_as_stored
from pytest_quantbench.errors import ModelError, WeightError
from pytest_quantbench.quantizers import Array


class Opened:
    """An `Architecture`. A checkpoint whose weights were deleted is opened when they are needed, all others at once.

    Raises ModelError naming the file or the key: an architecture that mlx-lm does not have, a config that its module
    does not read to the end, weights missing or of another shape than the config says.
    """

    def __init__(self, checkpoint: Checkpoint, engine: Engine) -> None:
        self.checkpoint, self.engine = checkpoint, engine
        self.config: Config = checkpoint.config
        self._model: nn.Module | None = None
        self._lazy: dict[str, mx.array] = {}
        if checkpoint.is_here:
            self._open()

    @property
    def model(self) -> nn.Module:
        """mlx-lm's model, without weights."""
        return self._open() if self._model is None else self._model

    def _open(self) -> nn.Module:
        self.checkpoint.be_here()
        stored = self._stored()
        self.config = with_head_as_stored(
            self.checkpoint.config, stored, lambda one, other: bool(mx.array_equal(stored[one], stored[other]))
        )
        self._model = self._read()
        self._tell_remote_code()
        self._check_shapes(self._model)
        return self._model

    @property
    def parameters(self) -> Sequence[Parameter]:
        """Every parameter, in the model's order."""
        return self._parameters

    @cached_property
    def _parameters(self) -> list[Parameter]:
        modules, (path, _) = dict(self.model.named_modules()), decoder_layers(self.model)
        deciding = routers(self.model, path)
        return [
            Parameter(
                path=name,
                shape=shape,
                kind=_kind(name, modules, deciding),
                owner=type(modules[name.rpartition(".")[0]]).__name__,
                layer=int(name[len(path) + 1 :].partition(".")[0]) if name.startswith(path + ".") else None,
            )
            for name, shape in shapes(self.model).items()
        ]

    @property
    def names(self) -> Sequence[str]:
        """Their paths."""
        return list(shapes(self.model))

    @property
    def layers(self) -> Sequence[str]:
        """What the paths of each decoder layer's parameters begin with."""
        path, layers = decoder_layers(self.model)
        return [f"{path}.{index}." for index in range(len(layers))]

    def tensor(self, path: str) -> mx.array:
        """One parameter as it is stored, lazily read, and not kept here afterwards."""
        _ = self.model  # which is opened now where the weights had been deleted
        if path not in self._lazy:
            self._read()
        return self._lazy.pop(path)

    def array(self, path: str) -> Array:
        """The same in numpy. Raises WeightError for values that are no numbers."""
        held = self.tensor(path)
        # where the sum is a number all are, and it takes a quarter of the time
        if not (mx.isfinite(mx.sum(held)).item() or mx.all(mx.isfinite(held)).item()):
            directory = self.checkpoint.directory
            raise WeightError(f"{path} of {directory} has NaN or infinite values: not a usable model.")
        return to_numpy(held)

    @cached_property
    def dtype(self) -> str:
        """The type in which most parameters are stored, such as `bfloat16`."""
        counts: dict[str, int] = {}
        for name in self.names:
            array = self.tensor(name)
            key = str(array.dtype).removeprefix("mlx.core.")
            counts[key] = counts.get(key, 0) + array.size
        return max(counts, key=lambda key: counts[key])

    @cached_property
    def _origins(self) -> Origins:
        _ = self.model  # which is opened now where the weights had been deleted
        return Origins(self.config, self._stored())

    def origin(self, path: str) -> Origin:
        """Which published tensors a parameter is made of. Raises ModelError where that cannot be told."""
        return self._origins.of(path, self.tensor(path), self._stored())

    def made(self, path: str, tensors: Mapping[str, Array]) -> Array:
        """What mlx-lm makes a parameter of."""
        return self._origins.made(path, tensors)

    def let_go(self) -> None:
        """Forget what was read, so that the files can be deleted."""
        self._lazy = {}

    def _stored(self) -> dict[str, mx.array]:
        """All tensors by the names in the files, lazily: shapes and types are known without reading."""
        weights: dict[str, mx.array] = {}
        for file in self.checkpoint.files:
            loaded = mx.load(str(file))
            assert isinstance(loaded, dict)  # a safetensors file always is
            weights |= loaded
        return weights

    def _read(self) -> nn.Module:
        """See to it that all tensors can be read; returns a model that they fit."""
        try:
            model, self._lazy = fitted(self.config, self._stored())
        except ModelError as error:
            raise type(error)(f"{self.checkpoint.directory}: {error}") from error
        return model

    def _tell_remote_code(self) -> None:
        if code := remote_code(self.config):
            warnings.warn(
                f"{self.checkpoint.directory} brings code of its own ({', '.join(code)}), which is not run: what is "
                f"measured is mlx-lm's own {self.config['model_type']!r}.",
                stacklevel=2,
            )

    def _check_shapes(self, model: nn.Module) -> None:
        directory = self.checkpoint.directory
        for name, shape in shapes(model).items():
            found, dtype = tuple(self._lazy[name].shape), self._lazy[name].dtype
            if found != shape:
                raise ModelError(f"{directory}: {name} has shape {found}, config.json says {shape}.")
            if not mx.issubdtype(dtype, mx.floating):
                raise ModelError(f"{directory}: {name} is stored as {dtype}: these are no weights.")


def _kind(name: str, modules: Mapping[str, nn.Module], deciding: Mapping[str, int]) -> Kind:
    """What a parameter of this path is there for."""
    owner, _, last = name.rpartition(".")
    layer = modules[owner]
    if last != "weight":
        return "expert bias" if last == "bias" and is_stack(layer) else "other"
    if owner in deciding:
        return "router"
    if is_stack(layer):
        return "experts"
    if type(layer) in (nn.Linear, nn.Embedding):
        return "linear" if type(layer) is nn.Linear else "embedding"
    return "foreign" if hasattr(type(layer), "to_quantized") else "other"  # MLX would quantize it
