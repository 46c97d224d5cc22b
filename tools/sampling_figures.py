"""Of which text does a verdict on perplexity hold? docs/figures/sampling.md, from the losses of real models on a text.

    python tools/sampling_figures.py losses MODEL_DIRECTORY TEXT LOSSES.npz --recipe int4-rtn --recipe int3-rtn
    python tools/sampling_figures.py rates LOSSES.npz ... [--draws 2000]

`losses` reads a text once, in windows of 256 tokens without overlap, with the reference and the recipes. `rates` takes
samples of these losses again and again: stretches of tokens in a row, as the head of a text is one, and windows of 64
drawn from all of it. The limit is the delta of all of the losses, so that passing is wrong, and so is failing; either
should happen 5 % of the time. Judged by the same looks, estimates and rule as real samples.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from pytest_quantbench import engines
from pytest_quantbench.catalog.corpora import SCORED_TOKENS, WINDOW_TOKENS
from pytest_quantbench.catalog.criteria import METRICS
from pytest_quantbench.catalog.recipes import recipe
from pytest_quantbench.checkpoints.checkpoint import Checkpoint
from pytest_quantbench.checkpoints.tokenizer import load_tokenizer
from pytest_quantbench.compress.pipeline import compress
from pytest_quantbench.engines.mlx.walk import Walk
from pytest_quantbench.fetch.texts import read_text
from pytest_quantbench.judge import interim
from pytest_quantbench.judge.rules import judged
from pytest_quantbench.judge.verdict import Verdict
from pytest_quantbench.measures.perplexity.reading import Tokens
from pytest_quantbench.measures.perplexity.windows import windows
from pytest_quantbench.report import markdown_table
from pytest_quantbench.stats import series
from pytest_quantbench.stats.window_sampling import Drawn, order
from pytest_quantbench.storage.cache import default_cache

FIGURES = Path(__file__).parent.parent / "docs" / "figures"
AT_ONCE = 64  # windows of a walk, after which what there is is written
SIZES = ((512,), (4096,), (16_384,), (512, 1024, 2048, 4096, 8192, 16_384))


def write_losses(model: Path, text: Path, file: Path, tokens: int, names: Sequence[str]) -> None:
    """(tokens,) losses in nats of every recipe, under its name; the same tokens for all."""
    opened = engines.get().open(Checkpoint(model))
    cells = {name: compress(opened, recipe(name), 0, default_cache()) for name in ("bf16", *names)}
    read = Tokens(read_text(text, offline=True), load_tokenizer(model), opened.engine.capacity(opened.config))
    cut = windows(min(tokens, len(read.ids)), WINDOW_TOKENS, WINDOW_TOKENS, bool(read.front))
    found: dict[str, list[np.ndarray]] = {name: [] for name in cells}
    for start in range(0, len(cut), AT_ONCE):
        part = cut[start : start + AT_ONCE]
        walk = Walk(*cells.values(), host=True)
        walk.run([np.array([[*read.front, *read.ids[w.begin : w.end - 1]]]) for w in part], f"{start} of {len(cut)}")
        for track, name in enumerate(cells):
            for index, window in enumerate(part):
                logits = np.array(walk.head(index, slice(None), track))[0][-window.scored :].astype(np.float64)
                largest = logits.max(-1)
                total = np.log(np.exp(logits - largest[:, None]).sum(-1)) + largest
                found[name].append(total - logits[np.arange(window.scored), list(read.ids[window.first : window.end])])
        written: dict[str, Any] = {name: np.concatenate(losses, dtype=np.float32) for name, losses in found.items()}
        np.savez(file, **written)


@dataclass(frozen=True, kw_only=True)
class Losses:
    """(tokens,) losses of a reference and of a recipe on all of a text, whose delta is the limit."""

    before: np.ndarray
    after: np.ndarray

    @cached_property
    def limit(self) -> float:
        """The truth."""
        truth, _ = series.perplexity_delta(self.before, self.after, self.drawn(np.arange(len(self.before) // 64)))
        assert truth is not None
        return truth.value

    def drawn(self, numbers: np.ndarray) -> Drawn:
        """Windows of 64 tokens by their numbers."""
        return Drawn(
            population=len(self.before) // SCORED_TOKENS,
            tokens=SCORED_TOKENS,
            begins=SCORED_TOKENS * numbers,
            counts=np.full(len(numbers), SCORED_TOKENS),
        )


def outcome(losses: Losses, planned: tuple[int, ...], seed: int, *, spread: bool) -> str:
    """What is said of a sample that grows as planned: of windows `spread` over the text, or of tokens in a row."""
    count = len(losses.before)
    numbers = order(count // SCORED_TOKENS, seed)
    start = int(np.random.default_rng(seed).integers(count))
    places = losses.drawn(numbers).scored() if spread else (start + np.arange(planned[-1])) % count

    def verdict_at(items: int, alpha: float) -> Verdict:
        drawn = losses.drawn(numbers[: items // SCORED_TOKENS]) if spread else None
        taken = places[:items]
        estimate, _ = series.perplexity_delta(losses.before[taken], losses.after[taken], drawn)
        assert estimate is not None
        return judged(METRICS["perplexity_delta"], estimate, losses.limit, "", alpha, items)

    looks = interim.Looks(planned, whole=count if spread else None)
    while (items := looks.wanted) is not None:
        _, alpha = looks.at(items)
        looks.add(items, alpha, verdict_at(items, alpha))
    return looks.verdict.outcome


def rates(losses: Losses, planned: tuple[int, ...], draws: int, *, spread: bool) -> tuple[float, float]:
    """Shares of samples that pass and that fail."""
    found = [outcome(losses, planned, seed, spread=spread) for seed in range(draws)]
    return found.count("pass") / draws, found.count("fail") / draws


def table(files: Sequence[Path], draws: int) -> list[str]:
    """A row for each model, recipe and size of sample."""
    lines = [
        "Share of samples with a wrong verdict, the limit at the text's own delta: 5 % is what is promised of either",
        f"side. {draws:,} samples of each kind (standard error {(0.05 * 0.95 / draws) ** 0.5:.1%}).",
        "",
        *markdown_table.head(
            ["losses", "recipe", "delta", "tokens", "in a row: pass", "fail", "windows drawn: pass", "fail"]
        ),
    ]
    for file in files:
        with np.load(file) as arrays:
            kept = {name: arrays[name] for name in arrays.files}
        size = len(kept["bf16"]) // SCORED_TOKENS * SCORED_TOKENS
        for name in [each for each in kept if each != "bf16"]:
            losses = Losses(before=kept["bf16"][:size], after=kept[name][:size])
            for planned in SIZES:
                row, spread = (rates(losses, planned, draws, spread=each) for each in (False, True))
                shown = [f"{share:.1%}" for share in (*row, *spread)]
                tokens = f"{planned[-1]:,}" if len(planned) == 1 else f"{planned[0]} to {planned[-1]:,}"
                head = [f"{file.stem}, {size:,} tokens", name, f"{losses.limit:.3g}", tokens]
                lines.append(markdown_table.row([*head, *shown]))
                print(lines[-1], flush=True)
    return lines


def main() -> None:
    """One of the two commands."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    losses = commands.add_parser("losses")
    for name in ("model", "text", "file"):
        losses.add_argument(name, type=Path)
    losses.add_argument("--recipe", action="append", required=True)
    losses.add_argument("--tokens", type=int, default=100_000)
    again = commands.add_parser("rates")
    again.add_argument("files", type=Path, nargs="+")
    again.add_argument("--draws", type=int, default=2000)
    given = parser.parse_args()
    if given.command == "losses":
        write_losses(given.model, given.text, given.file, given.tokens, given.recipe)
    else:
        (FIGURES / "sampling.md").write_text("\n".join(table(given.files, given.draws)) + "\n")


if __name__ == "__main__":
    main()
