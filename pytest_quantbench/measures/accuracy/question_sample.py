"""The questions of a task or a group that are asked: a seeded sample, with lm-eval's requests for each."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import TemplateError

from pytest_quantbench.errors import CorpusError
from pytest_quantbench.measures.accuracy.lm_eval_tasks import sample
from pytest_quantbench.measures.accuracy.passages import FEWEST_TOPICS, Sources, sources


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskPart:
    """One of lm-eval's tasks, whole or as a member of a group: which of its questions are asked."""

    name: str  # the task's or the group's
    label: str  # in front of a question's id, in a group
    task: Any
    chosen: Sequence[int]
    sources: Sources  # of all its questions
    members: int = 1  # of the group

    def source(self, index: int) -> str:
        """What questions are lost and gained together with, as a name: their source, or their task of a large group."""
        whole = self.members >= FEWEST_TOPICS
        return self.label if whole else self.label + self.sources.names[index]

    @property
    def source_key(self) -> str:
        """What tells the source of a question."""
        return "task" if self.members >= FEWEST_TOPICS else self.sources.key

    @property
    def asked(self) -> Iterator[tuple[int, Any, list[Any]]]:
        """Every question's number, itself, and lm-eval's requests for it."""
        requests: dict[int, list[Any]] = {}
        for instance in self.task.instances:
            requests.setdefault(instance.doc_id, []).append(instance)
        for place, index in enumerate(self.chosen):  # lm-eval numbers them by their place among the chosen
            yield index, self.task.eval_docs[index], sorted(requests[place], key=lambda request: request.idx)


def parts_of(name: str, tasks: Mapping[str, Any], limit: int, seed: int, start: int) -> list[TaskPart]:
    """A seeded sample of the questions of a task, or of all members of a group, in the order of the members."""
    sizes = [len(task.eval_docs) for task in tasks.values()]
    chosen, begin, found = sample(sum(sizes), limit, seed, start), 0, []
    for (member, task), size in zip(tasks.items(), sizes, strict=True):
        own = [index - begin for index in chosen if begin <= index < begin + size]
        begin += size
        if own:
            label = f"{member}/" if len(tasks) > 1 else ""
            told = sources(member, task.eval_docs)
            found.append(TaskPart(name=name, label=label, task=task, chosen=own, sources=told, members=len(tasks)))
            _build(found[-1])
    return found


def _build(part: TaskPart) -> None:
    """Have lm-eval make its requests. A question's examples are drawn with a seed of its own, so that they are the same
    whatever else is asked. Raises CorpusError where a question is not what the task reads.
    """
    task = part.task
    try:
        task._instances = []
        for place, index in enumerate(part.chosen):
            doc = task.eval_docs[index]
            task.set_fewshot_seed(index)
            shown = task.fewshot_context(doc, task.config.num_fewshot or 0, gen_prefix=task.doc_to_prefix(doc))
            told = (task.config.task, place, task.config.repeats)
            made = task.construct_requests(doc=doc, ctx=shown, metadata=told)
            task._instances += made if isinstance(made, list) else [made]
    except (KeyError, TypeError, ValueError, IndexError, AssertionError, TemplateError) as error:
        raise not_readable(part, error) from error


def not_readable(part: TaskPart, error: Exception) -> CorpusError:
    """The error of a question that lacks something."""
    return CorpusError(
        f"A question of {part.label or part.name} is not what the task reads: {error!r}. Give its questions as a file "
        f"with --task-data {part.name}=FILE.jsonl."
    )
