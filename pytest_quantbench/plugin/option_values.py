"""How the value of an option is read: each function takes what was typed and returns the value, or raises ValueError
with what to give instead. Loaded in every pytest run, so what needs the catalogue imports it when it is called.

The functions at the end see several values together, and raise QuantbenchError.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_quantbench.catalog.disk_plans import DiskPlan
    from pytest_quantbench.catalog.models import Model
    from pytest_quantbench.catalog.settings import Settings


def whole(least: int | None = None) -> Callable[[str], int]:
    """A reader of whole numbers from `least` on; None: of any."""
    bound = "" if least is None else f" of at least {least}"

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError as error:
            raise ValueError(f"give a whole number{bound}.") from error
        if least is not None and value < least:
            raise ValueError(f"give a number{bound}.")
        return value

    return read


def one_of(*choices: str) -> Callable[[str], str]:
    """A reader of one of these words."""

    def read(text: str) -> str:
        if text not in choices:
            raise ValueError(f"choose from {', '.join(choices)}.")
        return text

    return read


def engine(text: str) -> str:
    """`auto`, or the name of an engine that is installed; it is not imported."""
    from pytest_quantbench.engines.registry import chosen
    from pytest_quantbench.errors import QuantbenchError

    try:
        chosen(text)
    except QuantbenchError as error:
        raise ValueError(str(error)) from error
    return text


def above_zero(text: str) -> float:
    """A number above 0."""
    try:
        value = float(text)
    except ValueError as error:
        raise ValueError("give a number above 0.") from error
    if not 0 < value < math.inf:
        raise ValueError("give a number above 0.")
    return value


def minutes(text: str) -> float:
    """Minutes, as seconds."""
    return 60 * above_zero(text)


def gigabytes(text: str) -> int:
    """Gigabytes of 10⁹ bytes, as bytes."""
    from pytest_quantbench.storage.files import GB

    return round(GB * above_zero(text))


def seed(text: str) -> int:
    """A seed that every generator here takes: 32 bits, not negative."""
    value = whole()(text)
    if not 0 <= value < 2**32:
        raise ValueError(f"give a number from 0 to {2**32 - 1}.")
    return value


def token_count(text: str) -> int | None:
    """A number of tokens; None for `all`."""
    if text == "all":
        return None
    if not text.isdecimal() or int(text) < 2:
        raise ValueError("give a number of at least 2, or 'all'.")
    return int(text)


def corpus(text: str) -> str | Path:
    """A text for T2: the name of a corpus, or a file."""
    return _named_text(text)


def calibration(text: str) -> str | Path:
    """A text for calibration: the name of a corpus, a file, `self` or `none`."""
    return _named_text(text, "none", "self")


def _named_text(text: str, *more: str) -> str | Path:
    from pytest_quantbench.catalog.corpora import CORPORA

    names = (*more, *CORPORA)
    if text in names:
        return text
    if not Path(text).is_file():
        raise ValueError(f"there is no such file, and the known names are {', '.join(names)}.")
    return Path(text)


def prompts(text: str) -> tuple[str, ...]:
    """The prompts of a file."""
    from pytest_quantbench.catalog.prompts import read_prompts
    from pytest_quantbench.errors import QuantbenchError

    try:
        return read_prompts(Path(text))
    except QuantbenchError as error:
        raise ValueError(str(error)) from error


def name_and_file(text: str) -> tuple[str, Path]:
    """A task's name and the file of its questions, of `NAME=FILE`."""
    name, _, file = text.partition("=")
    if not name or not file:
        raise ValueError("give NAME=FILE.jsonl, such as arc_easy=questions.jsonl.")
    return name, Path(file).resolve()


def limit(text: str) -> float:
    """A limit: any number."""
    try:
        value = float(text)
    except ValueError as error:
        raise ValueError("give a number.") from error
    if not math.isfinite(value):
        raise ValueError("give a number.")
    return value


def limit_of(text: str) -> tuple[str, float]:
    """The name of a text or a task, and the limit on it, of `NAME=NUMBER`; of a number by itself, no name."""
    name, equals, number = text.rpartition("=")
    if equals and not name:
        raise ValueError("give a number, or NAME=NUMBER, such as c4=0.8.")
    return name, limit(number)


