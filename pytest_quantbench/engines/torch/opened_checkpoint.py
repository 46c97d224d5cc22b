"""A checkpoint as Transformers sees it: the model that its config asks for, and its tensors by the model's names."""

import warnings
from collections.abc import Mapping, Sequence
from functools import cached_property

import torch
from torch import nn

from pytest_quantbench.checkpoints.checkpoint import Checkpoint
from pytest_quantbench.checkpoints.config import remote_code
from pytest_quantbench.engines.parameters import Origin, Parameter
from pytest_quantbench.engines.protocol import Config, Engine
from pytest_quantbench.engines.published_names import with_head_as_stored
from pytest_quantbench.engines.torch.arrays import named, to_numpy, to_torch
from pytest_quantbench.engines.torch.parameter_kinds import parameters
from pytest_quantbench.engines.torch.skeleton import decoder_layers, shapes, skeleton
from pytest_quantbench.engines.torch.stored_tensors import StoredTensors
from pytest_quantbench.engines.torch.weight_names import Names, origin
from pytest_quantbench.errors import ModelError, WeightError
from pytest_quantbench.quantizers import Array


class Opened:
    """An `Architecture`. A checkpoint whose weights were deleted is opened when they are needed, all others at once.

    Raises ModelError naming the file or the key: an architecture that Transformers does not have, a config that it
    cannot read, weights missing or of another shape than the config says.
    """

    def __init__(self, checkpoint: Checkpoint, engine: Engine) -> None:
        self.checkpoint, self.engine = checkpoint, engine
        self.config: Config = checkpoint.config
        self._model: nn.Module | None = None
        self._tensors: StoredTensors | None = None
        if checkpoint.is_here:
            self._open()

    @property
    def model(self) -> nn.Module:
        """Transformers' model, without weights."""
        return self._open() if self._model is None else self._model

    def _open(self) -> nn.Module:
        self.checkpoint.be_here()
        self.config = with_head_as_stored(self.checkpoint.config, self._stored, self._equal)
        self._model = skeleton(self.config)
        try:
            self._names = Names(self._model, self.checkpoint.shapes)
        except ModelError as error:
            raise type(error)(f"{self.checkpoint.directory}: {error}") from error
        self._tell_remote_code()
        self._check_shapes(self._names)
        return self._model

    @property
    def _stored(self) -> StoredTensors:
        if self._tensors is None:
            self._tensors = StoredTensors(self.checkpoint.files)
        return self._tensors

    def _equal(self, one: str, other: str) -> bool:
        return torch.equal(self._stored[one], self._stored[other])

    @cached_property
    def parameters(self) -> Sequence[Parameter]:
        """Every parameter, in the model's order."""
        return parameters(self.model)

    @property
    def names(self) -> Sequence[str]:
        """Their paths."""
        return list(shapes(self.model))

    @property
    def layers(self) -> Sequence[str]:
        """What the paths of each decoder layer's parameters begin with."""
        path, layers = decoder_layers(self.model)
        return [f"{path}.{index}." for index in range(len(layers))]

    def tensor(self, path: str) -> torch.Tensor:
        """One parameter as it is stored, lazily read, and not kept here afterwards."""
        _ = self.model  # which is opened now where the weights had been deleted
        return self._names.tensor(path, self._stored)

    def array(self, path: str) -> Array:
        """The same in numpy. Raises WeightError for values that are no numbers."""
        held = self.tensor(path)
        # where the sum is a number all are, and it takes a quarter of the time
        if not (held.sum().isfinite() or held.isfinite().all()):
            directory = self.checkpoint.directory
            raise WeightError(f"{path} of {directory} has NaN or infinite values: not a usable model.")
        return to_numpy(held)

    @cached_property
    def dtype(self) -> str:
        """The type in which most parameters are stored, such as `bfloat16`."""
        counts: dict[str, int] = {}
        for name in self.names:
            held = self.tensor(name)
            key = named(held.dtype)
            counts[key] = counts.get(key, 0) + held.numel()
        return max(counts, key=lambda key: counts[key])

    def origin(self, path: str) -> Origin:
        """Which published tensors a parameter is made of."""
        _ = self.model
        return origin(self._names.making(path), turned=self._names.is_turned(path), shapes=self.checkpoint.shapes)

    def made(self, path: str, tensors: Mapping[str, Array]) -> Array:
        """What Transformers makes a parameter of."""
        _ = self.model
        return to_numpy(self._names.tensor(path, {name: to_torch(array) for name, array in tensors.items()}))

    def let_go(self) -> None:
        """Forget what was read, so that the files can be deleted."""
        self._tensors = None

    def _tell_remote_code(self) -> None:
        if code := remote_code(self.config):
            warnings.warn(
                f"{self.checkpoint.directory} brings code of its own ({', '.join(code)}), which is not run: what is "
                f"measured is Transformers' own {self.config['model_type']!r}.",
                stacklevel=2,
            )

    def _check_shapes(self, names: Names) -> None:
        directory = self.checkpoint.directory
        for name, shape in shapes(self.model).items():
            if (found := names.shapes[name]) != shape:
                raise ModelError(f"{directory}: {name} has shape {found}, config.json says {shape}.")
            for source in names.making(name).published:
                dtype = self._stored.dtype(source)
                if not dtype.is_floating_point:
                    raise ModelError(f"{directory}: {name} is stored as {dtype}: these are no weights.")
