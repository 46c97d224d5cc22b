"""What T3 asks: lm-eval's prompts as token ids, made once for all recipes of a model; and its judgement of the answers.

lm-eval builds the prompts and decides what is right: by the log-likelihood per character where the task has that
metric (acc_norm), by the plain one (acc) elsewhere. No chat template: it moves ARC-Easy by more than any quantizer
does. The questions are a seeded sample, the same for every cell.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import TemplateError
from lm_eval.api.model import TemplateLM
from lm_eval.utils import handle_non_serializable, hash_string
from msgspec import json

from pytest_quantbench.catalog import CONTEXT_TOKENS
from pytest_quantbench.errors import CorpusError, UnknownNameError
from pytest_quantbench.samples import TaskSamples
from pytest_quantbench.scoring import Answer, Plan, Request, cut, planned
from pytest_quantbench.skeleton import Config
from pytest_quantbench.tasks import EMBEDDED, load_task, members, quiet_lm_eval, sample, task_name
from pytest_quantbench.tokens import longest_input


class _Encoder(TemplateLM):  # type: ignore[misc]
    """lm-eval's view of a model, which answers nothing: it notes how lm-eval splits a text into context and choice.

    Where a tokenizer merges across the end of the context, the continuation is what is left of both's tokens after as
    many as the context has alone: lm-eval's rule.
    """

    def __init__(self, tokenizer: Any) -> None:
        super().__init__()
        self.tokenizer = tokenizer

    @property
    def eot_token_id(self) -> int:
        """What stands in front of a continuation without context."""
        bos = self.tokenizer.bos_token_id
        return int(self.tokenizer.eos_token_id if bos is None else bos)

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **kwargs: Any) -> list[int]:
        """Token ids, with the special tokens that the tokenizer adds by itself unless told otherwise."""
        special = {} if add_special_tokens is None else {"add_special_tokens": add_special_tokens}
        return list(self.tokenizer.encode(string, **special))

    def encoded(self, instances: Sequence[Any]) -> list[Request]:
        """One request for each of lm-eval's."""
        self.loglikelihood(instances, disable_tqdm=True)
        return self._noted

    def _loglikelihood_tokens(
        self, requests: Sequence[tuple[tuple[str, str], list[int], list[int]]], **kwargs: Any
    ) -> list[tuple[float, bool]]:
        self._noted = [Request(context=tuple(before), continuation=tuple(rest)) for _, before, rest in requests]
        return [(0.0, False)] * len(requests)

    def loglikelihood_rolling(self, requests: Any, disable_tqdm: bool = False) -> list[float]:
        """Never asked."""
        raise NotImplementedError

    def generate_until(self, requests: Any, disable_tqdm: bool = False) -> list[str]:
        """Never asked."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """One of lm-eval's tasks, whole or as a member of a group: which of its questions are asked."""

    name: str  # the task's or the group's
    label: str  # in front of a question's id, in a group
    task: Any
    chosen: Sequence[int]


class Questions:
    """Questions `start` to `limit` (as far as there are so many) of each task's seeded order. Tasks are names of
    lm-eval's tasks and groups, or YAML files that define one; samples and `files` go by the task's own name.

    Raises UnknownNameError for a task that lm-eval does not have, OfflineError where its questions would have to be
    fetched, CorpusError where they are not what the task reads.
    """

    def __init__(
        self,
        tokenizer: Any,
        config: Config,
        names: Sequence[str],
        files: Mapping[str, Path],
        limit: int,
        seed: int,
        *,
        offline: bool,
        start: int = 0,
    ) -> None:
        self.available: dict[str, int] = {}
        self._parts: list[_Part] = []
        with quiet_lm_eval():
            for given in names:
                tasks = {each: load_task(each, _file(each, files), offline) for each in members(given)}
                self._choose(task_name(given), tasks, limit, seed, start)
            for part in self._parts:
                _build(part)
        whole = _Encoder(tokenizer).encoded(self._instances)
        _refuse_empty(self._instances, whole)
        longest = longest_input(config, CONTEXT_TOKENS)
        self.requests = [cut(request, longest) for request in whole]
        self.cut_contexts = sum(a != b for a, b in zip(whole, self.requests, strict=True))

    def _choose(self, name: str, tasks: Mapping[str, Any], limit: int, seed: int, start: int) -> None:
        """A seeded sample of the questions of all members, in the order of the members."""
        sizes = [len(task.eval_docs) for task in tasks.values()]
        self.available[name] = sum(sizes)
        chosen, begin = sample(sum(sizes), limit, seed, start), 0
        for (member, task), size in zip(tasks.items(), sizes, strict=True):
            own = [index - begin for index in chosen if begin <= index < begin + size]
            begin += size
            if own:
                label = f"{member}/" if len(tasks) > 1 else ""
                self._parts.append(_Part(name=name, label=label, task=task, chosen=own))

    @cached_property
    def plan(self) -> Plan:
        """How a walk answers them."""
        return planned(self.requests)

    @property
    def _instances(self) -> list[Any]:
        return [instance for part in self._parts for instance in part.task.instances]

    def judged(self, answers: Sequence[Answer]) -> dict[str, TaskSamples]:
        """What lm-eval makes of the answers, by task."""
        for instance, answer in zip(self._instances, answers, strict=True):
            instance.resps, instance.filtered_resps = [(answer.loglikelihood, answer.greedy)], {}
        rows: dict[str, list[dict[str, Any]]] = {name: [] for name in self.available}
        versions = {}
        with quiet_lm_eval():
            for part in self._parts:
                part.task.apply_filters()
                rows[part.name] += _rows(part)
                versions[part.name] = str(part.task.VERSION)
        return {name: _samples(found, versions[name]) for name, found in rows.items()}


