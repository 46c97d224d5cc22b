"""How the memory and the time of a walk grow with the length of a text, on PyTorch and a CPU.

    python tools/context_figures.py DIRECTORY [--recipe bf16 kv8 kivi2] [--tokens 512 2048 8192] [--layers 2]

walks one random text of each length through the first decoder layers of a model, and prints by how much the process
grew at its largest beyond what the model took, and the CPU seconds. Every figure is of a process of its own.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from pytest_quantbench import engines
from pytest_quantbench.catalog.recipes import recipe
from pytest_quantbench.checkpoints.checkpoint import Checkpoint
from pytest_quantbench.engines import process_memory
from pytest_quantbench.engines.protocol import Architecture, Cached
from pytest_quantbench.quantizers import kv
from pytest_quantbench.quantizers.encoding import Rules

MIB = 2**20
WORDS = 1000  # those that a text is made of


class Weights:
    """A model's own, as a walk reads them."""

    def __init__(self, model: Architecture) -> None:
        self.config, self.names, self.dense = model.config, model.names, model.tensor

    def inputs(self, name: str) -> Rules | None:
        """Nothing is done to them."""


def measured(directory: Path, name: str, tokens: int, layers: int) -> str:
    """One line."""
    engine = engines.get("torch:cpu")
    weights, held = Weights(engine.open(Checkpoint(directory))), recipe(name).cache
    walk = engine.walk([weights if held is None else Cached(weights, kv.make(held))])
    rng = np.random.default_rng(0)
    walk.run([rng.integers(3, WORDS, (1, 64))], "the first text")  # what is taken once
    since = process_memory.lower_mark()
    before, began = process_memory.peak(since).peak_bytes, time.process_time()
    walk.begin([rng.integers(3, WORDS, (1, tokens))])
    for index in range(layers):
        walk.advance(index)
    grown = process_memory.peak(since).peak_bytes - before
    return f"{name:12} {tokens:6,} tokens {grown / MIB:8,.0f} MiB {time.process_time() - began:8.1f} s"


def main() -> None:
    """Read the arguments, and start a process for each figure."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--recipe", nargs="+", default=["bf16", "kv8", "kivi2"])
    parser.add_argument("--tokens", nargs="+", type=int, default=[512, 1024, 2048, 4096, 8192])
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--here", action="store_true", help="measure in this process, of one recipe and length")
    asked = parser.parse_args()
    if asked.here:
        print(measured(asked.directory, asked.recipe[0], asked.tokens[0], asked.layers))
        return
    for name in asked.recipe:
        for tokens in asked.tokens:
            one = ["--recipe", name, "--tokens", str(tokens), "--layers", str(asked.layers), "--here"]
            subprocess.run([sys.executable, __file__, str(asked.directory), *one], check=True)


if __name__ == "__main__":
    main()
