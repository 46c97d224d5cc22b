"""T2 and T3 of both engines, in both types of activations, beside Transformers and lm-eval, in one run.

    python tools/peers/engine_speed.py t2 --vocabulary 8192 --tokens 4096
    python tools/peers/engine_speed.py t2 --vocabulary 32000 --tokens 2048
    python tools/peers/engine_speed.py t3

The model is quality.py's, a Llama of 27 million parameters with random weights. T2's peer is Transformers' own forward
pass with PyTorch's cross entropy, window by window; T3's is lm-eval's Hugging Face backend. Times are CPU seconds of
one thread, the best of `--repeats` after one that is not counted, in turn. Ours keep the distributions as well, by
which recipes are compared.
"""

import argparse
import runpy
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lm_eval import evaluator

from pytest_quantbench import engines
from pytest_quantbench.catalog.models import TINY_DIRECTORY
from pytest_quantbench.catalog.recipes import recipe
from pytest_quantbench.checkpoints.checkpoint import Checkpoint
from pytest_quantbench.checkpoints.tokenizer import load_tokenizer
from pytest_quantbench.compress.pipeline import compress
from pytest_quantbench.engines.protocol import Activations, Engine
from pytest_quantbench.fetch.texts import Text
from pytest_quantbench.measures.accuracy import lm_eval_tasks
from pytest_quantbench.measures.accuracy import score as accuracy
from pytest_quantbench.measures.accuracy.task_set import TaskSet
from pytest_quantbench.measures.perplexity import score as perplexity
from pytest_quantbench.measures.perplexity.reading import Reading, Script, Tokens

QUALITY = runpy.run_path(str(Path(__file__).with_name("quality.py")))
OURS: tuple[tuple[str, Activations], ...] = (("mlx", "float32"), ("torch", "float32"), ("torch", "bfloat16"))
TYPES: tuple[Activations, ...] = ("float32", "bfloat16")
Tool = Callable[[], Any]


def artifact(engine: Engine, directory: Path, cache: Path) -> Any:
    """The model as it is published, as this engine opens it."""
    return compress(engine.open(Checkpoint(directory)), recipe("bf16"), 0, cache / engine.name)


def t2(directory: Path, cache: Path, tokens: int) -> dict[str, Tool]:
    """Mean losses of the same tokens in windows of 512."""
    text = Text(name="Tiny's", content=(TINY_DIRECTORY / "heldout.txt").read_text())
    capacity = engines.get("torch").capacity(QUALITY["CONFIG"])
    read = Tokens(text, load_tokenizer(directory), capacity)
    script = Script(read, Reading(tokens=tokens, context=512, sampling="head"))

    def ours(engine: Engine, weights: Any) -> float:
        walk = engine.walk([weights])
        walk.run(script.batches(), "T2")
        return float(perplexity.score(script, walk).nll_nats.mean())

    def theirs(model: Any) -> float:
        losses = []
        for batch in script.batches():
            ids = torch.from_numpy(np.array(getattr(batch, "tokens", batch), np.int64))
            with torch.inference_mode():
                logits = model(input_ids=ids, use_cache=False).logits[0, :-1].float()
                losses.append(torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="none").numpy())
        return float(np.concatenate(losses).mean())

    return _tools(directory, cache, ours, theirs, transformers_model, "Transformers")


def t3(directory: Path, cache: Path, limit: int) -> dict[str, Tool]:
    """Sums of the log-likelihoods of every choice of the same questions: prompts and tokens in every tool's time."""
    files = dict(lm_eval_tasks.EMBEDDED)
    loaded = {name: lm_eval_tasks.load_task(name, file, True) for name, file in files.items()}
    chosen = {name: lm_eval_tasks.sample(len(task.eval_docs), limit, 0) for name, task in loaded.items()}
    tokenizer = load_tokenizer(directory)

    def ours(engine: Engine, weights: Any) -> float:
        asked = TaskSet(tokenizer, engine.capacity(weights.config), list(files), files, limit, 0, offline=True)
        walk = engine.walk([weights])
        walk.run(asked.choices.plan(walk.proof).batches, "T3")
        samples = accuracy.chosen(asked, walk)
        return float(sum(sum(question) for name in files for question in samples.tasks[name].loglikelihoods))

    def theirs(model: Any) -> float:
        with lm_eval_tasks.quiet_lm_eval():
            told = {"tasks": loaded, "groups": {}, "group_map": {}}
            samples = evaluator.evaluate(model, told, samples=chosen, bootstrap_iters=0)["samples"]
        return float(sum(answer[0] for name in files for each in samples[name] for answer in each["filtered_resps"]))

    return _tools(directory, cache, ours, theirs, lm_eval_model, "lm-eval hf")


def transformers_model(directory: Path, activations: Activations) -> Any:
    """Transformers' model of these files."""
    from transformers import AutoModelForCausalLM

    maker: Any = AutoModelForCausalLM
    return maker.from_pretrained(str(directory), dtype=getattr(torch, activations)).eval()


def lm_eval_model(directory: Path, activations: Activations) -> Any:
    """lm-eval's backend for it."""
    from lm_eval.models.huggingface import HFLM

    return HFLM(pretrained=str(directory), dtype=activations, device="cpu", batch_size=8)


def _tools(
    directory: Path,
    cache: Path,
    ours: Callable[[Engine, Any], float],
    theirs: Callable[[Any], float],
    load: Callable[[Path, Activations], Any],
    name: str,
) -> dict[str, Tool]:
    tools: dict[str, Tool] = {}
    for engine_name, activations in OURS:
        engine = engines.get(engine_name, activations)
        tools[f"{engine_name}, {activations}"] = partial(ours, engine, artifact(engine, directory, cache))
    return tools | {f"{name}, {each}": partial(theirs, load(directory, each)) for each in TYPES}


def side_by_side(tools: Mapping[str, Tool], repeats: int) -> dict[str, tuple[float, float]]:
    """CPU seconds of each tool and what it returned, run in turn."""
    best: dict[str, tuple[float, float]] = {}
    for turn in range(1 + repeats):
        for name, tool in tools.items():
            began = time.process_time()
            found = tool()
            seconds = time.process_time() - began
            if turn:
                best[name] = min(best.get(name, (seconds, found)), (seconds, found))
    return best


def table(best: Mapping[str, tuple[float, float]], peer: str) -> None:
    """Seconds, and how many times those of the peer in the same type."""
    print("| tool | CPU seconds | times its peer | result |\n|---|---|---|---|")
    for name, (seconds, found) in best.items():
        theirs = best[f"{peer}, {name.partition(', ')[2]}"][0]
        print(f"| {name} | {seconds:.2f} | {seconds / theirs:.2f} | {found:.4f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("t2", "t3"))
    parser.add_argument("--vocabulary", type=int, default=2048)
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--limit", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=3)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    QUALITY["CONFIG"]["vocab_size"] = chosen.vocabulary
    with tempfile.TemporaryDirectory() as made:
        directory = Path(made) / "model"
        directory.mkdir()
        QUALITY["random_model"](directory)
        if chosen.what == "t2":
            table(side_by_side(t2(directory, Path(made), chosen.tokens), chosen.repeats), "Transformers")
        else:
            table(side_by_side(t3(directory, Path(made), chosen.limit), chosen.repeats), "lm-eval hf")


if __name__ == "__main__":
    main()
