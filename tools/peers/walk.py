"""What a walk costs: memory beside a plain load, several recipes beside one, time against tokens and layers.

    python tools/peers/walk.py memory     # 1.5 billion parameters, 2,048 tokens: peak resident memory and seconds
    python tools/peers/walk.py recipes    # four recipes along one walk against each alone
    python tools/peers/walk.py growth     # seconds by tokens and by layers

The model has the shape of Qwen2.5-1.5B (3.1 GB in BF16) and random weights, made on the spot; `--layers` takes fewer.
Every measurement runs in a process of its own, which says how much memory it had at most.
"""

import argparse
import json
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import mlx.core as mx

from pytest_quantbench import engines
from pytest_quantbench.catalog.models import TINY_DIRECTORY
from pytest_quantbench.catalog.recipes import recipe
from pytest_quantbench.checkpoints.checkpoint import Checkpoint
from pytest_quantbench.checkpoints.tokenizer import load_tokenizer
from pytest_quantbench.compress.pipeline import compress
from pytest_quantbench.engines.mlx.skeleton import shapes, skeleton
from pytest_quantbench.fetch.texts import Text
from pytest_quantbench.measures.perplexity import score
from pytest_quantbench.measures.perplexity.reading import Reading, Script, Tokens

CONFIG = {
    "model_type": "qwen2",
    "architectures": ["Qwen2ForCausalLM"],
    "hidden_size": 1536,
    "intermediate_size": 8960,
    "num_hidden_layers": 28,
    "num_attention_heads": 12,
    "num_key_value_heads": 2,
    "vocab_size": 151_936,
    "max_position_embeddings": 32_768,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1e6,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
}
RECIPES = ("bf16", "int4-rtn", "int3-rtn", "int2-rtn")


def random_model(directory: Path, layers: int) -> Path:
    """A model of CONFIG with so many layers, written one layer at a time."""
    config = CONFIG | {"num_hidden_layers": layers}
    groups: dict[str, dict[str, tuple[int, ...]]] = {}
    for name, shape in shapes(skeleton(config, [])).items():
        groups.setdefault(name.split(".")[2] if ".layers." in name else "", {})[name] = shape
    directory.mkdir(parents=True, exist_ok=True)
    for number, group in enumerate(groups.values()):
        weights = {
            name: (mx.random.normal(shape) * 0.02 if len(shape) > 1 else mx.full(shape, float("norm" in name)))
            for name, shape in group.items()
        }
        halves = {name: weight.astype(mx.bfloat16) for name, weight in weights.items()}
        mx.save_safetensors(str(directory / f"model-{number:05d}.safetensors"), halves, metadata={"format": "pt"})
        mx.clear_cache()
    (directory / "config.json").write_text(json.dumps(config))
    for file in TINY_DIRECTORY.glob("*token*"):
        shutil.copy(file, directory)
    return directory


