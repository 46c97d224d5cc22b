"""A small model of the same architecture with random weights, and how its own forward pass treats decoder layers."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from pytest_quantbench.engines.calls import Seen, watched
from pytest_quantbench.engines.narrow_config import VOCABULARY, kinds_of
from pytest_quantbench.engines.torch.config_reading import CANNOT, Config
from pytest_quantbench.engines.torch.skeleton import decoder_layers, shapes, skeleton
from pytest_quantbench.engines.walk_proof import Anatomy
from pytest_quantbench.engines.walk_trial import anatomy_of
from pytest_quantbench.errors import ModelError
from pytest_quantbench.quantizers.encoding import Rules

FOREIGN = CANNOT  # what code of Transformers raises that is given something it does not expect
MOST_VALUES = 40_000_000  # of a twin: more would take seconds
NOISE = 0.1
PLAIN = "eager", "batched_mm"  # Transformers' own attention and products of experts


class Twin:
    """Weights of a small model, as a walk reads them, and the model itself. Random, the same every time.

    Raises ModelError where Transformers cannot build it, or where it is not small.
    """

    def __init__(self, config: Config) -> None:
        self.config, self._model = config, skeleton(config)
        wanted = shapes(self._model)
        if sum(int(np.prod(shape)) for shape in wanted.values()) > MOST_VALUES:
            raise ModelError("it cannot be made small.")
        random = np.random.default_rng(0)
        embedded = {f"{path}.weight" for path, each in self._model.named_modules() if isinstance(each, nn.Embedding)}
        self._parameters = {name: _drawn(shape, name in embedded, random) for name, shape in wanted.items()}
        self.names = list(self._parameters)
        self._model.load_state_dict(self._parameters, strict=False, assign=True)
        model: Any = self._model
        model.tie_weights()
        model.requires_grad_(False)
        for part in model.modules():  # the walk's own attention and products are tried, too
            if hasattr(part, "config"):
                part.config._attn_implementation, part.config._experts_implementation = PLAIN

    @property
    def kinds(self) -> list[str]:
        """What each decoder layer is made of."""
        return kinds(self._model)

    def dense(self, name: str) -> torch.Tensor:
        """One parameter."""
        return self._parameters[name]

    def inputs(self, name: str) -> Rules | None:
        """Nothing is done to the inputs of its layers."""
        return None

    def logits(self, tokens: NDArray[np.integer]) -> NDArray[np.float32]:
        """(rows, length) token ids → (rows, length, vocabulary), by Transformers' own forward pass."""
        return self._forward(tokens).float().numpy()

    def _forward(self, tokens: NDArray[np.integer]) -> torch.Tensor:
        with torch.inference_mode():
            found: torch.Tensor = self._model(input_ids=torch.from_numpy(np.asarray(tokens)), use_cache=False).logits
        return found

    def anatomy(self, tokens: NDArray[np.integer]) -> Anatomy:
        """How the model calls its decoder layers. Raises ModelError for a model that does not call each as often as the
        others, in their order.
        """
        layers, calls = list(decoder_layers(self._model)[1]), list[Seen]()
        for index, layer in enumerate(layers):
            layer.__dict__["forward"] = watched(layer.forward, index, calls)
        try:
            self._forward(tokens)
        finally:
            for layer in layers:
                del layer.__dict__["forward"]
        return anatomy_of(calls, len(layers))


def kinds(model: nn.Module) -> list[str]:
    """What each decoder layer is made of: its modules' classes and their switches, but not their sizes."""
    return kinds_of(decoder_layers(model)[1])


def named_words(model: nn.Module) -> int:
    """So many words a vocabulary needs for the tokens that the model's embeddings name, such as what pads a text."""
    named = [each.padding_idx for each in model.modules() if isinstance(each, nn.Embedding)]
    return max([VOCABULARY, *(place + 1 for place in named if place is not None)])


def _drawn(shape: Sequence[int], embedded: bool, random: np.random.Generator) -> torch.Tensor:
    """Random values: of matrices those that keep the size of what goes through, of the rest around one, so that nothing
    is zero or one by chance.
    """
    if len(shape) < 2:
        return torch.from_numpy(np.asarray(1 + NOISE * random.standard_normal(shape), np.float32))
    wide = 1.0 if embedded else shape[-1] ** -0.5
    return torch.from_numpy(np.float32(wide) * random.standard_normal(shape, np.float32))
