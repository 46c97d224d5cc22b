"""One decode step of a model that is timed: a token and its position in, the logits and the likeliest next token out.

How it is run is settled when it is made. On a CPU it is exported and replayed as a flat list of calls
(`captured_step`), on CUDA it is compiled and replayed as a CUDA graph (`cuda_step`). A model that cannot be traced is
run module by module on both, and says so.
"""

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

from pytest_quantbench.engines.registry import part
from pytest_quantbench.engines.resident import Step
from pytest_quantbench.engines.torch import cuda_step
from pytest_quantbench.engines.torch.expert_products import EXPERTS
from pytest_quantbench.engines.torch.static_cache import StaticCache, forward
from pytest_quantbench.engines.torch.tracing import UntraceableError

CAPTURED = "pytest_quantbench.engines.torch.captured_step"
log = logging.getLogger(__name__)


class OneToken(nn.Module):
    """(1, 1) token and (1, 1) position → logits (vocabulary,) and the likeliest token (1, 1).

    The memory of keys and values are its buffers: an exported step names them, and writes into them.
    """

    def __init__(self, model: nn.Module, cache: StaticCache) -> None:
        super().__init__()
        self.model, self._cache = model, (cache,)  # a tuple: what is in it is no part of this module
        # One token's experts are gathered, whichever they are; the other way goes from expert to expert, in Python.
        ruled = any(getattr(module, "before_products", None) is not None for module in model.modules())
        self._experts = EXPERTS if ruled else "batched_mm"
        for index, layer in enumerate(cache.kept):
            self.register_buffer(f"keys_{index}", layer.keys, persistent=False)
            self.register_buffer(f"values_{index}", layer.values, persistent=False)

    def forward(self, token: torch.Tensor, position: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """One step."""
        self.hold()
        config: Any = self.model.config
        asked, config._experts_implementation = config._experts_implementation, self._experts
        try:
            logits = forward(self.model, self._cache[0], token, position)[0, -1]
        finally:
            config._experts_implementation = asked
        return logits, logits.argmax(-1, keepdim=True)[None]

    def hold(self) -> None:
        """Have the cache use this module's buffers, which exporting replaces for its time by ones without memory."""
        for index, layer in enumerate(self._cache[0].kept):
            layer.keys, layer.values = getattr(self, f"keys_{index}"), getattr(self, f"values_{index}")


class Decoder:
    """Greedy decoding of one text after another, of up to `length` tokens; `step` says how its steps are run."""

    step: Step

    def __init__(self, model: nn.Module, layers: int, length: int, device: torch.device) -> None:
        self.length, self._model = length, model
        self._token, self._position = (torch.zeros(1, 1, dtype=torch.int64, device=device) for _ in range(2))
        self._cache = StaticCache(layers, 1, length, self._position)
        self._run: Callable[[], None]
        with torch.no_grad():
            forward(model, self._cache, self._token, self._position)  # takes the memory
            one = OneToken(model, self._cache)
            self._make(one, device)
            one.hold()
        for prompt in ([0], [0, 0]):  # compiles what reading takes: of one token that is other code than of several
            self.begin(prompt)

    def _make(self, one: OneToken, device: torch.device) -> None:
        inputs = (self._token, self._position)
        try:
            self._run, (self.logits, self._next) = _captured(one, inputs, device)
            self.step = "captured"
        except UntraceableError as error:
            log.warning("A decode step is run module by module: %s", error)
            self.step = "module by module"
            self._run = partial(self._by_module, one)
            self._run()

    def _by_module(self, one: OneToken) -> None:
        self.logits, self._next = one(self._token, self._position)

    def begin(self, prompt: Sequence[int]) -> int:
        """Forget what was, read a prompt, and give the likeliest token after it."""
        tokens = torch.tensor([list(prompt)], device=self._token.device)
        positions = torch.arange(len(prompt), device=tokens.device)[None]
        with torch.no_grad():
            self._cache.seen = len(prompt)
            logits = forward(self._model, self._cache, tokens, positions)
            self._cache.seen = self.length
        self._position.fill_(len(prompt) - 1)
        token = logits[0, -1].argmax()
        self._token.fill_(token)
        return int(token)

    def next(self) -> int:
        """The likeliest token after the last one."""
        self._position.add_(1)
        with torch.no_grad():
            self._run()
        self._token.copy_(self._next)
        return int(self._token)


def _captured(
    one: OneToken, inputs: Sequence[torch.Tensor], device: torch.device
) -> tuple[Callable[[], None], Sequence[torch.Tensor]]:
    """What runs a step on these inputs, and where its results are. Raises UntraceableError where there is no such way,
    QuantbenchError where a compiler fails.
    """
    if device.type == "cuda":
        return cuda_step.captured(one, inputs)
    if device.type == "cpu":
        program = part("torch", CAPTURED).captured(one, inputs)  # brings a compiler that no other device needs
        return program.run, program.outputs
    raise UntraceableError(f"there is no other way on {device.type}")