def measure(directory: Path, cache: Path, recipes: Sequence[str], tokens: int) -> None:
    """In this process: T2 along one walk, with divergences from the first recipe; prints seconds and bytes as JSON."""
    if recipes == ["plain"]:
        began = time.perf_counter()
        plain(directory)
    else:
        engine = engines.get()
        opened = engine.open(Checkpoint(directory))
        artifacts = [compress(opened, recipe(name), 0, cache) for name in recipes]
        began = time.perf_counter()
        text = Text(name="Tiny's", content=(TINY_DIRECTORY / "heldout.txt").read_text())
        script = Script(
            Tokens(text, load_tokenizer(directory), engine.capacity(opened.config)),
            Reading(tokens=tokens, sampling="head"),
        )
        walk = engine.walk(artifacts)
        walk.run(script.batches(), "")
        reference = None
        for track in range(len(artifacts)):
            samples = score.score(script, walk, track=track, reference=reference)
            reference = reference or samples
    seconds = time.perf_counter() - began
    unit = 1 if sys.platform == "darwin" else 1024
    print(json.dumps({"seconds": seconds, "bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}))


def plain(directory: Path) -> None:
    """The whole model in memory as mlx-lm loads it, and 64 tokens through it: in bfloat16 a CPU is slow."""
    import mlx_lm

    model = mlx_lm.load(str(directory))[0]
    mx.eval(model(mx.random.randint(0, 2048, (1, 64))))


def apart(directory: Path, cache: Path, recipes: Sequence[str], tokens: int) -> tuple[float, float]:
    """Seconds and peak GB of `measure` in a process of its own."""
    command = [sys.executable, __file__, "measure", "--model", str(directory), "--cache", str(cache)]
    command += ["--tokens", str(tokens), *(f"--recipe={name}" for name in recipes)]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])
    return found["seconds"], found["bytes"] / 1e9


def memory(directory: Path, cache: Path, tokens: int, repeats: int) -> None:
    """One walk of four recipes beside one of the reference alone and a plain load."""
    print(f"| {tokens:,} tokens | seconds | peak GB |\n|---|---|---|")
    for name, recipes in (("one walk: " + ", ".join(RECIPES), RECIPES), ("bf16 alone", ["bf16"])):
        print("| {} | {:.0f} | {:.2f} |".format(name, *apart(directory, cache, recipes, tokens)), flush=True)
    seconds, gigabytes = apart(directory, cache, ["plain"], tokens)
    print(f"| mlx_lm.load in bfloat16, 64 tokens | {seconds:.0f} | {gigabytes:.2f} |")


def several(directory: Path, cache: Path, tokens: int, repeats: int) -> None:
    """Four recipes along one walk against the mean of each alone."""
    ratios = []
    for _ in range(repeats):
        alone = [apart(directory, cache, [name], tokens)[0] for name in RECIPES]
        ratios.append(apart(directory, cache, RECIPES, tokens)[0] / statistics.mean(alone))
        print(f"four together {ratios[-1]:.2f} × one alone ({statistics.mean(alone):.1f} s)", flush=True)
    print(f"median {statistics.median(ratios):.2f}")


def growth(directory: Path, cache: Path, tokens: int, repeats: int) -> None:
    """Seconds of the reference's walk."""
    layers = json.loads((directory / "config.json").read_text())["num_hidden_layers"]
    print("| layers | tokens | seconds |\n|---|---|---|")
    for count in (tokens // 4, tokens // 2, tokens):
        times = [apart(directory, cache, ["bf16"], count)[0] for _ in range(repeats)]
        print(f"| {layers} | {count:,} | {statistics.median(times):.1f} |", flush=True)
    for part in (layers // 4, layers // 2):
        with tempfile.TemporaryDirectory() as made:
            smaller = random_model(Path(made), part)
            times = [apart(smaller, cache, ["bf16"], tokens)[0] for _ in range(repeats)]
        print(f"| {part} | {tokens:,} | {statistics.median(times):.1f} |", flush=True)


WHAT = {"memory": memory, "recipes": several, "growth": growth}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=(*WHAT, "measure"))
    parser.add_argument("--model", type=Path, help="a directory that is made where it is not there")
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--recipe", action="append")
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--layers", type=int, default=28)
    parser.add_argument("--repeats", type=int, default=1)
    chosen = parser.parse_args()
    if chosen.what == "measure":
        measure(chosen.model, chosen.cache, chosen.recipe, chosen.tokens)
        return
    with tempfile.TemporaryDirectory() as made:
        directory = chosen.model or Path(made) / "model"
        if not directory.is_dir():
            random_model(directory, chosen.layers)
        cache = chosen.cache or Path(made) / "cache"
        for name in RECIPES:  # so that nothing that is measured compresses
            compress(engines.get().open(Checkpoint(directory)), recipe(name), 0, cache)
        WHAT[chosen.what](directory, cache, chosen.tokens, chosen.repeats)


if __name__ == "__main__":
    main()
