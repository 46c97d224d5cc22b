"""All that T3 asks of a model: the choices of some tasks, the written answers of others."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pytest_quantbench.engines.parameters import Capacity
from pytest_quantbench.errors import UnknownNameError
from pytest_quantbench.measures.accuracy.generation import Writing
from pytest_quantbench.measures.accuracy.lm_eval_tasks import (
    CODE,
    EMBEDDED,
    load_task,
    members,
    quiet_lm_eval,
    rules,
    task_name,
)
from pytest_quantbench.measures.accuracy.multiple_choice import MultipleChoice, hashes
from pytest_quantbench.measures.accuracy.question_sample import TaskPart, parts_of
from pytest_quantbench.storage.sealed_json import json_sha256

CHOICES, WRITING = ("multiple_choice", "loglikelihood"), ("generate_until",)


class TaskSet:
    """Questions `start` to `limit` (as far as there are so many) of each task's seeded order. Tasks are names of
    lm-eval's tasks and groups, or YAML files that define one; samples and `files` go by the task's own name.

    Raises UnknownNameError for a task that lm-eval does not have, OfflineError where its questions would have to be
    fetched, CorpusError where they are not what the task reads.
    """

    def __init__(
        self,
        tokenizer: Any,
        capacity: Capacity,
        names: Sequence[str],
        files: Mapping[str, Path],
        limit: int,
        seed: int,
        *,
        offline: bool,
        start: int = 0,
        run_code: bool = False,
    ) -> None:
        self.available: dict[str, int] = {}
        parts: list[TaskPart] = []
        with quiet_lm_eval():
            for given in names:
                if task_name(given) in self.available:
                    raise UnknownNameError(f"--task {given}: {task_name(given)} is asked for twice.")
                tasks = {each: load_task(each, _file(each, files), offline) for each in members(given)}
                self.available[task_name(given)] = sum(len(task.eval_docs) for task in tasks.values())
                parts += parts_of(task_name(given), tasks, limit, seed, start)
        for part in parts:
            self._refuse(part)
        self.choices = MultipleChoice(_of_type(parts, CHOICES), tokenizer, capacity)
        self.writing = Writing(_of_type(parts, WRITING), tokenizer, capacity, run_code=run_code)
        self._content = [
            (part.name, rules(part.task), [hashes(part.task, doc, requests) for _, doc, requests in part.asked])
            for part in parts
        ]

    @staticmethod
    def _refuse(part: TaskPart) -> None:
        if part.task.OUTPUT_TYPE not in CHOICES + WRITING:
            raise UnknownNameError(f"{part.name} scores whole texts, which T2 does: --corpus FILE.")
        if getattr(part.task, "UNSAFE_CODE", False):
            raise UnknownNameError(
                f"{part.name} runs programs outside of our sandbox: choose one of {', '.join(CODE)}."
            )

    @property
    def sha256(self) -> str:
        """Hash of all that is asked: every question, prompt and choice, and the rules by which answers are judged."""
        choices = [(request.context, request.continuation) for request in self.choices.requests]
        written = [self.writing.prompts, self.writing.limits]
        return json_sha256([list(self.available.items()), self._content, choices, written])

    @property
    def cut_contexts(self) -> int:
        """How many requests had a context that was longer than the model takes."""
        return self.choices.cut_contexts + self.writing.cut_contexts


def _file(task: str, files: Mapping[str, Path]) -> Path | None:
    name = task_name(task)
    return files.get(name, EMBEDDED.get(name))


def _of_type(parts: Sequence[TaskPart], types: Sequence[str]) -> list[TaskPart]:
    return [part for part in parts if part.task.OUTPUT_TYPE in types]
