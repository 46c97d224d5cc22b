"""T3's multiple choice: lm-eval's prompts as token ids, made once for all recipes of a model, and its judgement.

lm-eval builds the prompts and decides what is right: by the log-likelihood per character where the task has that
metric (acc_norm), by the plain one (acc) elsewhere. No chat template: it moves ARC-Easy by more than any quantizer
does. The questions are a seeded sample, the same for every cell.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from textwrap import shorten
from typing import Any

import numpy as np
from jinja2 import TemplateError
from lm_eval.api.model import TemplateLM
from lm_eval.utils import handle_non_serializable, hash_string
from msgspec import json

from pytest_quantbench.catalog.corpora import CONTEXT_TOKENS
from pytest_quantbench.checkpoints.tokenizer import frame_of, refuse_unknown_tokens
from pytest_quantbench.engines.parameters import Capacity
from pytest_quantbench.engines.walk_proof import Branching, Proof
from pytest_quantbench.errors import CorpusError
from pytest_quantbench.measures.accuracy.lm_eval_tasks import quiet_lm_eval
from pytest_quantbench.measures.accuracy.question_sample import TaskPart, not_readable
from pytest_quantbench.measures.accuracy.question_texts import question_and_options
from pytest_quantbench.measures.requests import Answer, Plan, Request, cut, engaged, planned
from pytest_quantbench.measures.samples import TaskSamples

# of a question: what is kept of it; `engaged`: all that tells whether the cache did anything
Row = Callable[[TaskPart, int, Any, list[Any]], dict[str, Any]]


class _Encoder(TemplateLM):  # type: ignore[misc]
    """lm-eval's view of a model, which answers nothing: it notes how lm-eval splits a text into context and choice.

    Where a tokenizer merges across the end of the context, the continuation is what is left of both's tokens after as
    many as the context has alone: lm-eval's rule.
    """

    def __init__(self, tokenizer: Any) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self._frame = frame_of(tokenizer)
        self._noted: list[Request] = []

    @property
    def eot_token_id(self) -> int:
        """lm-eval's name for what stands in front of a continuation without context."""
        return self._frame.start(self.tokenizer)[-1]

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **kwargs: Any) -> list[int]:
        """Token ids, as lm-eval's Hugging Face backend has them, but without what the tokenizer puts behind a text: it
        would end the context, and be scored instead of the choice.
        """
        if add_special_tokens is None:
            return self._frame.opened(self.tokenizer, string)
        return list(self.tokenizer.encode(string, add_special_tokens=add_special_tokens))

    def encoded(self, instances: Sequence[Any]) -> list[Request]:
        """One request for each of lm-eval's. Raises CorpusError for one without context that nothing can stand for."""
        self._noted = []
        self.loglikelihood([each for each in instances if each.args[0].strip()], disable_tqdm=True)
        noted = iter(self._noted)
        return [next(noted) if each.args[0].strip() else self._alone("".join(each.args)) for each in instances]

    def _alone(self, text: str) -> Request:
        """A continuation without context, or behind blanks, which lm-eval counts with the continuation."""
        start = self._frame.start(self.tokenizer)
        ids = tuple(self.tok_encode(text, add_special_tokens=False))
        return Request(context=start, continuation=ids[len(start) :] if ids[: len(start)] == start else ids)

    def _loglikelihood_tokens(
        self, requests: Sequence[tuple[tuple[str, str], list[int], list[int]]], **kwargs: Any
    ) -> list[tuple[float, bool]]:
        self._noted = [Request(context=tuple(before), continuation=tuple(rest)) for _, before, rest in requests]
        return [(0.0, False)] * len(requests)

    def _refused(self, requests: Any, disable_tqdm: bool = False) -> Any:
        """What lm-eval's class wants to have and no multiple choice asks for."""
        raise NotImplementedError("only choices are split here")

    loglikelihood_rolling = generate_until = _refused


