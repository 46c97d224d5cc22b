"""A checkpoint as Transformers sees it: the model that its config asks for, and its tensors by the model's names."""

import warnings
from collections.abc import Mapping, Sequence
from functools import cached_property

import torch
from torch import nn

from pytest_quantbench.checkpoints.checkpoint import Checkpoint
from pytest_quantbench.checkpoints.config import remote_code
from pytest_quantbench.engines.output_head import with_head_as_stored
from pytest_quantbench.engines.parameters import Kind, Origin, Parameter
from pytest_quantbench.engines.protocol import Config, Engine
from pytest_quantbench.engines.torch.arrays import to_numpy, to_torch
from pytest_quantbench.engines.torch.skeleton import decoder_layers, shapes, skeleton
from pytest_quantbench.engines.torch.stored_tensors import StoredTensors
from pytest_quantbench.engines.torch.weight_names import Names
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
        model = skeleton(self.config)
        self._model, self._names = model, Names(model, self.checkpoint.shapes)
        self._tell_remote_code()
        self._check()
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
        modules, (path, _) = dict(self.model.named_modules()), decoder_layers(self.model)
        return [
            Parameter(
                path=name,
                shape=shape,
                kind=_kind(name, modules),
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

    def tensor(self, path: str) -> torch.Tensor:
        """One parameter as it is stored, lazily read, and not kept here afterwards."""
        model = self.model  # which is opened now where the weights had been deleted
        return self._names.making(path).made(model, self._stored)[path]

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
            key = str(held.dtype).removeprefix("torch.")
            counts[key] = counts.get(key, 0) + held.numel()
        return max(counts, key=lambda key: counts[key])

    def origin(self, path: str) -> Origin:
        """Which published tensors a parameter is made of."""
        _ = self.model
        making = self._names.making(path)
        sources = tuple(name for _, name in making.sources)
        return Origin(form="same" if making.converter is None else "made", sources=sources)

    def made(self, path: str, tensors: Mapping[str, Array]) -> Array:
        """What Transformers makes a parameter of."""
        given = {name: to_torch(array) for name, array in tensors.items()}
        return to_numpy(self._names.making(path).made(self.model, given)[path])

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

    def _check(self) -> None:
        directory = self.checkpoint.directory
        missing = self._names.missing
        if missing:
            raise ModelError(f"{directory}: it lacks {missing[0]}: config.json and weights do not belong together.")
        for name, shape in shapes(self.model).items():
            found = self._names.shapes[name]
            if found != shape:
                raise ModelError(f"{directory}: {name} has shape {found}, config.json says {shape}.")


def _kind(name: str, modules: Mapping[str, nn.Module]) -> Kind:
    """What a parameter of this path is there for."""
    owner, _, last = name.rpartition(".")
    layer = modules[owner]
    if last != "weight":
        return "other"
    if type(layer) in (nn.Linear, nn.Embedding):
        return "linear" if type(layer) is nn.Linear else "embedding"
    return "other"
