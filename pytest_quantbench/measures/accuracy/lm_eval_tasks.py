"""lm-eval's tasks: found by name or in a YAML file, with questions from the Hub or from a file of one's own."""

import json
import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from jinja2 import TemplateError
from lm_eval import tasks as lm_eval_tasks
from lm_eval.tasks._index import Kind
from lm_eval.tasks._yaml_loader import load_yaml
from yaml import YAMLError

from pytest_quantbench.catalog.models import TINY_DIRECTORY
from pytest_quantbench.errors import CorpusError, OfflineError, UnknownNameError, first_line
from pytest_quantbench.measures.accuracy.question_files import documents_of, rows_of

CODE = ("humaneval", "mbpp")  # programs are run to judge them
CODE_DIRECTORY = Path(__file__).parent / "codetasks"
# What could not be fetched in this process, and why: a network that is not there is waited for once, not for each cell.
_unreached: dict[tuple[str, str | None], str] = {}
EMBEDDED = {"tiny_facts": TINY_DIRECTORY / "facts.jsonl", "tiny_endings": TINY_DIRECTORY / "endings.jsonl"}


def sample(questions: int, limit: int, seed: int, start: int = 0) -> list[int]:
    """Which questions are asked: `start` to `limit` of a seeded permutation, so a larger limit asks these and more.

    Sorted, so that samples are in the order of the task's own documents.
    """
    return sorted(int(index) for index in np.random.default_rng(seed).permutation(questions)[start:limit])


def task_name(task: str) -> str:
    """A task's own name: itself, or what the YAML file calls it. Raises CorpusError for a file that names none."""
    if not task.endswith((".yaml", ".yml")):
        return task
    if not Path(task).is_file():
        raise CorpusError(f"--task {task}: there is no such file.")
    try:
        name = load_yaml(task_definition(task), resolve_func=False).get("task")
    except (OSError, ValueError, YAMLError) as error:
        raise CorpusError(f"--task {task}: the file is not a task's definition ({first_line(error)}).") from error
    if not isinstance(name, str):
        raise CorpusError(f"--task {task}: the file names no task (`task: NAME`).")
    if not re.fullmatch(r"[\w.-]+", name):
        raise CorpusError(f"--task {task}: {name!r} is no name for a task: use letters, digits, `_`, `.` and `-`.")
    return name


def load_task(task: str, file: Path | None, offline: bool) -> Any:
    """lm-eval's task of that name, or of that YAML file; with a `file`, its documents are that file's lines."""
    name, definition = task_name(task), task_definition(task)
    given = {} if file is None else documents_of(rows_of(name, file))
    way_out = f"Give its questions as a file with --task-data {name}=FILE.jsonl"
    if file is None and offline:
        raise OfflineError(f"The questions of {name} would be fetched and --offline forbids it. {way_out}.")
    asked = name, os.environ.get("HF_ENDPOINT")
    if file is None and asked in _unreached:
        raise OfflineError(f"The questions of {name} cannot be fetched ({_unreached[asked]}). {way_out}.")
    try:
        told = load_yaml(definition) | {"task": name} | given
        return lm_eval_tasks.TaskManager(include_defaults=False).load([told])["tasks"][name]
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, TemplateError) as error:
        raise CorpusError(
            f"The questions of {name} are not what the task reads ({error!r}): the first one lacks a field, has an "
            f"empty choice, or a right answer that is not among its choices. {way_out}."
        ) from error
    except ImportError as error:
        raise CorpusError(f"{name} needs a package: {error}. Try pip install 'lm-eval[{name}]'.") from error
    except (OSError, RuntimeError) as error:
        _unreached[asked] = str(error)
        raise OfflineError(f"The questions of {name} cannot be fetched ({error}). {way_out}.") from error


def check_names(tasks: Sequence[str]) -> None:
    """Raise UnknownNameError or CorpusError for a task that does not exist. Nothing is fetched."""
    for task in tasks:
        task_name(task)
        members(task)


def task_definition(task: str) -> Path:
    """The YAML file that defines a task: itself, an embedded one, or lm-eval's own."""
    if task.endswith((".yaml", ".yml")):
        return Path(task).resolve()
    if task in EMBEDDED:
        return TINY_DIRECTORY / f"{task.removeprefix('tiny_')}.yaml"
    if task in CODE:
        return CODE_DIRECTORY / f"{task}.yaml"
    return _by_file_name(task) or _indexed(task).yaml_path


def _by_file_name(task: str) -> Path | None:
    """Most tasks are defined in a file of their own name, and looking at names is a hundred times faster."""
    named = re.compile(rf"^\"?task\"?:\s*\"?{re.escape(task)}\"?\s*$", re.MULTILINE)
    return next((path for path in _files().get(task, ()) if named.search(path.read_text(encoding="utf-8"))), None)


@cache
def _files() -> Mapping[str, Sequence[Path]]:
    """lm-eval's YAML files by their names."""
    found: dict[str, list[Path]] = {}
    for path in sorted(Path(str(lm_eval_tasks.__file__)).parent.rglob("*.yaml")):
        found.setdefault(path.stem, []).append(path)
    return found


@cache
def _index() -> Mapping[str, Any]:
    """All that lm-eval knows by name: tasks, groups, tags. Reads thousands of files."""
    with quiet_lm_eval():
        return dict(lm_eval_tasks.TaskManager(include_defaults=True).task_index)


def _indexed(name: str) -> Any:
    if name not in _index():
        near = get_close_matches(name, [*EMBEDDED, *_index()])
        meant = f" Did you mean {' or '.join(near)}?" if near else ""
        raise UnknownNameError(
            f"Unknown task {name!r}: lm-eval has no such task.{meant} Tiny's own are {', '.join(EMBEDDED)}."
        )
    return _index()[name]


def members(task: str) -> list[str]:
    """The tasks of a group such as `mmlu`, in order; of a task, itself."""
    if task in EMBEDDED or task.endswith((".yaml", ".yml")) or _by_file_name(task):
        return [task]
    entry = _indexed(task)
    if entry.kind is Kind.TAG:
        return sorted(entry.tags)
    if entry.kind is not Kind.GROUP:
        return [task]
    for each in entry.cfg["task"]:
        if not isinstance(each, str) and set(each) != {"task"}:
            raise UnknownNameError(
                f"The group {task} changes what its task {each.get('task')} asks; give that by itself."
            )
    listed = [each if isinstance(each, str) else each["task"] for each in entry.cfg["task"]]
    return [member for each in listed for member in members(each)]


def rules(task: Any) -> str:
    """All that a task's definition says, as JSON, its functions as source; where it lies and its questions are left
    out.
    """
    where = ("dataset_kwargs", "custom_dataset")
    told = {name: value for name, value in task.dump_config().items() if name not in where}
    metadata = {name: value for name, value in (told.get("metadata") or {}).items() if name != "config_source"}
    return json.dumps({**told, "metadata": metadata}, sort_keys=True, default=str)


@contextmanager
def quiet_lm_eval() -> Iterator[None]:
    """lm-eval and datasets log and draw bars of their own; ours say the same once."""
    loggers = [logging.getLogger(name) for name in ("lm_eval", "datasets")]
    levels = [logger.level for logger in loggers]
    bars = datasets.are_progress_bars_disabled()
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if not bars:
            datasets.enable_progress_bars()
