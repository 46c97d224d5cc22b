"""More samples of cells that have some already, when a verdict asks for them: T2 by tokens, T3 by questions.

What is added is scored in other windows and batches than what was there, which is the same to rounding.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from pytest_quantbench.bench.schedule import Walked, recalled
from pytest_quantbench.bench.shared_walk import T2, T3, Shared, alone, asking, reading
from pytest_quantbench.measures.perplexity.reading import Script

if TYPE_CHECKING:
    from pytest_quantbench.measures.accuracy.task_set import Asked


def grow_tokens(cells: Sequence[Walked], tokens: int) -> int:
    """See to it that T2 has so many tokens of each cell, as far as the corpus has them; returns how many all have."""
    source = cells[0].source
    for there, short in _by_size({each: len(each.perplexity_samples.nll_nats) for each in cells}):
        script = source.rest(tokens, there)
        if script.wanted <= short[0].perplexity_samples.text_tokens:
            continue
        if not script.open:  # what is left of the text cannot be scored
            for each in short:
                each.perplexity_samples = replace(each.perplexity_samples, text_tokens=script.wanted)
            continue
        with alone([(each, T2) for each in short], partial(_behind, script)):
            if lacking := [each for each in short if not recalled(each, T2, reading(each, script))]:
                shared = Shared(source, lacking)
                shared.run("T2", script.batches())
                shared.keep_losses(script)
    _raise_failed(cells, T2)
    return min(each.perplexity_samples.text_tokens for each in cells)


def grow_questions(cells: Sequence[Walked], questions: int) -> int:
    """See to it that so many questions of the first task are answered, as far as it has them; returns how many are."""
    source, name = cells[0].source, next(iter(cells[0].accuracy_samples.tasks))
    for start, short in _by_size({each: len(each.accuracy_samples.tasks[name].ids) for each in cells}):
        if start >= min(questions, short[0].accuracy_samples.available[name]):
            continue
        asked = source.questions(source.tasks[:1], questions, start)
        with alone([(each, T3) for each in short], partial(_added, asked)):
            if lacking := [each for each in short if not recalled(each, T3, asking(asked))]:
                shared = Shared(source, lacking)
                shared.run("T3", asked.choices.plan(shared.walk.proof).batches)
                shared.keep_answers(asked, added_to=name)
    _raise_failed(cells, T3)
    return min(len(each.accuracy_samples.tasks[name].ids) for each in cells)


def _behind(script: Script, cell: Walked, part: str) -> Mapping[str, Any]:
    return reading(cell, script)


def _added(asked: "Asked", cell: Walked, part: str) -> Mapping[str, Any]:
    return asking(asked)


def _by_size(sizes: Mapping[Walked, int]) -> Iterator[tuple[int, list[Walked]]]:
    """Cells that have the same number of samples, in the order given: others are compared with the first."""
    for size in dict.fromkeys(sizes.values()):
        yield size, [each for each, own in sizes.items() if own == size]


def _raise_failed(cells: Sequence[Walked], name: str) -> None:
    for each in cells:
        if name in each.failed:
            raise each.failed[name]
