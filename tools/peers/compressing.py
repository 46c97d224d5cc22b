"""What compression costs, beside mlx_lm.convert on the same model in the same run: seconds, GB/s of BF16, peak memory.

    python tools/peers/compressing.py              # 1.5 billion parameters, random; int4, int4-rtn, mlx_lm.convert
    python tools/peers/compressing.py --model DIRECTORY --recipe int4 --recipe int3

Every compression runs in a process of its own, without calibration, and writes to a folder that is deleted.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from pytest_quantbench import engines
from pytest_quantbench.catalog.recipes import recipe
from pytest_quantbench.checkpoints.checkpoint import Checkpoint
from pytest_quantbench.compress.pipeline import compress
from tools.peers.walk import random_model

CONVERT = "mlx_lm.convert"
GROUP = 64  # of mlx_lm.convert's own default


def once(directory: Path, name: str) -> None:
    """In this process; prints seconds and bytes as JSON."""
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as made:
        if name == CONVERT:
            import mlx_lm

            mlx_lm.convert(str(directory), f"{made}/converted", quantize=True, q_bits=4, q_group_size=GROUP)
        else:
            compress(engines.get().open(Checkpoint(directory)), recipe(name), 0, Path(made))
    seconds = time.perf_counter() - began
    unit = 1 if sys.platform == "darwin" else 1024
    print(json.dumps({"seconds": seconds, "bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}))


def compare(directory: Path, names: list[str], repeats: int) -> None:
    """All in turn, `repeats` times; prints a table row for each."""
    size = sum(file.stat().st_size for file in directory.glob("*.safetensors")) / 1e9
    print(f"| {size:.2f} GB of BF16 | seconds | GB/s | peak GB |\n|---|---|---|---|")
    for _ in range(repeats):
        for name in names:
            command = [sys.executable, __file__, "--once", name, "--model", str(directory)]
            told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1]
            found = json.loads(told)
            seconds = found["seconds"]
            print(f"| {name} | {seconds:.1f} | {size / seconds:.3f} | {found['bytes'] / 1e9:.2f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a directory that is made where it is not there")
    parser.add_argument("--recipe", action="append")
    parser.add_argument("--layers", type=int, default=28)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--once", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.once:
        once(chosen.model, chosen.once)
        return
    with tempfile.TemporaryDirectory() as made:
        directory = chosen.model or Path(made) / "model"
        if not directory.is_dir():
            random_model(directory, chosen.layers)
        compare(directory, [*(chosen.recipe or ("int4", "int4-rtn")), CONVERT], chosen.repeats)


if __name__ == "__main__":
    main()
