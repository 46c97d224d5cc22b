"""Answers to many prompts, several at a time, through mlx-lm's own batched generation; and what of it is timed."""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from pytest_quantbench.engines import answers, requests
from pytest_quantbench.engines.answers import Said
from pytest_quantbench.engines.mlx.host_kernels import host_kernels, replaced
from pytest_quantbench.engines.mlx.kv_cache import Holding
from pytest_quantbench.engines.resident import Generation, Sampler, Timed, TimedBatch
from pytest_quantbench.quantizers.kv.protocol import KVQuantizer


def generate(
    model: nn.Module,
    tokenizer: Any,
    prompts: Sequence[Sequence[int]],
    *,
    sampler: Sampler | None = None,
    host: bool = False,
    cache: KVQuantizer | None = None,
    **how: Any,
) -> list[Generation]:
    """As `Resident.generate`. `host`: the model's layers multiply in numpy. `cache`: how keys and values are held."""
    with replaced(host_kernels() if host else []):
        if cache is None:
            return _answers(Sequences(model, sampler), tokenizer, prompts, how)
        from pytest_quantbench.engines.mlx.growing_cache import holding  # mlx-lm takes a second to import

        held = holding(cache, model)
        with held.expected.seen():
            found = _answers(Sequences(model, sampler, held), tokenizer, prompts, how)
    held.cache.refuse_unused(held.expected.architecture)
    return answers.engaged(found, prompts, held.cache)


def _answers(
    batch: "Sequences", tokenizer: Any, prompts: Sequence[Sequence[int]], how: Mapping[str, Any]
) -> list[Generation]:
    with closing(batch):
        return answers.answers(batch, tokenizer, prompts, **how)


class Sequences:
    """A `Batch` of mlx-lm's, which is always one token ahead of what it says."""

    def __init__(
        self, model: nn.Module, sampler: Sampler | None, held: Holding | None = None, together: int | None = None
    ) -> None:
        """`together`: how many prompts are read at once, and share the batch, instead of as many as answers do."""
        from mlx_lm.generate import BatchGenerator

        self._model, self._holding = model, held
        rows = together or answers.ROWS_AT_ONCE
        self._held: Any = BatchGenerator(
            model,
            sampler=sampler,
            completion_batch_size=rows,
            prefill_batch_size=min(together or answers.PREFILL_ROWS, rows),
            prefill_step_size=answers.PREFILL_TOKENS,
        )

    def insert(self, prompt: Sequence[int], most: int) -> int:
        """Add one; mlx-lm's number for it."""
        caches = None
        if self._holding is not None:
            from pytest_quantbench.engines.mlx.growing_cache import fresh

            caches = [fresh(self._model, self._holding)]
        (number,) = self._held.insert([list(prompt)], [most], caches=caches)
        return int(number)

    def next(self) -> Iterator[Said]:
        """What mlx-lm says next."""
        for said in self._held.next_generated():
            usable = partial(_is_number, said.logprobs, said.token)
            yield Said(sequence=said.uid, token=said.token, usable=usable)

    def remove(self, sequences: Sequence[int]) -> None:
        """Drop these."""
        self._held.remove(list(sequences))

    def close(self) -> None:
        """Give back what it holds."""
        self._held.close()


def _is_number(probabilities: mx.array, token: int) -> bool:
    value: Any = probabilities[token].item()
    return math.isfinite(value)


def sampler_of(seed: int, temperature: float = 1.0) -> Sampler:
    """Draws tokens by their probabilities at a temperature: (rows, vocabulary) log-probabilities → (rows,)."""
    following = mx.random.key(seed)

    def draw(log_probabilities: mx.array) -> mx.array:
        nonlocal following
        following, own = mx.random.split(following)
        return mx.random.categorical(log_probabilities / temperature, key=own)

    return draw


def timed(model: nn.Module, prompt: Sequence[int], new_tokens: int) -> Timed:
    """One generation through mlx-lm's own generation step."""
    from mlx_lm.generate import generate_step

    tokens: list[int] = []
    seconds: list[float] = []
    began = time.perf_counter()
    for token, _ in generate_step(mx.array(list(prompt)), model, max_tokens=new_tokens):
        tokens.append(int(token))
        seconds.append(time.perf_counter() - began)
    return Timed(tokens=tuple(tokens), seconds=tuple(seconds))


def timed_batch(
    model: nn.Module, prompts: Sequence[Sequence[int]], new_tokens: int, sampler: Sampler | None
) -> TimedBatch:
    """One generation of several prompts of one length, which are read together."""
    tokens: list[list[int]] = [[] for _ in prompts]
    last: list[float] = [0.0] * new_tokens
    with closing(Sequences(model, sampler, together=len(prompts))) as batch:
        began = time.perf_counter()
        places = {batch.insert(prompt, new_tokens): place for place, prompt in enumerate(prompts)}
        while len(tokens[0]) < new_tokens or len(tokens[-1]) < new_tokens:
            for said in batch.next():
                own = tokens[places[said.sequence]]
                own.append(said.token)
                last[len(own) - 1] = time.perf_counter() - began
    mx.synchronize()  # of what mlx-lm began of a next token
    return TimedBatch(tokens=tuple(map(tuple, tokens)), seconds=tuple(last))


def timed_requests(model: nn.Module, prompts: Sequence[Sequence[int]], new_tokens: int) -> tuple[Timed, ...]:
    """Prompts that are all there at the start, through mlx-lm's batches."""
    with closing(Sequences(model, None)) as batch:
        found = requests.timed(batch, prompts, new_tokens)
    mx.synchronize()
    return found


def cache_bytes(model: nn.Module) -> int:
    """What one more token adds to the keys and values of a text, by the memory that mlx-lm takes for a first one."""
    from mlx_lm.models.cache import make_prompt_cache

    caches = make_prompt_cache(model)
    mx.eval(model(mx.zeros((1, 1), mx.int32), cache=caches))
    return sum(map(_bytes_of_a_place, caches))


def _bytes_of_a_place(cache: Any) -> int:
    """Of one cache of mlx-lm's, or of several that are one; 0 of one that keeps no keys."""
    if (several := getattr(cache, "caches", None)) is not None:
        return sum(map(_bytes_of_a_place, several))
    held = (getattr(cache, name, None) for name in ("keys", "values"))
    return sum(part.nbytes // part.shape[2] for part in held if isinstance(part, mx.array) and part.ndim == 4)
