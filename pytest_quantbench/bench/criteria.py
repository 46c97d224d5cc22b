"""By which criteria a cell is judged: by a check on its first text or task, and on others that have a limit."""

import logging
from collections.abc import Collection, Sequence
from pathlib import Path

from pytest_quantbench.bench.inputs import Inputs
from pytest_quantbench.bench.target import Target
from pytest_quantbench.catalog.criteria import METRICS, PARTS, Overrides, limit_for, limited, metric_of
from pytest_quantbench.catalog.models import Model
from pytest_quantbench.catalog.settings import Settings
from pytest_quantbench.errors import UnknownNameError, unknown
from pytest_quantbench.judge.verdict import Verdict

OPTIONS = {"perplexity": "--corpus", "accuracy": "--task"}  # what adds a text or a task, by the check
log = logging.getLogger(__name__)


def measured(check: str, model: Model, settings: Settings) -> tuple[str, ...]:
    """The texts or tasks that a check of this model measures in a session, by name, the first of them first; of a check
    that has none: nothing. Raises CorpusError for a task's YAML file that names none.
    """
    if check == "perplexity":
        texts = (settings.corpus or model.corpus, *settings.other_corpora)
        return tuple(text.name if isinstance(text, Path) else text for text in texts)
    if check == "accuracy":
        from pytest_quantbench.measures.accuracy.lm_eval_tasks import task_name  # takes seconds

        return tuple(map(task_name, settings.tasks or model.tasks))
    return ()


def refuse_unmeasured(overrides: Overrides, models: Sequence[Model], settings: Settings) -> None:
    """Raise UnknownNameError for a limit of the whole session, on a text or a task that it measures of no model."""
    for key in overrides.session:
        metric, _, of = key.partition(".")
        check = METRICS[metric].check
        there = dict.fromkeys(name for model in models if of for name in measured(check, model, settings))
        if of and of not in there:
            kind = PARTS[check]
            raise UnknownNameError(
                f"A limit was given on the {METRICS[metric].label} of the {kind} {of}, which this session does not "
                f"measure; its {kind}s are {', '.join(there)}. Add it with {OPTIONS[check]}, or leave the limit out."
            )


class Criteria:
    """Those of one target under its session's settings."""

    def __init__(self, target: Target, inputs: Inputs) -> None:
        self._target, self._inputs = target, inputs

    def limit(self, metric: str, of: str | None = None) -> float | None:
        """The limit that a metric is judged by, on the first text or task or on another that is named; None: it is
        measured and shown.
        """
        overrides, first = self._inputs.settings.criteria, of is None
        if of is None and self._limited(metric):  # the first may have one of its own, too
            of = next(iter(self._measured(METRICS[metric].check)), None)
        return limit_for(metric, self._target.model.name, self._target.recipe, overrides, of or "", first=first)

    def part(self, check: str, of: str | None) -> str | None:
        """The text or task of this name; None where it is the first, which samples have without a name.

        Raises UnknownNameError for one that this session does not measure, and for a check that has none.
        """
        if of is None:
            return None
        there = self._measured(check)
        if not there:
            raise UnknownNameError(f"The check {check} is of no text and no task: leave {of!r} out.")
        if of not in there:
            raise unknown(f"{PARTS.get(check, 'part')} of the check {check}", of, there)
        return None if of == there[0] else of

    def others(self, check: str) -> list[str]:
        """The texts or tasks beside the first that have a limit of their own. Of what has one and is not measured, the
        log says so: it may be another session's.
        """
        metric = metric_of(check)
        named = self._limited(metric)
        if not named or self._target.is_reference:
            return []
        there = self._measured(check)
        for name in named:
            if name not in there and self.limit(metric, name) is not None:
                log.warning(
                    f"{self._target.model.name} is not judged by the limit on the {METRICS[metric].label} of {name}, "
                    f"which this session does not measure; it measures {', '.join(there)}. {OPTIONS[check]} adds it."
                )
        return [name for name in there[1:] if name in named and self.limit(metric, name) is not None]

    def warn_of_unjudged(self, verdicts: Collection[Verdict]) -> None:
        """Say in the log which texts and tasks have a limit of their own and no verdict, of checks that have others: a
        test that asks for the first alone must not hide them.
        """
        for check in PARTS:
            told = {verdict.of for verdict in verdicts if METRICS[verdict.metric].check == check}
            if left := [name for name in (self.others(check) if told else []) if name not in told]:
                label = METRICS[metric_of(check)].label
                log.warning(
                    f"{self._target.id} has limits on the {label} of {', '.join(left)}, which no test has judged: "
                    f"cell.judge_all({check!r}) judges by all criteria."
                )

    def is_judged(self, check: str) -> bool:
        """Whether there is any limit for a check."""
        return self.limit(metric_of(check)) is not None or bool(self.others(check))

    def _limited(self, metric: str) -> list[str]:
        return limited(metric, self._target.model.name, self._target.recipe, self._inputs.settings.criteria)

    def _measured(self, check: str) -> tuple[str, ...]:
        return measured(check, self._target.model, self._inputs.settings)
