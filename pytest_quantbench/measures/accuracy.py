"""T3: multiple-choice questions, with lm-eval's task definitions and scoring over our own walk.

lm-eval builds the prompts and decides what is right (acc_norm: the choice with the highest log-likelihood per
character); the log-likelihoods come from the layer walk, in float32, each context computed once. No chat template: it
moves ARC-Easy by more than any quantizer does. The questions are a seeded sample, the same for every cell.
"""

import logging
import re
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import TemplateError
from lm_eval import evaluator
from lm_eval import tasks as lm_eval_tasks
from lm_eval.api.model import TemplateLM

from pytest_quantbench.artifacts import Artifact
from pytest_quantbench.catalog import CONTEXT_TOKENS, TINY_DIRECTORY
from pytest_quantbench.errors import CorpusError, OfflineError, UnknownNameError
from pytest_quantbench.samples import AccuracySamples, TaskSamples
from pytest_quantbench.scoring import Request, cut, loglikelihoods
from pytest_quantbench.stream import Walk
from pytest_quantbench.tokens import load_tokenizer, longest_input

EMBEDDED = {"tiny_facts": TINY_DIRECTORY / "facts.jsonl", "tiny_endings": TINY_DIRECTORY / "endings.jsonl"}


class WalkLM(TemplateLM):  # type: ignore[misc]
    """lm-eval's view of an artifact: answers log-likelihood requests by one walk over all of them."""

    def __init__(self, artifact: Artifact, tokenizer_directory: Path, *, host: bool, rounding: bool = False) -> None:
        super().__init__()
        self.tokenizer = load_tokenizer(tokenizer_directory)
        self.walk = Walk(artifact, host=host, rounding=rounding)
        self._recipe = artifact.manifest.recipe
        self._longest = longest_input(artifact.config, CONTEXT_TOKENS)
        self.cut_contexts = 0

    @property
    def eot_token_id(self) -> int:
        """What stands in front of a continuation without context."""
        bos = self.tokenizer.bos_token_id
        return int(self.tokenizer.eos_token_id if bos is None else bos)

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **kwargs: Any) -> list[int]:
        """Token ids, with the special tokens that the tokenizer adds by itself unless told otherwise."""
        special = {} if add_special_tokens is None else {"add_special_tokens": add_special_tokens}
        return list(self.tokenizer.encode(string, **special))

    def _loglikelihood_tokens(
        self, requests: Sequence[tuple[tuple[str, str], list[int], list[int]]], **kwargs: Any
    ) -> list[tuple[float, bool]]:
        """Sum of log-probabilities of each continuation, and whether it is the greedy one; in the requests' order.

        What is longer than the model takes is cut from the left, as lm-eval does, and counted. Where a tokenizer merges
        across the end of the context, the continuation is what is left of both's tokens after as many as the context
        has alone: also lm-eval's rule.
        """
        whole = [Request(context=tuple(context), continuation=tuple(rest)) for _, context, rest in requests]
        fitting = [cut(request, self._longest) for request in whole]
        self.cut_contexts += sum(a != b for a, b in zip(whole, fitting, strict=True))
        answers = loglikelihoods(self.walk, fitting, f"T3 {self._recipe}")
        return [(answer.loglikelihood, answer.greedy) for answer in answers]

    def loglikelihood_rolling(self, requests: Any, disable_tqdm: bool = False) -> list[float]:
        """Refused: whole-text likelihoods are T2's business."""
        raise UnknownNameError("Tasks that score whole texts are not run by T3: use T2 with --corpus.")

    def generate_until(self, requests: Any, disable_tqdm: bool = False) -> list[str]:
        """Refused: only multiple-choice tasks are scored so far."""
        raise UnknownNameError("Tasks that generate text are not run by T3: choose a multiple-choice task.")


def measure(
    artifact: Artifact,
    tokenizer_directory: Path,
    names: Sequence[str],
    files: Mapping[str, Path],
    limit: int,
    seed: int,
    *,
    offline: bool,
    host: bool,
    start: int = 0,
    rounding: bool = False,
) -> AccuracySamples:
    """Answer questions `start` to `limit` (as far as there are so many) of each task's seeded order. Tasks are names of
    lm-eval's, or YAML files that define one; samples and `files` go by the task's own name.

    All tasks share one walk's weights. `rounding` rounds activations to bfloat16 after every layer (see Walk).

    Raises UnknownNameError for a task that lm-eval does not have, OfflineError where its questions would have to be
    fetched, CorpusError where they are not what the task reads.
    """
    began = time.perf_counter()
    model = WalkLM(artifact, tokenizer_directory, host=host, rounding=rounding)
    with quiet_lm_eval():
        given = {task_name(task): task for task in names}
        tasks = {name: load_task(task, files.get(name, EMBEDDED.get(name)), offline) for name, task in given.items()}
        chosen = {name: sample(len(task.eval_docs), limit, seed, start) for name, task in tasks.items()}
        task_dict = {"tasks": tasks, "groups": {}, "group_map": {}}
        results = evaluator.evaluate(model, task_dict, samples=chosen, bootstrap_iters=0, log_samples=True)
    return AccuracySamples(
        tasks={name: _samples(results["samples"][name], str(results["versions"][name])) for name in given},
        available={name: len(task.eval_docs) for name, task in tasks.items()},
        cut_contexts=model.cut_contexts,
        weights_sha256=model.walk.weights_sha256,
        seconds=time.perf_counter() - began,
    )


