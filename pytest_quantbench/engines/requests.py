"""Several requests at once, each timed: all are there at the start, and share an engine's batch as answers do.

Which of them are read first, and how many tokens of prompts are read between two steps of the others, is the engine's
own way of batching (`answers.Batch`): what is timed here is that.
"""

import time
from collections.abc import Sequence

from pytest_quantbench.engines.answers import ROWS_AT_ONCE, Batch
from pytest_quantbench.engines.resident import Timed


def timed(
    batch: Batch, prompts: Sequence[Sequence[int]], new_tokens: int, at_once: int = ROWS_AT_ONCE
) -> tuple[Timed, ...]:
    """Exactly so many tokens of each prompt, in the prompts' order, and the seconds from now on until each was there.
    No more than `at_once` share the batch, which is empty; others wait until one has ended.
    """
    tokens: list[list[int]] = [[] for _ in prompts]
    seconds: list[list[float]] = [[] for _ in prompts]
    waiting, places = list(range(len(prompts))), dict[int, int]()
    began = time.perf_counter()
    while waiting or places:
        while waiting and len(places) < at_once:
            place = waiting.pop(0)
            places[batch.insert(prompts[place], new_tokens)] = place
        ended = []
        for said in batch.next():
            place = places[said.sequence]
            tokens[place].append(said.token)
            seconds[place].append(time.perf_counter() - began)
            ended += [said.sequence] if len(tokens[place]) == new_tokens else []
        batch.remove(ended)
        for sequence in ended:
            del places[sequence]
    return tuple(Timed(tokens=tuple(t), seconds=tuple(s)) for t, s in zip(tokens, seconds, strict=True))
