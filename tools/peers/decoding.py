"""What decoding one token costs, beside llama.cpp on a model of the same shape in one run: ms of wall and CPU time.

    python tools/peers/decoding.py                                     # ours alone: all levels, 100M parameters
    python tools/peers/decoding.py --llama PYTHON --gguf model-F16.gguf --gguf model-Q4_K_M.gguf

PYTHON is an interpreter that has llama-cpp-python; the GGUF files are of the model that `--write DIRECTORY` writes as a
checkpoint (`quantbench convert DIRECTORY --recipe bf16 --to gguf`, then llama.cpp's own quantization). Each runs in a
process of its own on one thread, and all take turns, so that what else the machine does meets them alike: ratios are of
the best turns. Weights are random, and so are codes (see tools/device/random_weights.py).
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PROMPT, NEW_TOKENS = list(range(5, 37)), 128
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
BASE = "bf16"


def torch_steps(shape: str, level: str) -> Iterator[None]:
    """Decode again and again with our engine, a token at each step."""
    import torch

    from pytest_quantbench.engines.torch.engine import TorchEngine
    from tools.device.random_weights import SHAPES, RandomWeights

    torch.set_num_threads(1)
    loaded: Any = TorchEngine(device="cpu").load(RandomWeights(SHAPES[shape], level, "cpu"), "timed")
    decoder = loaded.decoder(len(PROMPT) + NEW_TOKENS)
    told = {"kernels": loaded.kernels, "MB": round(loaded.bytes_per_token / 1e6, 1), "step": decoder.step}
    print(json.dumps(told), file=sys.stderr)
    while True:
        decoder.begin(PROMPT)
        for _ in range(NEW_TOKENS):
            decoder.next()
            yield


def llama_steps(file: Path) -> Iterator[None]:
    """The same with llama.cpp, whose tokens are the likeliest, too."""
    import ctypes

    import llama_cpp
    import numpy as np

    quiet = llama_cpp.llama_log_callback(lambda *_: None)
    llama_cpp.llama_log_set(quiet, ctypes.c_void_p(0))
    model = llama_cpp.llama_model_load_from_file(bytes(file), llama_cpp.llama_model_default_params())
    wanted = llama_cpp.llama_context_default_params()
    wanted.n_ctx, wanted.n_threads, wanted.n_threads_batch = len(PROMPT) + NEW_TOKENS, 1, 1
    context = llama_cpp.llama_init_from_model(model, wanted)
    vocabulary = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))

    def decode(tokens: list[int]) -> int:
        held = (llama_cpp.llama_token * len(tokens))(*tokens)
        if llama_cpp.llama_decode(context, llama_cpp.llama_batch_get_one(held, len(tokens))):
            raise SystemExit(f"llama.cpp cannot decode with {file}")
        logits = llama_cpp.llama_get_logits_ith(context, -1)
        return int(np.ctypeslib.as_array(logits, shape=(vocabulary,)).argmax())

    while True:
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(context), True)
        token = decode(PROMPT)
        for _ in range(NEW_TOKENS):
            token = decode([token])
            yield


def work(steps: Iterator[None]) -> None:
    """Answer every line of the standard input with the milliseconds of NEW_TOKENS steps, each: wall and CPU."""
    next(steps)
    for _ in range(NEW_TOKENS - 1):
        next(steps)
    print("ready", flush=True)
    for _ in sys.stdin:
        next(steps)  # reads the prompt
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(NEW_TOKENS - 1):
            next(steps)
        each = 1e3 / (NEW_TOKENS - 1)
        print(json.dumps([(time.perf_counter() - wall) * each, (time.process_time() - cpu) * each]), flush=True)


class Peer:
    """A process that decodes when it is told to."""

    def __init__(self, name: str, command: list[str]) -> None:
        self.name, self.found = name, list[tuple[float, float]]()
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | ONE_THREAD
        )
        self._answer()

    def turn(self) -> None:
        """Once more."""
        assert self._process.stdin is not None
        print(file=self._process.stdin, flush=True)
        wall, cpu = json.loads(self._answer())
        self.found.append((wall, cpu))

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name} has ended")
        return line

    @property
    def best(self) -> tuple[float, float]:
        """Milliseconds a token of wall and of CPU time."""
        return min(wall for wall, _ in self.found), min(cpu for _, cpu in self.found)

    def end(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()


def compare(peers: list[Peer], turns: int) -> None:
    """All in turn; prints a table row for each."""
    for _ in range(turns):
        for peer in peers:
            peer.turn()
    base = next((peer.best[1] for peer in peers if peer.name == BASE), None)
    print("| | ms per token | CPU ms per token | × bf16 |\n|---|---|---|---|")
    for peer in peers:
        wall, cpu = peer.best
        print(f"| {peer.name} | {wall:.2f} | {cpu:.2f} | {'' if base is None else f'{base / cpu:.2f}'} |")
        peer.end()


def write(shape: str, directory: Path) -> None:
    """The model's BF16 weights as a checkpoint, with Tiny's tokenizer."""
    import shutil

    from safetensors.torch import save_file

    from pytest_quantbench.catalog.models import TINY_DIRECTORY
    from tools.device.random_weights import SHAPES, RandomWeights

    weights = RandomWeights(SHAPES[shape], BASE, "cpu")
    directory.mkdir(parents=True)
    held: Any = {name: weights.dense(name) for name in weights.names}
    save_file(held, directory / "model.safetensors")
    (directory / "config.json").write_text(json.dumps(SHAPES[shape]))
    for file in TINY_DIRECTORY.glob("*token*"):
        shutil.copy(file, directory)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", default="100M", help="as tools/device/random_weights.py calls them")
    parser.add_argument("--level", action="append", help="default: bf16 int8 int4 int3 int2")
    parser.add_argument("--llama", help="a Python interpreter that has llama-cpp-python")
    parser.add_argument("--gguf", type=Path, action="append", default=[])
    parser.add_argument("--turns", type=int, default=10)
    parser.add_argument("--write", type=Path, metavar="DIRECTORY", help="write the model and end")
    parser.add_argument("--worker", choices=("torch", "llama"), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    levels = chosen.level or [BASE, "int8", "int4", "int3", "int2"]
    if chosen.write is not None:
        write(chosen.shape, chosen.write)
    elif chosen.worker is not None:
        work(torch_steps(chosen.shape, levels[0]) if chosen.worker == "torch" else llama_steps(chosen.gguf[0]))
    else:
        own = [sys.executable, __file__, "--shape", chosen.shape, "--worker", "torch", "--level"]
        peers = [Peer(level, [*own, level]) for level in levels]
        other = [chosen.llama or sys.executable, __file__, "--worker", "llama", "--gguf"]
        peers += [Peer(f"llama.cpp {file.stem}", [*other, str(file)]) for file in chosen.gguf]
        compare(peers, chosen.turns)


if __name__ == "__main__":
    main()
