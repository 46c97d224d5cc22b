"""The perplexity figures of docs/quantizers.md: all methods at 4, 3 and 2 bits on a small model.

    python tools/quantizer_perplexity.py                # of Tiny
    python tools/quantizer_perplexity.py DIRECTORY      # of another model, on text that it wrote itself

Writes a markdown table below docs/figures/.
"""

import argparse
import dataclasses
import math
import tempfile
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from pytest_quantbench.bench.cell import Cell
from pytest_quantbench.bench.subject import Subject
from pytest_quantbench.catalog import models
from pytest_quantbench.catalog.models import user_model
from pytest_quantbench.catalog.recipes import recipe
from pytest_quantbench.catalog.settings import Settings
from pytest_quantbench.errors import QuantbenchError
from pytest_quantbench.stats import series

FIGURES = Path(__file__).parent.parent / "docs" / "figures"
TOKENS = 16_384
METHODS = (
    "rtn",
    "hqq",
    "nibble",
    "milo",
    "kquant",
    "mxfp4",
    "nvfp4",
    "awq",
    "gptq",
    "vptq",
    "aqlm",
    "quip",
    "dynamic",
    "static",
)


def perplexity(directory: Path | None) -> None:
    """All methods at 4, 3 and 2 bits on one model, paired with rounding at the same width."""
    model = models.MODELS["Tiny"] if directory is None else user_model(str(directory))
    with tempfile.TemporaryDirectory() as work:
        settings = Settings(cache=Path(work), tokens=TOKENS)
        if directory is not None:
            texts = [_written_by(directory, Path(work) / f"{name}.txt", seed) for seed, name in enumerate(("a", "b"))]
            settings = dataclasses.replace(settings, corpus=texts[0], calibration=texts[1], calibration_sequences=32)
        subject = Subject(model, settings)
        lines = ["| recipe | bits per weight of the decoder | perplexity | nats above BF16 | nats above rtn |"]
        lines.append("|---|---|---|---|---|")
        before = subject.cell(recipe("bf16")).samples("perplexity").nll_nats
        lines.append(f"| bf16 | 16 | {np.exp(before.mean()):.3f} | | |")
        for width in (4, 3, 2):
            rounded = None
            for name in METHODS:
                try:
                    cell = subject.cell(recipe(f"int{width}-{name}"))
                    after = cell.samples("perplexity").nll_nats
                except QuantbenchError as error:  # a width that the method does not have
                    print(error)
                    continue
                rounded = after if name == "rtn" else rounded
                row = [cell.recipe.id, f"{_decoder_bits(cell):.2f}", f"{np.exp(after.mean()):.3f}"]
                row += [_paired(after, other) for other in (before, rounded)]
                print(*row, flush=True)
                lines.append(f"| {' | '.join(row)} |")
    FIGURES.mkdir(parents=True, exist_ok=True)
    (FIGURES / f"perplexity-{model.name}.md").write_text("\n".join(lines) + "\n")


def _paired(after: Any, before: Any) -> str:
    difference = series.mean(after - before)
    if difference is None:  # the same, token by token
        return "+0.0000 ± 0.0000"
    interval = difference.interval()
    return f"{interval.estimate:+.4f} ± {interval.high - interval.estimate:.4f}"


def _decoder_bits(cell: Cell) -> float:
    tensors = [tensor for tensor in cell.artifact.manifest.tensors if tensor.part == "inner"]
    return 8 * sum(t.stored_bytes for t in tensors) / sum(math.prod(t.shape) for t in tensors)


def _written_by(directory: Path, file: Path, seed: int, sequences: int = 96, length: int = 400) -> Path:
    """A text file of samples from the model itself at temperature 1, some at a time."""
    from mlx_lm import load
    from mlx_lm.models.cache import make_prompt_cache

    model, tokenizer = load(str(directory))[:2]
    mx.random.seed(seed)
    cache = make_prompt_cache(model)
    tokens = mx.full((sequences, 1), tokenizer.bos_token_id)
    written = [tokens]
    for _ in range(length):
        tokens = mx.random.categorical(model(tokens, cache=cache)[:, -1:])
        mx.eval(tokens)
        written.append(tokens)
    stories = np.array(mx.concatenate(written, axis=1))[:, 1:].tolist()
    file.write_text("\n".join(tokenizer.decode(story) for story in stories))
    return file


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path, nargs="?")
    perplexity(parser.parse_args().directory)
