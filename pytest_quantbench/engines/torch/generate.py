"""Answers to many prompts, several at a time, each in a row of one static cache; and generations that are timed."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from pytest_quantbench.engines import answers
from pytest_quantbench.engines.answers import Said
from pytest_quantbench.engines.held_caches import HeldCache
from pytest_quantbench.engines.resident import Generation, Sampler, Timed, TimedBatch
from pytest_quantbench.engines.torch.decode_step import Decoder
from pytest_quantbench.engines.torch.held_answers import HeldStaticCache
from pytest_quantbench.engines.torch.static_cache import StaticCache, alone, forward


def generate(
    model: nn.Module,
    layers: int,
    tokenizer: Any,
    prompts: Sequence[Sequence[int]],
    *,
    sampler: Sampler | None = None,
    held: HeldCache | None = None,
    **how: Any,
) -> list[Generation]:
    """As `Resident.generate`. `layers`: how many keep keys and values; `held`: how. Raises ModelError where nothing has
    been held so.
    """
    by_itself = alone(model)
    batch = Sequences(model, layers, sampler, whole=by_itself, held=held)
    with torch.no_grad():
        found = answers.answers(batch, tokenizer, prompts, at_once=1 if by_itself else None, **how)
    if held is None or not prompts:
        return found
    held.refuse_unused(type(model).__name__)
    return answers.engaged(found, prompts, held)


@dataclass(slots=True)
class _Row:
    """A sequence that runs: its number, its tokens' keys that are held, its last token, and how many it may have."""

    sequence: int
    held: int
    last: int
    need: int


