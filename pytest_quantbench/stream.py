"""Walk a model decoder layer by decoder layer: the corridor of compression, calibration and the quality measures.

mlx-lm models keep their decoder layers in a list and call them `layer(h, mask, cache)`. Stand-ins put into that list
record every layer's arguments while the embeddings flow through; each real layer is then run over all batches before
the next layer's weights are read; a last pass with stand-ins puts in the final hidden states, and the model's own
norm and head do the rest. No code per architecture, and one layer's weights in memory at a time.
"""

import hashlib
import importlib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten, tree_map, tree_unflatten

from pytest_quantbench.errors import ModelError
from pytest_quantbench.hostmath import on_host, view
from pytest_quantbench.progress import track

Config = Mapping[str, Any]


class DenseWeights(Protocol):
    """Where a walk gets its weights: parameters by their path in the mlx-lm model, decoded when asked for."""

    @property
    def config(self) -> Config:
        """The model's config.json."""

    @property
    def names(self) -> Sequence[str]:
        """Every parameter's path."""

    def dense(self, name: str) -> mx.array:
        """One parameter, decoded."""


def skeleton(config: Config, names: Iterable[str]) -> nn.Module:
    """The mlx-lm model of this config, in evaluation mode, with lazy weights that are never made.

    Raises ModelError for an architecture that mlx-lm does not have, or whose config it cannot read.
    """
    from mlx_lm.utils import MODEL_REMAPPING

    model_type = str(config.get("model_type"))
    try:
        module = importlib.import_module(f"mlx_lm.models.{MODEL_REMAPPING.get(model_type, model_type)}")
    except ModuleNotFoundError as error:
        raise ModelError(f"Unsupported architecture: model_type {model_type!r} is not one that mlx-lm has.") from error
    try:
        # from_dict may write into nested tables of the config (Gemma 3 does).
        model: nn.Module = module.Model(module.ModelArgs.from_dict(tree_map(lambda value: value, dict(config))))
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise ModelError(f"mlx-lm cannot build a {model_type!r} model from this config.json: {error!r}.") from error
    if hasattr(model, "sanitize"):  # some models learn from the names that they have no output head of their own
        model.sanitize({name: mx.zeros((1, 1)) for name in names})
    model.eval()
    return model


def shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    """Every parameter's shape by its path, in the model's order. Evaluates nothing."""
    flat: Any = tree_flatten(model.parameters())
    return {name: tuple(array.shape) for name, array in flat}


def decoder_layers(model: nn.Module) -> tuple[str, list[Any]]:
    """The path of the model's list of decoder layers, and that list itself: replacing its items replaces the layers.

    Raises ModelError for a model without such a list.
    """
    layers = getattr(model, "layers", None)
    if not isinstance(layers, list) or not layers:
        raise ModelError(f"Unsupported architecture: {type(model).__module__} has no list of decoder layers.")
    path = next(path for path, module in model.named_modules() if module is layers[0]).rpartition(".")[0]
    held: Any = model  # `model.layers` may be a slice of the list that the model goes through: follow the path instead
    for part in path.split("."):
        held = getattr(held, part)
    return path, held


class _Recorder:
    """Stands in for a decoder layer: notes its arguments and passes the hidden states through."""

    def __init__(self, layer: nn.Module) -> None:
        self.layer = layer
        self.calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def __call__(self, h: mx.array, *args: Any, **kwargs: Any) -> mx.array:
        self.calls.append((args, kwargs))
        self.entered = h
        return h

    def __getattr__(self, name: str) -> Any:  # models ask their layers for things such as `use_sliding`
        return getattr(self.layer, name)


class _Stopped(Exception):
    """The forward pass has got as far as it should."""


class _Stopper(_Recorder):
    """Stands in for the last decoder layer while arguments are recorded: norm and head are not run for nothing."""

    def __call__(self, h: mx.array, *args: Any, **kwargs: Any) -> mx.array:
        super().__call__(h, *args, **kwargs)
        raise _Stopped


