"""Data whose truth is known, at the very limit or at a given distance from it: what tools/verdict_figures.py judges."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from scipy.signal import lfilter

from pytest_quantbench.catalog.corpora import PROMPTS, SCORED_TOKENS
from pytest_quantbench.judge import interim
from pytest_quantbench.stats import series, speeds
from pytest_quantbench.stats.estimates import Estimate
from pytest_quantbench.stats.proportions import Flips
from pytest_quantbench.stats.window_sampling import Drawn as Windows
from pytest_quantbench.stats.window_sampling import order

ALL_QUESTIONS = 2376  # of ARC-Easy
Drawn = Callable[[int], Estimate | None]  # how many items → the estimate from so many


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """Data of one kind: a draw gives the estimates at any number of items; `planned` are the looks."""

    name: str
    metric: str
    limit: float
    planned: tuple[int, ...]
    draw: Callable[[Generator], Drawn]
    whole: int | None = None  # items of which samples are drawn without replacement


def answers(flipped: float, limit: float, planned: tuple[int, ...], drop: float | None = None) -> Setting:
    """T3: the share `flipped` of answers flips, of which so many are lost that the true drop is `drop` points."""
    share = (limit if drop is None else drop) / 100

    def draw(rng: Generator) -> Drawn:
        counts = rng.multinomial(1, [(flipped + share) / 2, (flipped - share) / 2, 1 - flipped], planned[-1])
        seen = np.cumsum(counts, axis=0)
        return lambda items: Flips(lost=int(seen[items - 1, 0]), gained=int(seen[items - 1, 1]), questions=items)

    return Setting(
        name=f"accuracy, {flipped:.0%} flips, {_looks(planned)} questions",
        metric="accuracy_drop_points",
        limit=limit,
        planned=planned,
        draw=draw,
    )


def tokens(correlation: float, planned: tuple[int, ...], limit: float = 1.0, document: int = 400) -> Setting:
    """T2: losses of mean 2.5 nats in documents within which tokens are correlated; the truth is on the limit."""
    reference_nats, shift = 2.5, math.log1p(limit / math.exp(2.5))

    def draw(rng: Generator) -> Drawn:
        documents = -(-planned[-1] // document)
        reference, change = (_correlated(rng, documents, document, correlation)[: planned[-1]] for _ in range(2))
        before = reference_nats + reference
        after = before + shift + 0.3 * change
        return lambda items: series.perplexity_delta(before[:items], after[:items])[0]

    return Setting(
        name=f"perplexity, correlation {correlation:g}, {_looks(planned)} tokens",
        metric="perplexity_delta",
        limit=limit,
        planned=planned,
        draw=draw,
    )


def windows(planned: tuple[int, ...], text: int, *, spread: bool = True) -> Setting:
    """T2 on a text whose losses are alike over 32, 256, 2,048 and 16,384 tokens, and whose own delta is the limit.

    Windows drawn from all of it; not `spread`: tokens in a row from a random place, as if the text began there.
    """

    def draw(rng: Generator) -> Drawn:
        before, change = (_alike(rng, text) for _ in range(2))
        before += 2.5
        after = before + 0.3 * change
        after += math.log(math.exp(before.mean()) + 1.0) - after.mean()
        chosen = order(text // SCORED_TOKENS, int(rng.integers(2**31)))
        start = int(rng.integers(text))

        def estimate(items: int) -> Estimate | None:
            numbers = chosen[: items // SCORED_TOKENS]
            drawn = Windows(
                population=text // SCORED_TOKENS,
                tokens=SCORED_TOKENS,
                begins=SCORED_TOKENS * numbers,
                counts=np.full(len(numbers), SCORED_TOKENS),
            )
            places = drawn.scored() if spread else (start + np.arange(items)) % text
            return series.perplexity_delta(before[places], after[places], drawn if spread else None)[0]

        return estimate

    return Setting(
        name=f"perplexity, {'windows of' if spread else 'in a row from'} a text of {text:,}, {_looks(planned)} tokens",
        metric="perplexity_delta",
        limit=1.0,
        planned=planned,
        draw=draw,
        whole=text if spread else None,
    )


def _alike(rng: Generator, tokens: int) -> "np.ndarray":
    """Noise of variance 1, of which a tenth is alike over each of the lengths."""
    made = math.sqrt(0.6) * rng.standard_normal(tokens)
    for length in (32, 256, 2048, 16_384):
        stretches = -(-tokens // length) + 1
        made += math.sqrt(0.1) * np.repeat(rng.standard_normal(stretches), length)[rng.integers(length) :][:tokens]
    return made


def _correlated(rng: Generator, documents: int, length: int, correlation: float) -> "np.ndarray":
    """First-order autoregressive noise of variance 1 in documents that know nothing of each other, end to end."""
    noise = rng.standard_normal((documents, length))
    noise[:, 1:] *= math.sqrt(1 - correlation**2)
    return lfilter([1.0], [1.0, -correlation], noise, axis=1).ravel()


def runs(planned: tuple[int, ...], limit: float = 1.5, prompts: int = len(PROMPTS)) -> Setting:
    """T1: log-normal noise of 5 % for every prompt's ratio and 5 % for every run; the truth is on the limit."""

    def draw(rng: Generator) -> Drawn:
        repeats = planned[-1] // prompts
        own = math.log(limit) + 0.05 * rng.standard_normal(prompts)
        logs = np.stack([0.05 * rng.standard_normal((repeats, prompts)) for _ in range(2)])
        logs[1] += own
        rates = np.exp(logs)

        def estimate(items: int) -> Estimate | None:
            taken = rates[:, : items // prompts]
            sides = [[(p, float(r)) for row in side for p, r in enumerate(row)] for side in taken]
            return speeds.unpaired_ratio(sides[0], sides[1])

        return estimate

    return Setting(
        name=f"speed ratio, {prompts} prompts, {_looks(planned)} runs",
        metric="throughput_ratio",
        limit=limit,
        planned=planned,
        draw=draw,
    )


def _looks(planned: tuple[int, ...]) -> str:
    return str(planned[0]) if len(planned) == 1 else f"{planned[0]} to {planned[-1]}"


GROWING = tuple(interim.sizes(200, ALL_QUESTIONS))
GROWING_TOKENS = tuple(interim.sizes(512, 16_384))
AT_THE_LIMIT: tuple[Setting, ...] = (
    *(answers(flipped, limit, (n,)) for flipped, limit in ((0.02, 1.0), (0.06, 3.0), (0.2, 3.0)) for n in (200, 1000)),
    *(answers(flipped, 3.0, (ALL_QUESTIONS,)) for flipped in (0.06, 0.2)),
    *(answers(flipped, limit, GROWING) for flipped, limit in ((0.02, 1.0), (0.06, 3.0), (0.12, 3.0), (0.2, 3.0))),
    *(tokens(correlation, (n,)) for correlation in (0.0, 0.5, 0.9) for n in (512, 4096)),
    *(tokens(correlation, GROWING_TOKENS) for correlation in (0.0, 0.5, 0.9)),
    *(windows((n,), 65_536) for n in (512, 4096, 16_384)),
    windows(GROWING_TOKENS, 65_536),
    windows(tuple(interim.sizes(512, 32_768)), 40_960),
    runs((15,)),
    runs(tuple(interim.sizes(15, 60))),
)


IN_A_ROW = tuple(windows(planned, 65_536, spread=False) for planned in ((512,), (4096,), (16_384,), GROWING_TOKENS))