class MultipleChoice:
    """Tasks whose answers are given, and judged by their log-likelihoods.

    Raises CorpusError for a question without the choice that is to be right, for an empty choice, and for a task that
    does not say of an answer whether it is right.
    """

    def __init__(self, parts: Sequence[TaskPart], tokenizer: Any, capacity: Capacity) -> None:
        self._parts = parts
        self._instances = [instance for part in parts for instance in part.task.instances]
        for part in parts:
            _refuse_wrong_gold(part)
            _rehearse(part)
        whole = _Encoder(tokenizer).encoded(self._instances)
        _refuse_empty(self._instances, whole)
        refuse_unknown_tokens((t for each in whole for t in each.context + each.continuation), capacity.vocabulary)
        longest = capacity.longest_input(CONTEXT_TOKENS)
        self.requests = [cut(request, longest) for request in whole]
        self._plans: dict[Branching, Plan] = {}
        self.cut_contexts = sum(a != b for a, b in zip(whole, self.requests, strict=True))

    def plan(self, proof: Proof) -> Plan:
        """How a walk of a model of this architecture answers them. Raises ModelError where none can."""
        if not self.requests:
            return Plan(requests=0)
        branching = proof.for_choices()
        if branching not in self._plans:
            self._plans[branching] = planned(self.requests, branching)
        return self._plans[branching]

    def judged(self, answers: Sequence[Answer]) -> dict[str, TaskSamples]:
        """What lm-eval makes of the answers, by task."""
        for instance, answer in zip(self._instances, answers, strict=True):
            instance.resps, instance.filtered_resps = [(answer.loglikelihood, answer.greedy)], {}
        found = {id(each): answer for each, answer in zip(self._instances, answers, strict=True)}
        return by_task(self._parts, lambda *asked: _row(*asked) | {"engaged": [found[id(each)] for each in asked[-1]]})


def by_task(parts: Sequence[TaskPart], row: Row) -> dict[str, TaskSamples]:
    """Samples of every task, from a row for each of its questions, after lm-eval's filters have run."""
    rows: dict[str, list[dict[str, Any]]] = {}
    versions = {part.name: str(part.task.VERSION) for part in parts}
    with quiet_lm_eval():
        for part in parts:
            part.task.apply_filters()
            rows.setdefault(part.name, []).extend(
                {
                    "ids": f"{part.label}{doc.get('id', index)}",
                    "hashes": hashes(part.task, doc, instances),
                    "clusters": part.source(index),
                    "shown": question_and_options(part.task, doc, instances),
                }
                | row(part, index, doc, instances)
                for index, doc, instances in part.asked
            )
    keys = {part.name: part.source_key for part in parts if part.source_key}
    return {name: _samples(found, versions[name], keys.get(name, "")) for name, found in rows.items()}


def _row(part: TaskPart, index: int, doc: Any, instances: Sequence[Any]) -> dict[str, Any]:
    answers = [instance.filtered_resps["none"] for instance in instances]
    metrics = part.task.process_results(doc, answers)
    return {
        "correct": is_right(part, metrics.get("acc_norm", metrics.get("acc"))),
        "correct_raw": is_right(part, metrics.get("acc")),
        "loglikelihoods": tuple(float(answer[0]) for answer in answers),
        "texts": "",
        "gold": _gold(part.task, doc),
    }


def is_right(part: TaskPart, value: Any) -> bool:
    """A task's metric as right or wrong. Raises CorpusError for one that is neither 0 nor 1."""
    if isinstance(value, bool | int | float | np.bool_) and value in (0, 1):
        return bool(value)
    raise CorpusError(
        f"{part.label or part.name} does not say of every answer whether it is right ({value!r}), which T3 needs: "
        f"choose a task whose first metric is acc, exact_match or the like."
    )


def _rehearse(part: TaskPart) -> None:
    """Judge a first question as if every choice were as likely: a metric that says not what is right is refused before
    the walk, not after it.
    """
    index, doc, instances = next(part.asked)
    for instance in instances:
        instance.filtered_resps = {"none": (0.0, False)}
    _row(part, index, doc, instances)


def hashes(task: Any, doc: Any, instances: Sequence[Any]) -> str:
    """Of the question, its prompt and its target."""
    content = json.encode(dict(doc), enc_hook=handle_non_serializable).decode()
    return "".join(map(hash_string, (content, instances[0].args[0], str(task.doc_to_target(doc)))))


def _refuse_wrong_gold(part: TaskPart) -> None:
    try:
        for _, doc, _ in part.asked:
            _gold(part.task, doc)
    except (KeyError, TypeError, ValueError, IndexError, AssertionError, TemplateError) as error:
        raise not_readable(part, error) from error


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
                f"{shorten(str(dict(doc)), 200)}"
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


def _samples(rows: Sequence[Mapping[str, Any]], version: str, cluster_key: str) -> TaskSamples:
    column = {name: [row[name] for row in rows] for name in rows[0]}
    choices = Counter(len(each) for each in column["loglikelihoods"])
    return TaskSamples(
        ids=tuple(column["ids"]),
        hashes=tuple(column["hashes"]),
        correct=np.array(column["correct"]),
        correct_raw=np.array(column["correct_raw"]),
        loglikelihoods=tuple(column["loglikelihoods"]),
        texts=tuple(column["texts"]),
        gold=tuple(column["gold"]),
        choices=choices.most_common(1)[0][0],
        version=version,
        clusters=tuple(column["clusters"]),
        cluster_key=cluster_key,
        questions=tuple(question for question, _ in column["shown"]),
        options=tuple(options for _, options in column["shown"]),
        engaged=engaged(column["engaged"]),
    )