def _file(task: str, files: Mapping[str, Path]) -> Path | None:
    name = task_name(task)
    return files.get(name, EMBEDDED.get(name))


def _build(part: _Part) -> None:
    task, name = part.task, part.label or part.name
    if task.OUTPUT_TYPE not in ("multiple_choice", "loglikelihood"):
        raise UnknownNameError(f"The task {name} is {task.OUTPUT_TYPE}, which T3 does not run.")
    try:
        task.build_all_requests(samples=list(part.chosen))
        for index in part.chosen:
            _gold(task, task.eval_docs[index])
    except (KeyError, TypeError, ValueError, IndexError, TemplateError) as error:
        raise CorpusError(
            f"A question of {name} is not what the task reads: {error!r}. Give its questions as a file with "
            f"--task-data {part.name}=FILE.jsonl."
        ) from error


def _gold(task: Any, doc: Mapping[str, Any]) -> int:
    """The place of the right choice, the first of several. Raises CorpusError where there is no such choice."""
    if task.OUTPUT_TYPE == "loglikelihood":
        return 0
    choices = task.doc_to_choice(doc)
    found = task.doc_to_text(doc) if task.multiple_input else task.doc_to_target(doc)
    for gold in found if isinstance(found, list) else [found]:
        place = choices.index(gold) if isinstance(gold, str) and gold in choices else gold
        if not isinstance(place, int) or not 0 <= place < len(choices):
            raise CorpusError(
                f"A question of {task.config.task} has {len(choices)} choices, and {gold!r} is to be the right one: "
                f"{dict(doc)}."
            )
    first = found[0] if isinstance(found, list) else found
    return int(choices.index(first) if isinstance(first, str) else first)


def _refuse_empty(instances: Sequence[Any], requests: Sequence[Request]) -> None:
    for instance, request in zip(instances, requests, strict=True):
        if not request.continuation:
            context, choice = instance.args
            raise CorpusError(
                f"The choice {choice!r} after {context[-40:]!r} has no token of its own: it is empty, or the tokenizer "
                f"merges it into its context."
            )


def _rows(part: _Part) -> Iterator[dict[str, Any]]:
    """What is kept of every question."""
    task = part.task
    asked: dict[int, list[Any]] = {}
    for instance in task.instances:
        asked.setdefault(instance.doc_id, []).append(instance)
    for place, index in enumerate(part.chosen):
        doc, instances = task.eval_docs[index], sorted(asked[place], key=lambda instance: instance.idx)
        answers = [instance.filtered_resps["none"] for instance in instances]
        metrics = task.process_results(doc, answers)
        content = json.encode(dict(doc), enc_hook=handle_non_serializable).decode()
        yield {
            "ids": f"{part.label}{doc.get('id', index)}",
            "hashes": "".join(map(hash_string, (content, instances[0].args[0], str(task.doc_to_target(doc))))),
            "correct": metrics.get("acc_norm", metrics["acc"]) > 0,
            "correct_raw": metrics["acc"] > 0,
            "loglikelihoods": tuple(float(answer[0]) for answer in answers),
            "gold": _gold(task, doc),
        }


def _samples(rows: Sequence[Mapping[str, Any]], version: str) -> TaskSamples:
    column = {name: [row[name] for row in rows] for name in rows[0]}
    choices = Counter(len(each) for each in column["loglikelihoods"])
    return TaskSamples(
        ids=tuple(column["ids"]),
        hashes=tuple(column["hashes"]),
        correct=np.array(column["correct"]),
        correct_raw=np.array(column["correct_raw"]),
        loglikelihoods=tuple(column["loglikelihoods"]),
        gold=tuple(column["gold"]),
        choices=choices.most_common(1)[0][0],
        version=version,
    )
