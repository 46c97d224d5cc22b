"""What the user asked for: the options of one session, each read and checked by a function here."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from pytest_quantbench.catalog.corpora import CONTEXT_TOKENS, CORPORA, HEAD_OF_TEXT, WINDOW_TOKENS, Sampling
from pytest_quantbench.catalog.disk_plans import DISK_PLANS, DiskPlan
from pytest_quantbench.catalog.models import Model
from pytest_quantbench.errors import QuantbenchError
from pytest_quantbench.storage.cache import default_cache


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One session's options. `tokens` None means the whole corpus; `criteria` maps a selector to limits."""

    results: Path = Path("results")
    report: Path | None = None
    cache: Path = field(default_factory=default_cache)
    runs: int = 3
    limit: int = 200
    tokens: int | None = 512
    sampling: Sampling = "windows"  # of T2: windows drawn from all of the text, or its head
    context: int | None = None  # of T2's windows; None: 256, and 2,048 at the head
    stride: int | None = None  # of T2's windows; None: 64, and the context at the head
    memory_bytes: int = 4_000_000_000  # for hidden states of a walk; the rest goes to files
    fixed: bool = False  # one look: an undecided check does not go on
    most_tokens: int | None = 16_384  # T2 goes on up to so many; None: to the end of the corpus
    most_runs: int = 12  # T1 goes on up to so many runs of each prompt
    time_budget_seconds: float | None = None  # of one cell
    seed: int = 0
    corpus: Path | str | None = None  # a file, or the name of a corpus; None: the model's own
    other_corpora: tuple[Path | str, ...] = ()  # measured, not judged
    calibration: str | Path | None = None  # a file, the name of a corpus, `self` or `none`; None: the model's own
    calibration_sequences: int | None = None
    tasks: tuple[str, ...] = ()
    task_files: Mapping[str, Path] = field(default_factory=dict)
    run_code: bool = False  # T3 may run programs that a model wrote
    fresh: bool = False  # measure again what earlier sessions have measured
    offline: bool = False
    disk_plan: DiskPlan = DISK_PLANS["A"]
    keep_compressed: bool = False  # under a plan that writes no compressed models
    criteria: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)

    @property
    def writes(self) -> DiskPlan:
        """The disk plan, with what `--keep-compressed` changes in it."""
        return replace(self.disk_plan, stores=self.disk_plan.stores or self.keep_compressed)


def positive(option: str, value: int) -> int:
    """The value. Raises QuantbenchError unless it is at least 1."""
    if value < 1:
        raise QuantbenchError(f"{option} {value}: give a number of at least 1.")
    return value


def seed(option: str, value: int) -> int:
    """The value. Raises QuantbenchError unless it is one that every generator here takes: 32 bits, not negative."""
    if not 0 <= value < 2**32:
        raise QuantbenchError(f"{option} {value}: give a number from 0 to {2**32 - 1}.")
    return value


def above_zero(option: str, value: float) -> float:
    """The value. Raises QuantbenchError unless it is a number above 0."""
    if not 0 < value < math.inf:
        raise QuantbenchError(f"{option} {value:g}: give a number above 0.")
    return value


def token_count(option: str, value: str) -> int | None:
    """A number of tokens, or None for `all`. Raises QuantbenchError for anything else."""
    if value == "all":
        return None
    if not value.isdecimal() or int(value) < 2:
        raise QuantbenchError(f"{option} {value}: give a number of at least 2, or 'all'.")
    return int(value)


def strided(context: int | None, stride: int | None, sampling: Sampling) -> int | None:
    """`--stride`. Raises QuantbenchError unless windows of `context` tokens follow each other without a gap."""
    if context is not None and context < 2:
        raise QuantbenchError(f"--context {context}: give a number of at least 2.")
    longest = context or (WINDOW_TOKENS if sampling == "windows" else CONTEXT_TOKENS)
    if stride is not None and not 1 <= stride <= longest:
        raise QuantbenchError(f"--stride {stride}: give a number from 1 to the context, {longest}.")
    return stride


def at_least(most: str, first: str) -> int | None:
    """`--max-tokens`. Raises QuantbenchError where `--tokens` is more, unless it is the default."""
    limit, tokens = token_count("--max-tokens", most), token_count("--tokens", first)
    if limit is not None and limit != Settings().most_tokens and (tokens is None or tokens > limit):
        raise QuantbenchError(f"--max-tokens {most} is less than --tokens {first}.")
    return limit


def named_text(option: str, value: str | None, *more: str) -> str | Path | None:
    """A text by the name of a corpus (or one of `more` names), or a file. Raises QuantbenchError for neither."""
    names = (*more, *CORPORA)
    if value is None or value in names:
        return value
    if not Path(value).is_file():
        raise QuantbenchError(f"{option} {value}: there is no such file, and the known names are {', '.join(names)}.")
    return Path(value)


def corpora(values: "list[str]") -> tuple[str | Path, ...]:
    """`--corpus` options: the first text is judged by, the others are measured beside it. Raises QuantbenchError for
    two of one name, which a record could not tell apart.
    """
    found = [text for value in values if (text := named_text("--corpus", value)) is not None]
    names = [text.name if isinstance(text, Path) else text for text in found]
    for name in names:
        if name == HEAD_OF_TEXT:
            raise QuantbenchError(f"--corpus: no text may be called {HEAD_OF_TEXT}. Rename the file.")
        if names.count(name) > 1:
            raise QuantbenchError(f"--corpus: two texts are called {name}. Rename the file of one of them.")
    return tuple(found)


def task_files(values: "list[str]", tasks: "list[str]", models: Iterable[Model]) -> dict[str, Path]:
    """`--task-data NAME=FILE` options as a mapping. Raises QuantbenchError for one that is not of that form, whose file
    is not there, or whose name is no task of this session.
    """
    for value in values:
        if not all(value.partition("=")):
            raise QuantbenchError(f"--task-data {value}: give NAME=FILE.jsonl, such as arc_easy=questions.jsonl.")
    files = {name: Path(file).resolve() for name, _, file in (value.partition("=") for value in values)}
    asked = tasks or sorted({task for model in models for task in model.tasks})
    for name, file in files.items():
        # a group's members begin with its name, and a YAML file names its task itself
        if not any(name.startswith(task) or task.endswith((".yaml", ".yml")) for task in asked):
            raise QuantbenchError(f"--task-data {name}: no such task is asked; those are {', '.join(asked)}.")
        if not file.is_file():
            raise QuantbenchError(f"--task-data {name}={file}: there is no such file.")
    return files
