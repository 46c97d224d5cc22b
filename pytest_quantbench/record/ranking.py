"""Several recipes or candidates of one model, ordered by their loss on the same tokens, with those that cannot be told
apart.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_quantbench.record import comparison, pairing
from pytest_quantbench.record.folder_comparison import noise_of, opened
from pytest_quantbench.record.pairing import Measured
from pytest_quantbench.record.text_comparison import floor_nats
from pytest_quantbench.stats import ranking, series
from pytest_quantbench.stats.estimates import Interval
from pytest_quantbench.stats.window_sampling import Drawn

Losses = NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranked:
    """One cell's place. `letters`: two cells that share one cannot be told apart. `behind`: its mean loss minus that of
    the first, in nats per token, with its interval by itself; None for the first.
    """

    name: str
    ppl: float | None
    behind: Interval | None
    letters: str
    bits_per_weight: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """The cells of one model, the least loss first, on so many common `tokens`; those that were left out, with why."""

    model: str
    corpus: str
    tokens: int
    fewest: str  # the cell that has read no more than these, where others have; empty: none
    cells: tuple[Ranked, ...]
    left_out: Mapping[str, str]


def rank(directory: Path, models: Sequence[str] = ()) -> list[Ranking]:
    """Every model of a results folder that has several cells whose losses may be compared."""
    found: dict[str, list[Measured]] = {}
    for each in opened(directory):
        if not models or each.record.model_id in models:
            found.setdefault(each.record.model_id, []).append(each)
    return [ranking for model, cells in found.items() if (ranking := _ranking(model, cells, directory)) is not None]


def _ranking(model: str, cells: Sequence[Measured], directory: Path) -> Ranking | None:
    """None where there are not two cells to be compared. The one with the most tokens says what all are compared on."""
    left_out = {each.name: "T2 was not measured." for each in cells if each.record.perplexity is None}
    there = [each for each in cells if each.record.perplexity is not None]
    if not there:
        return None
    first = max(there, key=_tokens)
    kept = []
    for each in there:
        assert first.record.perplexity is not None
        assert each.record.perplexity is not None
        texts = first.record.perplexity, each.record.perplexity
        found = pairing.common_tokens(first, each, "perplexity", texts)
        if isinstance(found, str):
            left_out[each.name] = found
        else:
            kept.append(each)
    if len(kept) < 2:
        return None
    losses, drawn = _common(kept)
    return Ranking(
        model=model,
        corpus=first.record.perplexity.corpus if first.record.perplexity else "",
        tokens=len(next(iter(losses.values()))),
        fewest="" if len({_tokens(each) for each in kept}) == 1 else min(kept, key=_tokens).name,
        cells=_ordered(kept, losses, drawn, directory),
        left_out=left_out,
    )


def _tokens(each: Measured) -> int:
    return 0 if each.record.perplexity is None else each.record.perplexity.tokens


def _common(cells: Sequence[Measured]) -> tuple[dict[str, Losses], Drawn | None]:
    """The losses of all cells on the tokens that all have: the first ones, or the windows."""
    part, begins = "perplexity/nll_nats", "perplexity/window_begins"
    if begins not in cells[0].arrays:
        least = min(len(each.arrays[part]) for each in cells)
        return {each.name: each.arrays[part][:least] for each in cells}, None
    shared = reduce(np.intersect1d, [each.arrays[begins] for each in cells])
    fewest = min(cells, key=_tokens)
    windows = fewest.arrays[begins][np.isin(fewest.arrays[begins], shared)]
    losses, text = {}, fewest.record.perplexity
    for each in cells:
        counts, own = each.arrays["perplexity/window_counts"], list(each.arrays[begins])
        losses[each.name] = each.arrays[part][pairing.places(counts, np.array([own.index(b) for b in windows]))]
    counts = fewest.arrays["perplexity/window_counts"][np.isin(fewest.arrays[begins], shared)]
    assert text is not None
    population = text.text_windows or len(windows)
    return losses, Drawn(population=population, tokens=text.block_tokens, begins=windows, counts=counts)


def _ordered(
    cells: Sequence[Measured],
    losses: Mapping[str, Losses],
    drawn: Drawn | None,
    directory: Path,
) -> tuple[Ranked, ...]:
    means = {name: float(np.mean(each, dtype=np.float64)) for name, each in losses.items()}
    names = sorted(losses, key=lambda name: (means[name], name))
    noise = comparison.larger(*(noise_of(each.record, directory) for each in cells[:1]))
    ppl = series.perplexity(losses[names[0]])
    floor = floor_nats(noise, max(map(_divergence, cells)), ppl)
    given = ranking.letters(names, ranking.differing({name: losses[name] for name in names}, drawn, floor))
    by_name = {each.name: each.record for each in cells}
    return tuple(
        Ranked(
            name=name,
            ppl=series.perplexity(losses[name]),
            behind=None if name == names[0] else _behind(losses[names[0]], losses[name], drawn),
            letters=given[name],
            bits_per_weight=size.bits_per_weight if (size := by_name[name].compression) else None,
        )
        for name in names
    )


def _divergence(each: Measured) -> float:
    part = each.record.perplexity and each.record.perplexity.divergence
    return part.kl_nats if part else 0.0


def _behind(
    first: Losses,
    other: Losses,
    drawn: Drawn | None,
) -> Interval | None:
    found = series.mean(other.astype(np.float64) - first, drawn)
    return None if found is None else found.interval()
