"""How often T3 is wrong where questions share sources, and near chance: docs/figures/questions.md, by simulation.

    python tools/question_figures.py [--draws 4000]

"Before" is the same test with every question taken as independent, and with any reference that is above chance.
"""

import argparse
import math
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from pytest_quantbench.catalog.criteria import METRICS
from pytest_quantbench.judge import accuracy_drop
from pytest_quantbench.judge.rules import judged
from pytest_quantbench.measures.samples import TaskSamples
from pytest_quantbench.report import markdown_table
from pytest_quantbench.stats.estimates import ALPHA, Estimate
from pytest_quantbench.stats.proportions import GUESSING_P, above_chance_p, flips
from tools.verdict_figures import FIGURES, simulate
from tools.verdict_settings import Drawn, Setting

LIMIT = 3.0  # points


@dataclass(frozen=True, slots=True, kw_only=True)
class Passages:
    """Passages with `fewest` to `most` questions each, whose answers flip with a correlation within a passage."""

    passages: int
    fewest: int
    most: int
    correlation: float
    flipped: float = 0.06
    uneven: bool = False  # geometric sizes instead of even ones: many small passages and a few large ones

    @property
    def name(self) -> str:
        """As the table has it."""
        sizes = str(self.fewest) if self.fewest == self.most else f"{self.fewest} to {self.most}"
        kind = ", uneven" if self.uneven else ""
        return f"{self.passages} passages of {sizes} questions{kind}, {self.flipped:.0%} flips"

    def sizes(self, rng: Generator) -> NDArray[np.integer]:
        """(passages,) numbers of questions."""
        if self.uneven:
            return np.clip(rng.geometric(3 / (self.fewest + self.most), self.passages), self.fewest, self.most)
        return rng.integers(self.fewest, self.most + 1, self.passages)

    def draw(self, rng: Generator, drop: float) -> tuple[NDArray[np.integer], NDArray[np.str_]]:
        """(questions,) changes, 1 for lost and −1 for gained, in a random order, and the passage of each.

        Every passage has its own probabilities, drawn from Dirichlet's distribution.
        """
        sizes = self.sizes(rng)
        mean = np.array([(self.flipped + drop / 100) / 2, (self.flipped - drop / 100) / 2, 1 - self.flipped])
        if self.correlation == 0:
            shares = np.tile(mean, (self.passages, 1))
        else:
            shares = rng.dirichlet(mean * (1 / self.correlation - 1), self.passages)
        labels = np.repeat(np.arange(self.passages), sizes)
        kinds = (rng.random(len(labels))[:, None] > np.cumsum(shares[labels], axis=1)[:, :2]).sum(1)
        order = rng.permutation(len(labels))
        return np.array([1, -1, 0])[kinds][order], labels[order].astype(str)


def setting(passages: Passages, planned: tuple[int, ...], *, clustered: bool) -> Setting:
    """T3 at the limit, judged with or without regard to passages; looks at the first so many of all questions."""

    def draw(rng: Generator) -> Drawn:
        change, names = passages.draw(rng, LIMIT)

        def estimate(items: int) -> Estimate:
            seen = change[:items]
            return flips(seen >= 0, seen <= 0, tuple(names[:items]) if clustered else ())

        return estimate

    return Setting(name=passages.name, metric="accuracy_drop_points", limit=LIMIT, planned=planned, draw=draw)


EVERY = 10**9  # more than there are: all at once
SETTINGS = tuple(
    Passages(passages=passages, fewest=fewest, most=most, correlation=correlation, flipped=flipped, uneven=uneven)
    for correlation in (0.0, 0.3, 0.5)
    for passages, fewest, most, flipped, uneven in (
        (200, 5, 5, 0.06, False),
        (40, 10, 10, 0.12, False),
        (57, 30, 30, 0.06, False),
        (30, 5, 30, 0.12, False),
        (60, 1, 60, 0.06, True),
    )
)
GROWING = (200, 400, 800, 1200)  # questions of a task of 1,200, in order


def task(right: NDArray[np.bool_], choices: int = 4) -> TaskSamples:
    """Answers to questions of so many choices."""
    count = len(right)
    return TaskSamples(
        ids=tuple(map(str, range(count))),
        hashes=("",) * count,
        correct=right,
        correct_raw=right,
        loglikelihoods=((0.0,) * choices,) * count,
        texts=("",) * count,
        gold=(0,) * count,
        choices=choices,
        version="",
    )


def guessing(questions: int, truth: float, draws: int, seed: int = 0) -> tuple[float, float]:
    """How often a model that guesses among four passes beside a reference of this true accuracy: before, and now."""
    before = now = 0
    for draw in range(draws):
        rng = np.random.default_rng([seed, draw])
        reference, guesser = rng.random(questions) < truth, rng.random(questions) < 0.25
        plain = judged(METRICS["accuracy_drop_points"], flips(reference, guesser), LIMIT, "", ALPHA)
        above = above_chance_p(int(reference.sum()), questions, 0.25) < GUESSING_P
        before += plain.outcome == "pass" and above
        now += accuracy_drop.judge_accuracy("", task(guesser), task(reference), LIMIT).outcome == "pass"
    return before / draws, now / draws


def _rows(draws: int) -> list[str]:
    lines = markdown_table.head(["questions", "correlation", "looks", "pass, before", "pass", "fail, before", "fail"])
    growing = Passages(passages=120, fewest=10, most=10, correlation=0.5, flipped=0.12)
    cases: list[tuple[Passages, tuple[int, ...], str]] = [(each, (EVERY,), "one") for each in SETTINGS]
    cases += [
        (Passages(passages=120, fewest=10, most=10, correlation=c, flipped=0.12), GROWING, "200 to 1200")
        for c in (0.0, 0.3, growing.correlation)
    ]
    for each, planned, shown in cases:
        before, now = (simulate(setting(each, planned, clustered=flag), draws) for flag in (False, True))
        rates = [f"{rate:.1%}" for rate in (before.passed, now.passed, before.failed, now.failed)]
        lines.append(markdown_table.row([each.name, f"{each.correlation:g}", shown, *rates]))
        print(lines[-1], flush=True)
    return lines


def _guessers(draws: int) -> list[str]:
    lines = markdown_table.head(["questions", "the reference's true accuracy", "passes, before", "passes"])
    for questions in (200, 2376, 10_042):
        for truth in (0.25, 0.265, 0.28):
            before, now = guessing(questions, truth, draws)
            lines.append(markdown_table.row([f"{questions:,}", f"{truth:.1%}", f"{before:.1%}", f"{now:.1%}"]))
            print(lines[-1], flush=True)
    return lines


def main(draws: int) -> None:
    """Both tables."""
    noise = math.sqrt(ALPHA * (1 - ALPHA) / draws)
    lines = [f"A true drop of exactly the limit, {LIMIT:g} points; {draws:,} draws for each row (standard error"]
    lines += [f"{noise:.2%} at 5 %). Before: every question was taken as independent.", "", *_rows(draws), ""]
    lines += ["A model that guesses among four choices, judged by a limit of 3 points. Before: any reference that is"]
    lines += ["surely above chance was good enough.", "", *_guessers(draws)]
    FIGURES.mkdir(parents=True, exist_ok=True)
    (FIGURES / "questions.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=4000)
    main(parser.parse_args().draws)
