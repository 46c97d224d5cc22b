"""T2 and T3 beside other tools on the same model, the same text and the same questions, in one run.

    python tools/peers/quality.py t3 --task-data arc_easy=FILE.jsonl --task-data hellaswag=FILE.jsonl
    python tools/peers/quality.py t2 --text FILE

The model is a Llama of 27 million parameters with random weights and Tiny's tokenizer, made on the spot: what is timed
does not depend on the weights. `--model DIRECTORY` takes another. Peers: `mlx_lm.evaluate` and `mlx_lm.perplexity` as
they are installed, and lm-eval's Hugging Face backend in float32 on a CPU. Times are medians of `--repeats`, in turn.
"""

import argparse
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from lm_eval import evaluator

from pytest_quantbench import engines
from pytest_quantbench.catalog.models import TINY_DIRECTORY
from pytest_quantbench.catalog.recipes import recipe
from pytest_quantbench.checkpoints.checkpoint import Checkpoint
from pytest_quantbench.checkpoints.tokenizer import load_tokenizer
from pytest_quantbench.compress.pipeline import compress
from pytest_quantbench.engines.mlx.skeleton import shapes, skeleton
from pytest_quantbench.fetch.texts import Text
from pytest_quantbench.measures.accuracy import lm_eval_tasks
from pytest_quantbench.measures.accuracy import score as accuracy
from pytest_quantbench.measures.accuracy.task_set import TaskSet
from pytest_quantbench.measures.perplexity import score as perplexity
from pytest_quantbench.measures.perplexity.reading import Reading, Script, Tokens

CONFIG = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 512,
    "intermediate_size": 1408,
    "num_hidden_layers": 8,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "vocab_size": 2048,
    "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}


def random_model(directory: Path) -> Path:
    """A model of CONFIG with random BF16 weights and Tiny's tokenizer."""
    model = skeleton(CONFIG, [])
    rng = np.random.default_rng(0)
    weights = {
        name: mx.array(0.02 * rng.standard_normal(shape) if len(shape) > 1 else np.ones(shape)).astype(mx.bfloat16)
        for name, shape in shapes(model).items()
    }
    mx.save_safetensors(str(directory / "model.safetensors"), weights, metadata={"format": "pt"})
    (directory / "config.json").write_text(json.dumps(CONFIG))
    for file in TINY_DIRECTORY.glob("*token*"):
        shutil.copy(file, directory)
    return directory


def side_by_side(tools: dict[str, Callable[[], Any]], repeats: int) -> dict[str, tuple[float, Any]]:
    """Median seconds of each tool and what it returned, run in turn."""
    seconds: dict[str, list[float]] = {name: [] for name in tools}
    found = {}
    for _ in range(repeats):
        for name, tool in tools.items():
            began = time.perf_counter()
            found[name] = tool()
            seconds[name].append(time.perf_counter() - began)
    return {name: (statistics.median(times), found[name]) for name, times in seconds.items()}


