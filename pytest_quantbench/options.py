"""The options and markers of the plugin. As light as it: the standard library and pytest only."""

from pathlib import Path

import pytest

MARKERS = {
    **{level: f"a cell at level {level}" for level in ("bf16", "int8", "int4", "int3", "int2")},
    "t1": "throughput",
    "t2": "perplexity",
    "t3": "accuracy",
    "size": "bytes on disk",
    "weights": "decoded weights against the original ones",
    "selftest": "known damage has to fail; runs with -m selftest only",
    "quantbench(models=None, recipes=None)": "which models and recipes a test's `cell` runs over (default: all)",
}

# Options whose values are read before anything is collected.
EARLY = set(
    "--model --recipe --task-data --runs --limit --tokens --max-tokens --time-budget --memory --sampling --context "
    "--stride --corpus --calibration --calibration-sequences --disk-plan".split()
)


def add_options(parser: pytest.Parser) -> None:
    """What `pytest --help` lists under quantbench."""
    group = parser.getgroup("quantbench", "is this quantized model still good enough?")
    add = group.addoption
    add("--model", action="append", default=[], metavar="PATH_OR_HUB_ID", help="also run this model (repeatable)")
    add("--recipe", action="append", default=[], metavar="ID", help="such as int4-rtn (repeatable; default: levels)")
    add("--runs", type=int, default=3, help="T1: runs of each of the five prompts (default 3)")
    add("--tokens", default="512", help="T2: how many tokens of the corpus, or 'all' (default 512)")
    add("--max-tokens", default="16384", help="T2: how far an undecided check goes on, or 'all' (default 16384)")
    add(
        "--sampling",
        choices=("windows", "head"),
        default="windows",
        help="T2: windows drawn from all of the corpus, or its first tokens (default windows)",
    )
    add("--context", type=int, metavar="N", help="T2: tokens in a window (default 256; 2048 with --sampling head)")
    add("--stride", type=int, metavar="N", help="T2: tokens scored in each (default 64; the context with head)")
    add(
        "--memory",
        type=float,
        default=4.0,
        metavar="GB",
        help="T2, T3: hidden states beyond this go to temporary files (default 4)",
    )
    add(
        "--corpus",
        action="append",
        default=[],
        metavar="FILE",
        help="T2: a UTF-8 text or JSONL file, or a corpus by name, instead of the model's (repeatable: the first is "
        "judged)",
    )
    add("--calibration", metavar="FILE", help="calibration text instead of the model's: a file, c4, tiny-train or none")
    add("--calibration-sequences", type=int, metavar="N", help="calibration sequences (default 128; Tiny 32)")
    add("--limit", type=int, default=200, help="T3: questions per task, a seeded sample (default 200)")
    add("--task", action="append", default=[], metavar="NAME", help="T3: an lm-eval task or its YAML file (repeatable)")
    add("--task-data", action="append", default=[], metavar="NAME=FILE.jsonl", help="T3: a task's questions")
    add(
        "--run-code",
        action="store_true",
        help="T3: run the programs that a model writes (humaneval, mbpp), with limits",
    )
    add("--sample-seed", type=int, default=0, help="seed of sampled questions and windows (default 0)")
    add("--fixed", action="store_true", help="one look: an undecided check does not go on with more samples")
    add("--time-budget", type=float, metavar="MINUTES", help="after so long no check of a cell goes on (default: none)")
    add("--results", type=Path, metavar="DIR", help="where records go (default results)")
    add("--undecided", choices=("report", "fail"), default="report", help="what an undecided verdict does to the run")
    add("--resume", dest="fresh", action="store_false", default=False, help="reuse samples (default)")
    add("--fresh", dest="fresh", action="store_true", help="measure it again")
    add("--disk-plan", default="A", metavar="A|B|C|D|S", help="what stays on disk, see `quantbench plan` (default A)")
    add(
        "--keep-compressed",
        action="store_true",
        help="with --disk-plan S: write compressed models all the same",
    )
    add("--offline", action="store_true", help="fetch nothing")
