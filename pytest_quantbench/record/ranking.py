"""Several recipes or candidates of one model, ordered by their loss on the same tokens, with those that cannot be told
apart.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_quantbench.record import noise_floor, pairing
from pytest_quantbench.record.folder_comparison import noise_of, of_models, opened
from pytest_quantbench.record.pairing import Measured
from pytest_quantbench.stats import ranking, series
from pytest_quantbench.stats.estimates import Interval
from pytest_quantbench.stats.window_sampling import Drawn

Losses = NDArray[np.floating[Any]]
ALONE = "no other cell of the model has read the same text."
NOT_FINITE = "{broken:,} of its {tokens:,} losses are infinite or no numbers, and such losses have no mean."


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranked:
    """One cell's place. `letters`: two cells that share one cannot be told apart. `behind`: its mean loss minus that of
    the first, in nats per token, with its interval by itself; None for the first. `floor_nats`: how far a rerun may
    move its mean loss though nothing was changed.
    """

    name: str
    recipe: str
    ppl: float | None
    behind: Interval | None
    letters: str
    floor_nats: float
    bits_per_weight: float | None
    bits_per_value: float | None  # of a key or value in a quantized cache; None where it is in 16 bits, or not known


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """The cells of one model, the least loss first, on so many common `tokens`; those that were left out, with why.
    None are ordered where there are not two to be compared.
    """

    model: str
    corpus: str
    tokens: int
    fewest: str  # the cell that has read no more than these, where others have; empty: none
    cells: tuple[Ranked, ...]
    left_out: Mapping[str, str]


def rank(directory: Path, models: Sequence[str] = ()) -> list[Ranking]:
    """Every model of a results folder; without `cells` where no two of them may be compared. Raises UnknownNameError
    for one of `models` that the folder does not have.
    """
    found: dict[str, list[Measured]] = {}
    for each in of_models(opened(directory), models):
        found.setdefault(each.record.model_id, []).append(each)
    return [_ranking(model, cells, directory) for model, cells in found.items()]


def _ranking(model: str, cells: Sequence[Measured], directory: Path) -> Ranking:
    left_out = {each.name: why for each in cells if (why := _unusable(each))}
    kept = _of_one_reading([each for each in cells if each.name not in left_out], left_out)
    if len(kept) < 2:
        alone = {each.name: ALONE for each in kept}
        return Ranking(model=model, corpus="", tokens=0, fewest="", cells=(), left_out={**left_out, **alone})
    losses, drawn = _common(kept)
    return Ranking(
        model=model,
        corpus=kept[0].record.perplexity.corpus if kept[0].record.perplexity else "",
        tokens=len(next(iter(losses.values()))),
        fewest="" if len({_tokens(each) for each in kept}) == 1 else min(kept, key=_tokens).name,
        cells=_ordered(kept, losses, drawn, directory),
        left_out=left_out,
    )


def _unusable(each: Measured) -> str:
    """Why a cell's losses can be compared with nothing; empty where they can."""
    text = each.record.perplexity
    if text is None:
        return "T2 was not measured."
    found = pairing.common_tokens(each, each, "perplexity", (text, text))
    if isinstance(found, str):
        return found
    losses = each.arrays["perplexity/nll_nats"]
    broken = int((~np.isfinite(losses)).sum())
    return NOT_FINITE.format(broken=broken, tokens=len(losses)) if broken else ""


def _of_one_reading(cells: Sequence[Measured], left_out: dict[str, str]) -> list[Measured]:
    """Those that may be compared with each other: of several readings the one that most cells share, and of those the
    one of the longest text. The others are left out, with why they differ from the cell that has read most.
    """
    groups: dict[Hashable, list[Measured]] = {}
    for each in cells:
        groups.setdefault(pairing.reading(each), []).append(each)
    if not groups:
        return []
    widest: list[Measured] = max(groups.values(), key=_breadth)
    first = max(widest, key=_tokens)
    kept = []
    for each in cells:
        assert first.record.perplexity is not None
        assert each.record.perplexity is not None
        texts = first.record.perplexity, each.record.perplexity
        found = pairing.common_tokens(first, each, "perplexity", texts)
        if isinstance(found, str):
            left_out[each.name] = found
        else:
            kept.append(each)
    return kept


def _breadth(group: Sequence[Measured]) -> tuple[int, int]:
    return len(group), max(map(_tokens, group))


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
    noise, ppl = noise_of(cells[0].record, directory), series.perplexity(losses[names[0]])
    by_name = {each.name: each.record for each in cells}
    floors = {
        name: noise_floor.floor_nats(
            noise, noise_floor.divergence_of(record.perplexity), ppl, noise_floor.activations_of(record)
        )
        for name, record in by_name.items()
    }
    given = ranking.letters(names, ranking.differing({name: losses[name] for name in names}, drawn, floors))
    return tuple(
        Ranked(
            name=name,
            recipe=by_name[name].recipe,
            ppl=series.perplexity(losses[name]),
            behind=None if name == names[0] else _behind(losses[names[0]], losses[name], drawn),
            letters=given[name],
            floor_nats=floors[name],
            bits_per_weight=size.bits_per_weight if (size := by_name[name].compression) else None,
            bits_per_value=held.size.bits_per_value if (held := by_name[name].cache) and held.size else None,
        )
        for name in names
    )


def _behind(
    first: Losses,
    other: Losses,
    drawn: Drawn | None,
) -> Interval | None:
    found = series.mean(other.astype(np.float64) - first, drawn)
    return None if found is None else found.interval()