def t3(directory: Path, files: dict[str, Path], limit: int, repeats: int) -> None:
    """Log-likelihoods of every choice of the same questions: prompts, tokens and walk in every tool's time."""
    from lm_eval.models.huggingface import HFLM
    from mlx_lm.evaluate import MLXLM

    engine = engines.get()
    with tempfile.TemporaryDirectory() as cache:
        artifact = compress(engine.open(Checkpoint(directory)), recipe("bf16"), 0, Path(cache))
        tokenizer = load_tokenizer(directory)
        peers = {
            "mlx_lm.evaluate": MLXLM(str(directory), use_chat_template=False),
            "lm-eval hf, float32": HFLM(pretrained=str(directory), dtype="float32", device="cpu", batch_size=8),
        }
        loaded = {name: lm_eval_tasks.load_task(name, file, True) for name, file in files.items()}
        chosen = {name: lm_eval_tasks.sample(len(task.eval_docs), limit, 0) for name, task in loaded.items()}

        def ours() -> Any:
            asked = TaskSet(tokenizer, engine.capacity(artifact.config), list(files), files, limit, 0, offline=True)
            walk = engine.walk([artifact])
            walk.run(asked.choices.plan(walk.proof).batches, "T3")
            samples = accuracy.chosen(asked, walk)
            return [question for name in files for question in samples.tasks[name].loglikelihoods]

        def theirs(model: Any) -> Any:
            with lm_eval_tasks.quiet_lm_eval():
                told = {"tasks": loaded, "groups": {}, "group_map": {}}
                samples = evaluator.evaluate(model, told, samples=chosen, bootstrap_iters=0)["samples"]
            return [[answer[0] for answer in e["filtered_resps"]] for name in files for e in samples[name]]

        tools = {"pytest-quantbench": ours} | {name: partial(theirs, model) for name, model in peers.items()}
        found = side_by_side(tools, repeats)
    table(found, lambda a, b: max(np.abs(np.array(x) - y).max() for x, y in zip(a, b, strict=True)))


def t2(directory: Path, file: Path, tokens: int, repeats: int) -> None:
    """Negative log-likelihoods of the same tokens in windows of 512."""
    import mlx_lm
    from mlx_lm.perplexity import eval_ppl

    text = Text(name=file.name, content=file.read_text())
    model, tokenizer = mlx_lm.load(str(directory))[:2]
    ids = tokenizer.encode(text.content, add_special_tokens=False)[:tokens]
    windows = mx.array(ids[: len(ids) // 512 * 512]).reshape(-1, 512)
    engine = engines.get()
    with tempfile.TemporaryDirectory() as cache:
        artifact = compress(engine.open(Checkpoint(directory)), recipe("bf16"), 0, Path(cache))
        own_tokenizer = load_tokenizer(directory)

        def ours() -> float:
            read = Tokens(text, own_tokenizer, engine.capacity(artifact.config))
            how = Reading(tokens=tokens, context=512, sampling="head")
            script, walk = Script(read, how), engine.walk([artifact])
            walk.run(script.batches(), "T2")
            samples = perplexity.score(script, walk)
            return float(np.exp(samples.nll_nats.mean()))

        found = side_by_side(
            {"pytest-quantbench": ours, "mlx_lm.perplexity": lambda: eval_ppl(model, windows)[0]}, repeats
        )
    table(found, lambda a, b: abs(a - b))


def table(found: dict[str, tuple[float, Any]], difference: Callable[[Any, Any], float]) -> None:
    """Seconds, how many times ours, and the largest difference from ours."""
    (ours, mine), *_ = found.values()
    print("| tool | seconds | times ours | largest difference |\n|---|---|---|---|")
    for name, (seconds, theirs) in found.items():
        print(f"| {name} | {seconds:.1f} | {seconds / ours:.1f} | {difference(mine, theirs):.2g} |")


def named_file(given: str) -> tuple[str, Path]:
    """`NAME=FILE` as argparse reads it."""
    name, equals, file = given.partition("=")
    if not (equals and Path(file).is_file()):
        raise argparse.ArgumentTypeError(f"{given!r} is not NAME=FILE with a file that exists")
    return name, Path(file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("t2", "t3"))
    parser.add_argument("--model", type=Path)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--limit", type=int, default=200)
    parser.add_argument("--task-data", action="append", type=named_file, default=[], metavar="NAME=FILE")
    parser.add_argument("--text", type=Path, default=TINY_DIRECTORY / "heldout.txt")
    parser.add_argument("--tokens", type=int, default=4096)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        directory = chosen.model or random_model(Path(made))
        if chosen.what == "t3":
            t3(directory, dict(chosen.task_data) or lm_eval_tasks.EMBEDDED, chosen.limit, chosen.repeats)
        else:
            t2(directory, chosen.text, chosen.tokens, chosen.repeats)


if __name__ == "__main__":
    main()
