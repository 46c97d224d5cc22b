"""One decode step of a model that is timed: a token of one text or of each of several, and the position that they have
in all of them, in; the logits and the likeliest next tokens out.

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
from pytest_quantbench.engines.resident import Sampler, Step
from pytest_quantbench.engines.torch import cuda_step
from pytest_quantbench.engines.torch.expert_products import EXPERTS
from pytest_quantbench.engines.torch.static_cache import StaticCache, alone, forward
from pytest_quantbench.engines.torch.tracing import UntraceableError

CAPTURED = "pytest_quantbench.engines.torch.captured_step"
MOST_AT_ONCE, LEAST_AT_ONCE = 2048, 256  # tokens of a prompt that are read at a time
log = logging.getLogger(__name__)


class OneToken(nn.Module):
    """(rows, 1) tokens and the (1, 1) position of all of them → logits (rows, vocabulary) and the likeliest (rows, 1).

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
            logits = forward(self.model, self._cache[0], token, position)[:, -1]
        finally:
            config._experts_implementation = asked
        return logits, logits.argmax(-1, keepdim=True)

    def hold(self) -> None:
        """Have the cache use this module's buffers, which exporting replaces for its time by ones without memory."""
        for index, layer in enumerate(self._cache[0].kept):
            layer.keys, layer.values = getattr(self, f"keys_{index}"), getattr(self, f"values_{index}")


class Decoder:
    """Decoding of one text after another, or of `rows` texts of one length at a time, of up to `length` tokens each;
    `step` says how its steps are run.
    """

    step: Step

    def __init__(self, model: nn.Module, layers: int, length: int, device: torch.device, rows: int = 1) -> None:
        self.rows, self.length, self._model = rows, length, model
        self._token = torch.zeros(rows, 1, dtype=torch.int64, device=device)
        self._position = torch.zeros(1, 1, dtype=torch.int64, device=device)
        self._cache = StaticCache(layers, rows, length, self._position)
        self._run: Callable[[], None]
        with torch.no_grad():
            forward(model, self._cache, self._token, self._position)  # takes the memory
            one = OneToken(model, self._cache)
            self._make(one, device)
            one.hold()
        for prompt in ([0], [0, 0]):  # compiles what reading takes: of one token that is other code than of several
            self.read([prompt])

    @property
    def cache_bytes_per_token(self) -> int:
        """Of one text's keys and values, of every place that memory is taken for."""
        held = sum(part.nbytes for layer in self._cache.kept for part in (layer.keys, layer.values))
        return held // (self.rows * self.length)

    @property
    def logits(self) -> torch.Tensor:
        """(vocabulary,) logits of the first text's last step."""
        return self._logits[0]

    def _make(self, one: OneToken, device: torch.device) -> None:
        inputs = (self._token, self._position)
        try:
            self._run, (self._logits, self._next) = _captured(one, inputs, device)
            self.step = "captured"
        except UntraceableError as error:
            log.warning("A decode step is run module by module: %s", error)
            self.step = "module by module"
            self._run = partial(self._by_module, one)
            self._run()

    def _by_module(self, one: OneToken) -> None:
        self._logits, self._next = one(self._token, self._position)

    def begin(self, prompt: Sequence[int]) -> int:
        """Forget what was, read a prompt, and give the likeliest token after it."""
        return self.read([prompt])[0]

    def read(self, prompts: Sequence[Sequence[int]], sampler: Sampler | None = None) -> list[int]:
        """Forget what was, read prompts of one length, one after the other, and give the token after each: the
        likeliest, or the one that `sampler` draws.
        """
        with torch.no_grad():
            logits = torch.stack([self._read(row, prompt) for row, prompt in enumerate(prompts)])
            self._cache.first, self._cache.seen = 0, self.length
            chosen = _chosen(logits, sampler)
        self._position.fill_(len(prompts[0]) - 1)
        self._token[: len(prompts)] = chosen
        return self._said()[: len(prompts)]

    def _read(self, row: int, prompt: Sequence[int]) -> torch.Tensor:
        """Read a prompt into a row, piece by piece where that bounds what attention needs; (vocabulary,) logits."""
        tokens = torch.tensor([list(prompt)], device=self._token.device)
        places = torch.arange(len(prompt), device=tokens.device)[None]
        size = len(prompt) if alone(self._model) else piece(len(prompt))
        for begin in range(0, len(prompt), size):
            end = min(begin + size, len(prompt))
            self._cache.first, self._cache.seen = row, end
            logits = forward(self._model, self._cache, tokens[:, begin:end], places[:, begin:end])
        return logits[0, -1]

    def next(self) -> int:
        """The likeliest token after the first text's last one."""
        return self.go_on()[0]

    def go_on(self, sampler: Sampler | None = None) -> list[int]:
        """The token after the last one of each text: the likeliest, or the one that `sampler` draws."""
        self._position.add_(1)
        with torch.no_grad():
            self._run()
            self._token.copy_(self._next if sampler is None else _chosen(self._logits, sampler))
        return self._said()

    def _said(self) -> list[int]:
        found: list[int] = self._token[:, 0].tolist()
        return found


def piece(tokens: int) -> int:
    """How many tokens of a prompt of so many are read at a time: the scores of a piece with all before it are as many
    as those of MOST_AT_ONCE tokens with each other at most, so that memory grows with a prompt's length, not with its
    square.
    """
    return tokens if tokens <= MOST_AT_ONCE else max(LEAST_AT_ONCE, MOST_AT_ONCE**2 // tokens)


def _chosen(logits: torch.Tensor, sampler: Sampler | None) -> torch.Tensor:
    """(rows, vocabulary) → (rows, 1) tokens."""
    if sampler is None:
        return logits.argmax(-1, keepdim=True)
    chosen: torch.Tensor = sampler(logits.float().log_softmax(-1))
    return chosen[:, None]


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