class _Injector(_Recorder):
    """Stands in for the last decoder layer: answers with hidden states that were computed before."""

    answer: mx.array

    def __call__(self, h: mx.array, *args: Any, **kwargs: Any) -> mx.array:
        return self.answer


class Walk:
    """One model, walked with float32 activations.

    `host` multiplies in numpy (see hostmath). After `run`, `logits` gives any batch's logits at chosen positions, and
    `weights_sha256` is the hash of every decoded weight that took part.
    """

    def __init__(self, weights: DenseWeights, *, host: bool) -> None:
        self._weights = weights
        self._host = host
        self._model = skeleton(weights.config, weights.names)
        path, self._slots = decoder_layers(self._model)
        self._layers: list[nn.Module] = list(self._slots)
        self._prefixes = [f"{path}.{index}." for index in range(len(self._layers))]
        self._digests: dict[str, str] = {}
        self._states: list[mx.array] = []
        self._batches: Sequence[mx.array] = ()

    @property
    def weights_sha256(self) -> str:
        """Hash over name, shape and float32 values of all weights that were filled in."""
        return hashlib.sha256("".join(f"{k}={v};" for k, v in sorted(self._digests.items())).encode()).hexdigest()

    def run(self, batches: Sequence[mx.array], what: str) -> None:
        """Carry (batch, tokens) integer batches through all decoder layers; `what` names the bar of progress."""
        self._batches = batches
        self._fill(
            self._model, "", [name for name in shapes(self._model) if not name.startswith(tuple(self._prefixes))]
        )
        recorders = [*map(_Recorder, self._layers[:-1]), _Stopper(self._layers[-1])]
        self._slots[:] = recorders
        self._states = []
        for batch in batches:
            with suppress(_Stopped):
                self._model(batch)
            self._states.append(recorders[0].entered)
        mx.eval(self._states)
        for layer, prefix, recorder in track(
            list(zip(self._layers, self._prefixes, recorders, strict=True)), what=what, unit="layer"
        ):
            self._through(layer, prefix, recorder)

    def _through(self, layer: nn.Module, prefix: str, recorder: _Recorder) -> None:
        originals = dict(layer.leaf_modules())
        self._fill(layer, prefix, list(shapes(layer)))
        for index, (args, kwargs) in enumerate(recorder.calls):
            self._states[index] = layer(self._states[index], *args, **kwargs)
            mx.eval(self._states[index])
        layer.update_modules(originals)
        layer.update(tree_map(lambda _: mx.zeros((0,)), layer.parameters()))
        mx.clear_cache()

    def logits(self, batch: int, positions: slice) -> mx.array:
        """(batch, positions, vocabulary) float32 logits: norm and head run at these positions only."""
        injector = _Injector(self._layers[-1])
        injector.answer = self._states[batch][:, positions]
        self._slots[:] = [*map(_Recorder, self._layers[:-1]), injector]
        logits: mx.array = self._model(self._batches[batch])
        return logits

    def _fill(self, module: nn.Module, prefix: str, names: Sequence[str]) -> None:
        """Put the decoded float32 weights of these paths (below `prefix`) into the module."""
        filled = [(name, self._dense(prefix + name)) for name in names]
        module.update(tree_unflatten(filled))
        if self._host:
            owners = {name.rpartition(".")[0] for name in names}
            twins = [(path, on_host(leaf)) for path, leaf in module.named_modules() if path in owners]
            module.update_modules(tree_unflatten([(path, twin) for path, twin in twins if twin is not None]))

    def _dense(self, name: str) -> mx.array:
        array = mx.contiguous(self._weights.dense(name).astype(mx.float32))
        mx.eval(array)
        digest = hashlib.sha256(f"{name}{array.shape}".encode())
        digest.update(view(array).data)
        self._digests[name] = digest.hexdigest()
        return array