def sample(questions: int, limit: int, seed: int, start: int = 0) -> list[int]:
    """Which questions are asked: `start` to `limit` of a seeded permutation, so a larger limit asks these and more.

    Sorted, because lm-eval goes through its documents in order and labels them by the order of this list.
    """
    return sorted(int(index) for index in np.random.default_rng(seed).permutation(questions)[start:limit])


def task_name(task: str) -> str:
    """A task's own name: itself, or what the YAML file says after `task:`. Raises CorpusError for none."""
    if not task.endswith((".yaml", ".yml")):
        return task
    if not Path(task).is_file():
        raise CorpusError(f"--task {task}: there is no such file.")
    found = re.search(r"^task:\s*[\"']?([\w.-]+)", Path(task).read_text(encoding="utf-8"), re.MULTILINE)
    if found is None:
        raise CorpusError(f"--task {task}: the file names no task (`task: NAME`).")
    return found.group(1)


def load_task(task: str, file: Path | None, offline: bool) -> Any:
    """lm-eval's task of that name, or of that YAML file; with a `file`, its documents come from there."""
    name, definition = task_name(task), task_definition(task)
    overrides = f"include: {definition}\ntask: {name}\n"
    if file is not None:
        if not file.is_file():
            raise CorpusError(f"--task-data {name}={file}: there is no such file.")
        overrides += f"dataset_path: json\ndataset_name: null\ndataset_kwargs: {{data_files: {{test: {file}}}}}\n"
        overrides += "training_split: null\nvalidation_split: null\nfewshot_split: null\ntest_split: test\n"
    way_out = f"Give its questions as a file with --task-data {name}=FILE.jsonl"
    if file is None and offline:
        raise OfflineError(f"The questions of {name} would be fetched and --offline forbids it. {way_out}.")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.yaml"
        path.write_text(overrides)
        try:
            return lm_eval_tasks.TaskManager(include_defaults=False).load([str(path)])["tasks"][name]
        except (KeyError, TypeError, ValueError, TemplateError) as error:
            raise CorpusError(f"The questions of {name} are not what the task reads: {error!r}. {way_out}.") from error
        except (OSError, RuntimeError) as error:
            raise OfflineError(f"The questions of {name} cannot be fetched ({error}). {way_out}.") from error


def task_definition(task: str) -> Path:
    """The YAML file that defines a task: itself, an embedded one, or lm-eval's own."""
    if task.endswith((".yaml", ".yml")):
        return Path(task).resolve()
    if task in EMBEDDED:
        return TINY_DIRECTORY / f"{task.removeprefix('tiny_')}.yaml"
    found = sorted(Path(str(lm_eval_tasks.__file__)).parent.rglob(f"{task}.yaml"))
    if not found:
        raise UnknownNameError(f"Unknown task {task!r}: lm-eval has no {task}.yaml. Tiny's own are {sorted(EMBEDDED)}.")
    return found[0]


def _samples(logged: Sequence[Mapping[str, Any]], version: str) -> TaskSamples:
    choices = Counter(len(entry["filtered_resps"]) for entry in logged)
    return TaskSamples(
        ids=tuple(str(entry["doc"].get("id", entry["doc_id"])) for entry in logged),
        hashes=tuple(f"{entry['doc_hash']}{entry['prompt_hash']}{entry['target_hash']}" for entry in logged),
        correct=np.array([entry["acc_norm"] > 0 for entry in logged]),
        correct_raw=np.array([entry["acc"] > 0 for entry in logged]),
        loglikelihoods=tuple(tuple(float(answer[0]) for answer in entry["filtered_resps"]) for entry in logged),
        gold=tuple(int(entry["target"]) for entry in logged),
        choices=choices.most_common(1)[0][0],
        version=version,
    )


@contextmanager
def quiet_lm_eval() -> Iterator[None]:
    """lm-eval logs and draws bars of its own; ours say the same once."""
    loggers = [logging.getLogger(name) for name in ("lm_eval", "datasets")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
