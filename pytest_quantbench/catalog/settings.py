"""What the user asked for: the options of one session, and what holds where nothing is said."""

import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from pytest_quantbench.catalog.corpora import NEW_TOKENS, PROMPTS, Sampling
from pytest_quantbench.catalog.criteria import Overrides
from pytest_quantbench.catalog.disk_plans import DISK_PLANS, DiskPlan
from pytest_quantbench.catalog.prices import Price
from pytest_quantbench.storage.cache import default_cache

AUTO = "auto"  # the engine that is faster here, of those installed
ENVIRONMENT = "QUANTBENCH_ENGINE"  # names another for all that is run where it is set


def default_engine() -> str:
    """What `$QUANTBENCH_ENGINE` names, or `auto`."""
    return os.environ.get(ENVIRONMENT) or AUTO


def _session_name() -> str:
    return os.environ.get("PYTEST_XDIST_TESTRUNUID") or uuid.uuid4().hex  # xdist's, which its workers share, or ours


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One session's options. `tokens` None means the whole corpus; `criteria` are limits instead of the tables'."""

    results: Path = Path("results")
    engine: str = field(default_factory=default_engine)  # `auto`, or its name
    activations: Literal["float32", "bfloat16"] = "float32"  # of walks
    report: Path | None = None
    cache: Path = field(default_factory=default_cache)
    runs: int = 3
    new_tokens: int = NEW_TOKENS  # of every run of T1
    prompts: tuple[str, ...] = PROMPTS  # that T1 goes on from
    limit: int = 200
    tokens: int | None = 512
    sampling: Sampling = "windows"  # of T2: windows drawn from all of the text, or its head
    context: int | None = None  # of T2's windows; None: 256, and 2,048 at the head
    stride: int | None = None  # of T2's windows; None: 64, and the context at the head
    fewest_windows: int = 0  # that T2 draws at first, however many tokens each scores
    growing_windows: int = 0  # and goes on to
    memory_bytes: int = 4_000_000_000  # for hidden states of a walk; the rest goes to files
    fixed: bool = False  # one look: an undecided check does not go on
    retrieval_questions: int = 40  # of each stratum, at first
    most_retrieval_questions: int = 160  # retrieval goes on up to so many of each stratum
    retrieval_context: int | None = None  # tokens; None: 2,048, or as many as the model takes
    most_tokens: int | None = 16_384  # T2 goes on up to so many; None: to the end of the corpus
    most_runs: int = 12  # T1 goes on up to so many runs of each prompt
    loads: int = 5  # fresh processes that load a model whose files are in memory
    cold_loads: int = 3  # and that load one whose files are not
    drop_caches: bool = False  # before a cold load, pages of every file on the machine are given back: takes root
    sweep: bool = False  # T1 in full: by batch, depth and length, at a temperature, several requests at once
    temperature: float = 0.7  # of the sweep's answers
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
    baseline: Path | None = None  # a results folder: what is worse than its records, beyond the noise, is a regression
    baseline_figures: int | None = None  # that this session compares with it, of all models; None: those of one model
    criteria: Overrides = field(default_factory=Overrides)
    session: str = field(default_factory=_session_name, compare=False)  # of whom a record says that it wrote it
    command: str = ""  # that the user typed, for records to tell; none: a program's
    price: Price | None = None  # of an hour; None: nothing is said of costs

    @property
    def writes(self) -> DiskPlan:
        """The disk plan, with what `--keep-compressed` changes in it."""
        return replace(self.disk_plan, stores=self.disk_plan.stores or self.keep_compressed)
