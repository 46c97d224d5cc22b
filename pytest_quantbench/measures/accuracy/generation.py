"""T3's written answers: prompts that the model goes on from, greedily, and what they are judged by.

Choosing among given answers forgives a quantized model a lot; writing an answer token by token does not. The model is
in memory for it (see resident), with native quantized layers where a method has them. lm-eval builds the prompts and
judges: by its first filter and first metric, and for comparison by its last filter. Programs are judged by running
them in the sandbox, and only if the user said so.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import TemplateError

from pytest_quantbench.catalog.corpora import CONTEXT_TOKENS
from pytest_quantbench.checkpoints.tokenizer import end_tokens, frame_of, refuse_unknown_tokens
from pytest_quantbench.compress.artifact import Artifact
from pytest_quantbench.engines import need
from pytest_quantbench.engines.parameters import Capacity
from pytest_quantbench.engines.protocol import Engine
from pytest_quantbench.errors import CorpusError, QuantbenchError
from pytest_quantbench.measures.accuracy.lm_eval_tasks import CODE
from pytest_quantbench.measures.accuracy.multiple_choice import by_task, is_right
from pytest_quantbench.measures.accuracy.question_sample import TaskPart, not_readable
from pytest_quantbench.measures.accuracy.sandbox import run_all
from pytest_quantbench.measures.samples import TaskSamples
from pytest_quantbench.quantizers.kv import KVQuantizer

NEW_TOKENS = 256  # lm-eval's own default
PROGRAM_SECONDS, PROGRAM_BYTES = 5.0, 2**30  # what a program may take


class Writing:
    """Tasks whose answers are written. Raises QuantbenchError for programs that may not be run."""

    def __init__(self, parts: Sequence[TaskPart], tokenizer: Any, capacity: Capacity, *, run_code: bool) -> None:
        _refuse_code([part.name for part in parts], run_code)
        self._parts, self._tokenizer = parts, tokenizer
        for part in parts:
            _refuse(part)
        self._instances = [instance for part in parts for instance in part.task.instances]
        told = [instance.args[1] for instance in self._instances]
        longest = capacity.longest_input(CONTEXT_TOKENS)
        # an answer takes at most half of the model's positions: without its question it would be of nothing
        self._new_tokens = [min(int(each.get("max_gen_toks", NEW_TOKENS)), longest // 2) for each in told]
        self._stops = [_stops(each) for each in told]
        frame = frame_of(tokenizer)
        opened = [frame.opened(tokenizer, instance.args[0]) for instance in self._instances]
        whole = [tuple(ids or frame.start(tokenizer)) for ids in opened]
        refuse_unknown_tokens((token for ids in whole for token in ids), capacity.vocabulary)
        self.prompts = [ids[new - longest :] for ids, new in zip(whole, self._new_tokens, strict=True)]
        self.cut_contexts = sum(a != b for a, b in zip(whole, self.prompts, strict=True))

    @property
    def limits(self) -> list[tuple[tuple[str, ...], int]]:
        """Every answer's stop words and its most tokens."""
        return list(zip(self._stops, self._new_tokens, strict=True))

    def answer(
        self, engine: Engine, artifact: Artifact, *, rounding: bool = False, cache: KVQuantizer | None = None
    ) -> dict[str, TaskSamples]:
        """What a model writes and what is made of it, by task. `rounding`: with the other type of activations; `cache`:
        with keys and values held so.
        """
        need(engine, "resident")
        found = engine.load(artifact, "rounded answers" if rounding else "answers", cache).generate(
            self._tokenizer,
            self.prompts,
            stops=self._stops,
            new_tokens=self._new_tokens,
            what=f"T3 {artifact.recipe_id}",
            end_tokens=end_tokens(Path(self._tokenizer.name_or_path), self._tokenizer),
        )
        for instance, answer in zip(self._instances, found, strict=True):
            instance.resps, instance.filtered_resps = [answer.text], {}
        passed = self._passed()
        written = {id(instance): answer for instance, answer in zip(self._instances, found, strict=True)}

        def row(part: TaskPart, index: int, doc: Any, instances: Sequence[Any]) -> dict[str, Any]:
            return _row(part, index, doc, instances, passed) | {"engaged": [written[id(instances[0])]]}

        return by_task(self._parts, row)

    def _passed(self) -> Mapping[tuple[str, int], bool]:
        """By task and question: whether the program does what it should."""
        programs = {
            (part.name, index): program(part.name, doc, instances[0].resps[0])
            for part in self._parts
            if part.name in CODE
            for index, doc, instances in part.asked
        }
        results = run_all(list(programs.values()), seconds=PROGRAM_SECONDS, memory_bytes=PROGRAM_BYTES, what="programs")
        return {key: result.passed for key, result in zip(programs, results, strict=True)}


def _refuse(part: TaskPart) -> None:
    """Raise CorpusError for what cannot be judged, before anything is written."""
    told = part.task.config.generation_kwargs or {}
    if part.task.config.repeats > 1 or told.get("do_sample"):
        raise CorpusError(f"{part.label or part.name} draws answers at random; T3 writes the likeliest one only.")
    try:
        for _, doc, _ in part.asked:
            part.task.doc_to_target(doc)
            _ = program(part.name, doc, "") if part.name in CODE else ""
    except (KeyError, TypeError, ValueError, IndexError, TemplateError) as error:
        raise not_readable(part, error) from error


def _refuse_code(tasks: Sequence[str], run_code: bool) -> None:
    """Raise QuantbenchError for a task that runs what the model wrote, unless that is allowed."""
    code = [name for name in tasks if name in CODE]
    if code and not run_code:
        raise QuantbenchError(
            f"--task {code[0]} runs programs that the model wrote, in a subprocess with limits on time and memory but "
            f"with your rights to files and network. Say --run-code if that is acceptable here."
        )


def program(task: str, doc: Mapping[str, Any], text: str) -> str:
    """What is run: the model's text with the tests behind it."""
    if task == "humaneval":
        return f"{doc['prompt']}{text}\n{doc['test']}\ncheck({doc['entry_point']})\n"
    return "\n".join([text, doc.get("test_setup_code") or "", *doc["test_list"], ""])


def _stops(told: Mapping[str, Any]) -> tuple[str, ...]:
    until = told.get("until") or ()
    return (until,) if isinstance(until, str) else tuple(until)


def _row(
    part: TaskPart, index: int, doc: Any, instances: Sequence[Any], passed: Mapping[tuple[str, int], bool]
) -> dict[str, Any]:
    (instance,) = instances
    if part.name in CODE:
        strict = loose = passed[part.name, index]
    else:
        filtered = list(instance.filtered_resps.values())
        strict, loose = (_right(part, doc, answer) for answer in (filtered[0], filtered[-1]))
    return {"correct": strict, "correct_raw": loose, "loglikelihoods": (), "texts": str(instance.resps[0]), "gold": -1}


def _right(part: TaskPart, doc: Any, answer: Any) -> bool:
    """By the task's first metric."""
    return is_right(part, next(iter(part.task.process_results(doc, [answer]).values())))
