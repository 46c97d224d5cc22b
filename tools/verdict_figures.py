"""How often verdicts are wrong, how often they decide, and what they cost: docs/figures/verdicts.md, by simulation.

    python tools/verdict_figures.py [--draws 20000]

Data are drawn whose truth is known, at the very limit or at a given distance from it, and go through the same looks,
estimates and rule as real samples. The gate on the estimate alone, which other tools have, stands beside.
"""

import argparse
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.random import Generator

from pytest_quantbench.catalog.criteria import METRICS
from pytest_quantbench.judge import interim
from pytest_quantbench.judge.rules import judged
from pytest_quantbench.judge.verdict import Verdict
from pytest_quantbench.report import markdown_table
from pytest_quantbench.stats.estimates import ALPHA
from pytest_quantbench.stats.proportions import unpaired_z
from tools.verdict_settings import ALL_QUESTIONS, AT_THE_LIMIT, GROWING, IN_A_ROW, Drawn, Setting, answers

FIGURES = Path(__file__).parent.parent / "docs" / "figures"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Shares of draws, and the mean number of items that were used."""

    passed: float
    failed: float
    items: float
    point_passed: float  # by the gate on the estimate of the last look alone


def simulate(setting: Setting, draws: int, seed: int = 0) -> Rates:
    """Judge so many independent draws."""
    outcomes, items, point = [], [], 0
    better = METRICS[setting.metric].better
    for drawn in (setting.draw(rng) for rng in _generators(draws, seed)):
        verdict = _follow(setting, drawn)
        outcomes.append(verdict.outcome)
        items.append(verdict.looks[-1].items)
        last = drawn(setting.planned[-1])
        point += last is not None and (last.value < setting.limit) == (better == "lower")
    return Rates(
        passed=outcomes.count("pass") / draws,
        failed=outcomes.count("fail") / draws,
        items=float(np.mean(items)),
        point_passed=point / draws,
    )


def _generators(draws: int, seed: int) -> Iterator[Generator]:
    return (np.random.default_rng([seed, draw]) for draw in range(draws))


def _follow(setting: Setting, drawn: Drawn) -> Verdict:
    def verdict_at(items: int, alpha: float) -> Verdict:
        estimate, metric = drawn(items), METRICS[setting.metric]
        if estimate is None:
            return Verdict(
                metric=metric.name, outcome="undecided", limit=0.0, estimate=None, low=None, high=None, sentence=""
            )
        return judged(metric, estimate, setting.limit, "", alpha, items)

    looks = interim.Looks(setting.planned, whole=setting.whole)
    while (items := looks.wanted) is not None:
        _, alpha = looks.at(items)
        looks.add(items, alpha, verdict_at(items, alpha))
    return looks.verdict


def unpaired_share(
    draws: int, accuracy: float = 0.75, flipped: float = 0.06, drop: float = 2.0, n: int = 1000
) -> float:
    """How often the two-proportion z-test of published tables (two-sided 5 %) finds a drop in points."""
    rng, found = np.random.default_rng(0), 0
    lost, gained = (flipped + drop / 100) / 2, (flipped - drop / 100) / 2
    for _ in range(draws):
        b, c, right = rng.multinomial(n, [lost, gained, accuracy - lost, 1 - accuracy - gained])[:3]
        found += unpaired_z((b + right) / n, (c + right) / n, n)[1] < ALPHA
    return found / draws


def _power(draws: int) -> list[str]:
    found, unpaired = simulate(answers(0.06, 0.0, (1000,), drop=2.0), draws).failed, unpaired_share(draws)
    return [
        f"A drop of 2 points against a limit of 0, 1,000 questions, 6 % flips: found in {found:.1%} of the draws; by",
        f"an unpaired two-proportion z-test at accuracy 0.75 in {unpaired:.1%}.",
    ]


def _costs(draws: int, flipped: float) -> list[str]:
    lines = [
        f"{flipped:.0%} flips, limit 3 points, ARC-Easy's 2,376 questions: looked at after 200, 400, …, or all at once:"
    ]
    lines.append("")
    lines += markdown_table.head(
        ["true drop", "pass", "fail", "questions used", "pass, all at once", "fail, all at once"]
    )
    for drop in (0.0, 1.5, 3.0, 4.5, 6.0):
        growing = simulate(answers(flipped, 3.0, GROWING, drop=drop), draws)
        fixed = simulate(answers(flipped, 3.0, (ALL_QUESTIONS,), drop=drop), draws)
        cells = [f"{drop:g}", f"{growing.passed:.1%}", f"{growing.failed:.1%}", f"{growing.items:.0f}"]
        lines.append(markdown_table.row([*cells, f"{fixed.passed:.1%}", f"{fixed.failed:.1%}"]))
        print(lines[-1], flush=True)
    return lines


def main(draws: int) -> None:
    """All tables."""
    noise = math.sqrt(ALPHA * (1 - ALPHA) / draws)
    lines = [f"The truth exactly on the limit, {draws:,} draws for each row (standard error {noise:.2%} at 5 %):", ""]
    lines += markdown_table.head(["data", "limit", "pass", "fail", "gate on the estimate alone passes"])
    for setting in (*AT_THE_LIMIT, *IN_A_ROW):
        rates = simulate(setting, draws)
        shown = [f"{rates.passed:.2%}", f"{rates.failed:.2%}", f"{rates.point_passed:.1%}"]
        lines.append(markdown_table.row([setting.name, f"{setting.limit:g} {METRICS[setting.metric].unit}", *shown]))
        print(lines[-1], flush=True)
    lines += ["", *_power(draws), "", *_costs(draws, 0.06), "", *_costs(draws, 0.12)]
    FIGURES.mkdir(parents=True, exist_ok=True)
    (FIGURES / "verdicts.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=20_000)
    main(parser.parse_args().draws)
