"""The options and markers of the plugin. As light as it: the standard library and pytest only.

The plugin is loaded in every pytest run of an environment, so its options are called `--qb-NAME` there and get in
nobody's way. Who works with them all day asks for the short names (`--NAME`) with `short_options`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

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


def _repeatable(metavar: str, what: str) -> dict[str, Any]:
    return {"action": "append", "default": [], "metavar": metavar, "help": f"{what} (repeatable)"}


def _flag(what: str, **more: Any) -> dict[str, Any]:
    return {"action": "store_true", "help": what, **more}


PREFIX, SHORT_PREFIX = "--qb-", "--"
# By name: what argparse is told of it. An option's value is `config.getoption(dest(name))`.
OPTIONS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "model": _repeatable("PATH_OR_HUB_ID", "also run this model"),
        "recipe": _repeatable("ID", "such as int4-rtn, instead of the levels' defaults"),
        "runs": {"type": int, "default": 3, "help": "T1: runs of each of the five prompts (default 3)"},
        "tokens": {"default": "512", "help": "T2: how many tokens of the corpus, or 'all' (default 512)"},
        "max-tokens": {
            "default": "16384",
            "help": "T2: how far an undecided check goes on, or 'all' (default 16384)",
        },
        "sampling": {
            "choices": ("windows", "head"),
            "default": "windows",
            "help": "T2: windows drawn from all of the corpus, or its first tokens (default windows)",
        },
        "context": {
            "type": int,
            "metavar": "N",
            "help": "T2: tokens in a window (default 256; 2048 with --sampling head)",
        },
        "stride": {
            "type": int,
            "metavar": "N",
            "help": "T2: tokens scored in each (default 64; the context with head)",
        },
        "memory": {
            "type": float,
            "default": 4.0,
            "metavar": "GB",
            "help": "T2, T3: hidden states beyond this go to temporary files (default 4)",
        },
        "corpus": _repeatable(
            "FILE", "T2: a UTF-8 text or JSONL file, or a corpus by name, instead of the model's; the first is judged"
        ),
        "calibration": {
            "metavar": "FILE",
            "help": "calibration text instead of the model's: a file, a corpus by name, self or none",
        },
        "calibration-sequences": {
            "type": int,
            "metavar": "N",
            "help": "calibration sequences (default 128; Tiny 32)",
        },
        "limit": {"type": int, "default": 200, "help": "T3: questions per task, a seeded sample (default 200)"},
        "task": _repeatable("NAME", "T3: an lm-eval task or its YAML file"),
        "task-data": _repeatable("NAME=FILE.jsonl", "T3: a task's questions"),
        "run-code": _flag("T3: run the programs that a model writes (humaneval, mbpp), with limits"),
        "sample-seed": {"type": int, "default": 0, "help": "seed of sampled questions and windows (default 0)"},
        "fixed": _flag("one look: an undecided check does not go on with more samples"),
        "time-budget": {
            "type": float,
            "metavar": "MINUTES",
            "help": "after so long no check of a cell goes on (default: none)",
        },
        "results": {"type": Path, "metavar": "DIR", "help": "where records go (default results)"},
        "undecided": {
            "choices": ("report", "fail"),
            "default": "report",
            "help": "what an undecided verdict does to the run",
        },
        "fresh": _flag("measure again what earlier sessions have measured"),
        "resume": {
            "action": "store_false",
            "dest": "fresh",
            "default": False,
            "help": "take what earlier sessions have measured (default)",
        },
        "disk-plan": {
            "default": "A",
            "metavar": "A|B|C|D|S",
            "help": "what stays on disk, see `quantbench plan` (default A)",
        },
        "keep-compressed": _flag("with --disk-plan S: write compressed models all the same"),
        "offline": _flag("fetch nothing"),
    }
)


def add_options(parser: pytest.Parser, prefix: str) -> None:
    """What `pytest --help` lists under quantbench; options of either prefix fill the same values."""
    group = parser.getgroup("quantbench", "is this quantized model still good enough?")
    for name, told in OPTIONS.items():
        group.addoption(f"{prefix}{name}", **{**told, "dest": dest(str(told.get("dest", name)))})


def dest(name: str) -> str:
    """Under which name pytest keeps an option's value."""
    return f"qb_{name.replace('-', '_')}"


def are_given(arguments: Sequence[object], prefixes: Sequence[str]) -> bool:
    """Whether a command line names any of our options, with one of these prefixes."""
    named = {str(argument).partition("=")[0] for argument in arguments}
    return bool(named & {f"{prefix}{name}" for prefix in prefixes for name in OPTIONS})