def named_source(text: str) -> tuple[str | None, str]:
    """A candidate's name, where one is given, and where it lies, of `NAME=SOURCE`."""
    from pytest_quantbench.catalog.candidates import name_and_source

    name, source = name_and_source(text)
    if not source:
        raise ValueError("give NAME=SOURCE, such as q4=models/q4.gguf.")
    return name, source


def price(text: str) -> tuple[float, str]:
    """A price and its currency."""
    from pytest_quantbench.catalog.prices import amount

    return amount(text)


def whose_config(text: str) -> bool:
    """Whether candidates are run with their own config."""
    return one_of("reference", "own")(text) == "own"


def named_disk_plan(text: str) -> DiskPlan:
    """A disk plan by its name."""
    from pytest_quantbench.catalog.disk_plans import disk_plan
    from pytest_quantbench.errors import UnknownNameError

    try:
        return disk_plan(text)
    except UnknownNameError as error:
        raise ValueError(str(error)) from error


def check_windows(settings: Settings) -> None:
    """Raise QuantbenchError unless windows of `context` tokens follow each other without a gap."""
    from pytest_quantbench.catalog.corpora import CONTEXT_TOKENS, WINDOW_TOKENS
    from pytest_quantbench.errors import QuantbenchError

    longest = settings.context or (WINDOW_TOKENS if settings.sampling == "windows" else CONTEXT_TOKENS)
    if settings.stride is not None and not 1 <= settings.stride <= longest:
        raise QuantbenchError(f"--stride {settings.stride}: give a number from 1 to the context, {longest}.")


def check_growth(settings: Settings) -> None:
    """Raise QuantbenchError where a check shall go on to fewer tokens than it begins with."""
    from pytest_quantbench.errors import QuantbenchError

    first, most = settings.tokens, settings.most_tokens
    if most is not None and (first is None or first > most):
        raise QuantbenchError(f"--max-tokens {most} is less than --tokens {first or 'all'}.")


def check_corpora(texts: Iterable[str | Path]) -> None:
    """Raise QuantbenchError for two texts of one name, which a record could not tell apart."""
    from pytest_quantbench.catalog.corpora import HEAD_OF_TEXT
    from pytest_quantbench.errors import QuantbenchError

    names = [text.name if isinstance(text, Path) else text for text in texts]
    for name in names:
        if name == HEAD_OF_TEXT:
            raise QuantbenchError(f"--corpus: no text may be called {HEAD_OF_TEXT}. Rename the file.")
        if names.count(name) > 1:
            raise QuantbenchError(f"--corpus: two texts are called {name}. Rename the file of one of them.")


def check_task_files(files: Iterable[tuple[str, Path]], tasks: Sequence[str], models: Iterable[Model]) -> None:
    """Raise QuantbenchError for a file of questions that is not there, or whose name is no task of this session."""
    from pytest_quantbench.errors import QuantbenchError

    asked = tasks or sorted({task for model in models for task in model.tasks})
    for name, file in files:
        # a group's members begin with its name, and a YAML file names its task itself
        if not any(name.startswith(task) or task.endswith((".yaml", ".yml")) for task in asked):
            raise QuantbenchError(f"--task-data {name}: no such task is asked; those are {', '.join(asked)}.")
        if not file.is_file():
            raise QuantbenchError(f"--task-data {name}={file}: there is no such file.")


def check_baseline(baseline: Path | None, results: Path) -> None:
    """Raise QuantbenchError for a baseline that is no folder, or the one that results go to."""
    from pytest_quantbench.errors import QuantbenchError

    if baseline is None:
        return
    if not baseline.is_dir():
        raise QuantbenchError(f"--baseline {baseline}: there is no such folder. Give the results of an earlier run.")
    if not any(baseline.glob("*.json")):
        raise QuantbenchError(f"--baseline {baseline} holds no records. Give the results of an earlier run.")
    if results.is_dir() and baseline.samefile(results):
        raise QuantbenchError(
            f"--baseline {baseline}: this is the folder that results go to. Give another one with --results."
        )