class Sequences:
    """A `Batch`: those that run are the first rows of the cache. `whole`: prompts are read in one piece. `held`: in
    which form the cache is, if not as computed.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: int,
        sampler: Sampler | None,
        *,
        whole: bool = False,
        held: HeldCache | None = None,
    ) -> None:
        self._model, self._layers, self._sampler, self._whole, self._held = model, layers, sampler, whole, held
        self._device = next(model.parameters()).device
        self._cache = self._new(0, 0)
        self._rows: list[_Row] = []
        self._waiting: list[tuple[_Row, Sequence[int]]] = []
        self._count = 0

    def insert(self, prompt: Sequence[int], most: int) -> int:
        """Add one, to be read with the next call of `next`."""
        self._count += 1
        self._waiting.append((_Row(self._count, 0, 0, len(prompt) + most), prompt))
        return self._count

    def next(self) -> Iterator[Said]:
        """One token of each, those of prompts that are read together as soon as these are read."""
        if self._rows:
            yield from self._go_on()
        self._make_room()
        while self._waiting:
            group, self._waiting = self._waiting[: answers.PREFILL_ROWS], self._waiting[answers.PREFILL_ROWS :]
            yield from self._read(group)

    def remove(self, sequences: Sequence[int]) -> None:
        """Drop these; the last row comes to the place of one that is dropped."""
        for place in reversed(range(len(self._rows))):
            if self._rows[place].sequence in sequences:
                last = self._rows.pop()
                if place < len(self._rows):
                    self._rows[place] = last
                    self._cache.move(len(self._rows), place)

    def _new(self, rows: int, length: int) -> StaticCache:
        size = self._layers, rows, length, torch.zeros(1, 1, dtype=torch.int64, device=self._device)
        return StaticCache(*size) if self._held is None else HeldStaticCache(*size, self._held, self._model)

    def _make_room(self) -> None:
        """Have a cache with a row for each, as long as the longest may become."""
        rows = [*self._rows, *(row for row, _ in self._waiting)]
        longest = max((row.need for row in rows), default=0)
        if len(rows) > self._cache.rows or longest > self._cache.length:
            old, self._cache = self._cache, self._new(len(rows), longest)
            held = max((row.held for row in self._rows), default=0)
            self._cache.take(old, len(self._rows), held)

    def _go_on(self) -> Iterator[Said]:
        """The next token of those that run."""
        tokens = torch.tensor([[row.last] for row in self._rows], device=self._device)
        positions = torch.tensor([[row.held] for row in self._rows], device=self._device)
        self._cache.first, self._cache.seen = 0, 1 + max(row.held for row in self._rows)
        with self._cache.reading(positions):
            logits = forward(self._model, self._cache, tokens, positions)[:, -1]
        for row in self._rows:
            row.held += 1
        return self._said(self._rows, logits)

    def _read(self, group: Sequence[tuple[_Row, Sequence[int]]]) -> Iterator[Said]:
        """Read prompts together, piece by piece, and give the first token after each. Shorter ones are padded behind,
        where nothing sees it, and its keys are overwritten.
        """
        rows, prompts = [row for row, _ in group], [prompt for _, prompt in group]
        longest = max(map(len, prompts))
        tokens = torch.tensor([[*prompt, *[prompt[-1]] * (longest - len(prompt))] for prompt in prompts])
        found: dict[int, torch.Tensor] = {}
        size = longest if self._whole else answers.PREFILL_TOKENS
        for begin in range(0, longest, size):
            end = min(begin + size, longest)
            last = {place: len(p) - 1 - begin for place, p in enumerate(prompts) if begin < len(p) <= end}
            self._cache.first, self._cache.seen = len(self._rows), end
            positions = torch.arange(begin, end, device=self._device).expand(len(rows), -1)
            kept = sorted(set(last.values())) or [0]
            piece = tokens[:, begin:end].to(self._device)
            with self._cache.reading(positions):
                logits = forward(self._model, self._cache, piece, positions, torch.tensor(kept, device=self._device))
            found |= {place: logits[place, kept.index(local)] for place, local in last.items()}
        for row, prompt in group:
            row.held = len(prompt)
        self._rows += rows
        return self._said(rows, torch.stack([found[place] for place in range(len(rows))]))

    def _said(self, rows: Sequence[_Row], logits: torch.Tensor) -> Iterator[Said]:
        """Choose from (rows, vocabulary) logits."""
        probabilities = logits.float().log_softmax(-1)
        chosen = probabilities.argmax(-1) if self._sampler is None else self._sampler(probabilities)
        usable = torch.isfinite(probabilities.gather(1, chosen[:, None])[:, 0])
        for place, (row, token) in enumerate(zip(rows, chosen.tolist(), strict=True)):
            row.last = token
            yield Said(sequence=row.sequence, token=token, usable=partial(bool, usable[place]))


def sampler_of(seed: int, device: torch.device, temperature: float = 1.0) -> Sampler:
    """Draws tokens by their probabilities at a temperature: (rows, vocabulary) log-probabilities → (rows,)."""
    source = torch.Generator(device).manual_seed(seed)

    def draw(log_probabilities: torch.Tensor) -> torch.Tensor:
        probabilities = (log_probabilities / temperature).softmax(-1)
        return torch.multinomial(probabilities, 1, generator=source)[:, 0]

    return draw


def timed(decoder: Decoder, prompt: Sequence[int], new_tokens: int) -> Timed:
    """One greedy generation of exactly so many tokens."""
    found = timed_batch(decoder, [prompt], new_tokens)
    return Timed(tokens=found.tokens[0], seconds=found.seconds)


def timed_batch(
    decoder: Decoder, prompts: Sequence[Sequence[int]], new_tokens: int, sampler: Sampler | None = None
) -> TimedBatch:
    """One generation of exactly so many tokens of each of the decoder's texts."""
    began = time.perf_counter()
    tokens = [decoder.read(prompts, sampler)]
    seconds = [time.perf_counter() - began]
    while len(tokens) < new_tokens:
        tokens.append(decoder.go_on(sampler))
        seconds.append(time.perf_counter() - began)
    return TimedBatch(tokens=tuple(zip(*tokens, strict=True)), seconds=tuple(seconds), step=decoder.step)
